"""Ten thousand files with every name that Linux allows."""

import csv
import json
import os
import random
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.pristine import find_photos
from tests.faults.commands import kill_when, lines, run, start

pytestmark = pytest.mark.faults
COUNT = 10_000
PARTS = [
    *(b" ", b"\n", b"\r", b"\t", b"'", b'"', b",", b";", b"-", b"--", b"=", b"\\", b"$", b"*", b"?", b"[", b"]", b"%"),
    *(b"\xff", b"\xc3", b"\xe4\xf6", b"\x80\x81", "é".encode(), "\u2028".encode(), "\x85".encode(), "写真".encode()),
    *(b"a", b"B", b"0", b"\x01", b"\x7f", b"{}", b"${x}", b"#", b"&", b"|", b"<", b".", b":"),
]


def odd_names(count: int, seed: int) -> list[bytes]:
    """Names of images, the first ones of one odd part alone, some as long as a name can be, some with a dash first."""
    draw = random.Random(seed)
    names = {part + b".png" for part in PARTS} | {b"-" + part + b".png" for part in PARTS}
    names |= {b"%d" % number + 246 * b"x" + b".png" for number in range(9)}
    while len(names) < count:
        names.add(b"".join(draw.choices(PARTS, k=draw.randint(1, 12))) + b"%d.png" % len(names))
    return sorted(names)


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """A folder of images/ in which one small picture has all the names, in folders with odd names of their own."""
    work = tmp_path_factory.mktemp("odd") / "work"
    (work / "images").mkdir(parents=True)
    picture = work / "picture.png"
    Image.linear_gradient("L").resize((8, 8)).convert("RGB").save(picture)
    folders = [b"images/", b"images/ \n/", b"images/-rf \xff/"]
    for number, name in enumerate(odd_names(COUNT, 1)):
        folder = os.fsencode(work) + b"/" + folders[number % 3]
        Path(os.fsdecode(folder)).mkdir(exist_ok=True)
        os.link(picture, folder + name)
    return work


def all_paths(work: Path) -> set[bytes]:
    return {
        os.path.relpath(os.fsencode(root) + b"/" + name, os.fsencode(work))
        for root, _, names in os.walk(work / "images")
        for name in map(os.fsencode, names)
    }


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_every_image_has_one_row_that_is_read_again_also_after_a_kill(work, scorer_file, suffix):
    words = ("predict", f"scorer={scorer_file}", "input=images", f"output=scores.{suffix}", "crops=whole")
    words += ("batch_size=250", "precision=float32")
    output = work / f"scores.{suffix}"
    assert kill_when(start(work, *words), lambda: lines(output) > 3000, 0.01)
    assert f"Continuing scores.{suffix} after" in run(work, *words)
    with output.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        rows = list(csv.DictReader(stream)) if suffix == "csv" else [json.loads(line) for line in stream]
    paths = [os.fsencode(row["path"]) for row in rows]
    assert len(paths) == COUNT
    assert set(paths) == all_paths(work)
    assert {row["error"] for row in rows} == {""}
    assert len({float(row["score"]) for row in rows}) == 1
    summary = run(work, "predict", "summary", f"input=scores.{suffix}", "worst=3")
    assert "10,000" in summary or "10000" in summary


def test_photographs_of_any_name_are_found_and_those_of_one_line_are_listed(work):
    photos = find_photos(str(work / "images"))
    found = {os.path.relpath(os.fsencode(photos.path(index)), os.fsencode(work)) for index in range(len(photos))}
    assert found == all_paths(work)
    assert photos[0].size == (8, 8)
    words = ("prepare", "photos", "input=images", "output=photos.txt", "screening.num_workers=2")
    printed = run(work, *words)
    listed = [name for name in all_paths(work) if not {b"\n", b"\r"} & {name[at : at + 1] for at in range(len(name))}]
    assert f"a list of lines cannot hold a line break: {COUNT - len(listed)} photographs" in printed
    again = find_photos(str(work / "photos.txt"))
    assert {os.path.relpath(os.fsencode(again.path(index)), os.fsencode(work)) for index in range(len(again))} == set(
        listed
    )
    assert len(pd.read_csv(work / "photos.csv")) == COUNT
