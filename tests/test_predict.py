"""Scores of many images through the real commands."""

import csv
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.sources import Entry, find_source
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.scoring import score_columns, score_entries
from arniqa_pl.quality.tally import Tally
from tests.conftest import PHOTOS
from tests.quality.test_scorer import make_scorer

SIZES = {"a": (120, 90), "b": (90, 120), "c": (64, 64), "d": (120, 90)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two scorers of one encoder, a.safetensors and b.safetensors, and four photographs and a broken one in images/."""
    root = tmp_path_factory.mktemp("predict")
    (root / "images").mkdir()
    with Image.open(PHOTOS / "owl.jpg") as photo:
        for number, (name, size) in enumerate(SIZES.items()):
            photo.rotate(20 * number).resize(size).save(root / "images" / f"{name}.png")
    (root / "images" / "bad.png").write_text("no image")
    for name, sign in (("a", 1.0), ("b", -1.0)):
        scorer = make_scorer(higher_is_better=sign > 0)
        scorer.ridge.weight.mul_(sign)
        scorer.save(root / f"{name}.safetensors")
    return root


def commands(folder: Path, *steps: Sequence[str]) -> list[str]:
    """Run commands of predict one after the other in one process, with Python between them; return what each printed.

    A step of one word is Python. Starting a process for each would take most of the test's time.
    """
    code = (
        "import json, sys; from arniqa_pl import predict\n"
        "for step in json.loads(sys.argv[1]):\n"
        "    if len(step) == 1: exec(step[0]); continue\n"
        "    sys.argv[1:] = step\n"
        "    try: predict.main()\n"
        "    except SystemExit: pass\n"
        "    print('=' * 20, flush=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(steps)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout.split("=" * 20)[:-1]


def test_a_row_for_each_image_without_waiting_for_what_scoring_does_not_need(folder):
    code = (
        "import sys; from arniqa_pl import predict\n"
        "try: predict.main()\n"
        "finally: print('imported:', *{'torch', 'lightning', 'pandas', 'mlflow', 'scipy', 'kornia'} & set(sys.modules))"
    )
    arguments = ["scorer=a.safetensors", "input=images", "output=out/scores.csv", "precision=float32"]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert "Wanted 5 images, could not read 1: see the column error in out/scores.csv." in done.stderr
    assert "4 images on the scale of csv: out/scores.csv" in done.stdout
    assert "imported: torch\n" in done.stdout
    assert "image/s" in done.stderr  # progress has a rate
    with (folder / "out" / "scores.csv").open() as stream:
        rows = {row["path"]: row for row in csv.DictReader(stream)}
    assert list(rows) == [f"images/{name}.png" for name in ("a", "b", "bad", "c", "d")]
    bad = rows.pop("images/bad.png")
    assert "could not decode images/bad.png" in bad["error"]
    assert set(bad.values()) == {"images/bad.png", bad["error"], ""}
    scorer = Scorer.load(folder / "a.safetensors")
    paths = [folder / path for path in rows]
    crops = scorer.score_crops(paths)
    for column, wanted in {
        "score": crops.mean(1),
        "quality": scorer.quality(paths),
        "spread": crops.std(1, correction=0),
    }.items():
        np.testing.assert_allclose([float(row[column]) for row in rows.values()], wanted, rtol=1e-4)
    assert [(int(row["width"]), int(row["height"])) for row in rows.values()] == list(SIZES.values())

    helped = subprocess.run([*command[:3], "--help"], cwd=folder, capture_output=True, text=True, timeout=60)
    assert helped.returncode == 0
    assert "scorer: ???" in helped.stdout
    assert helped.stdout.endswith("imported:\n")


def test_several_scorers_a_rerun_and_the_summary(folder):
    several = ("scorer=a.safetensors,b.safetensors", "input=images", "output=two.jsonl", "crops=whole", "batch_size=2")
    cut = "import pathlib; f = pathlib.Path('two.jsonl'); f.write_bytes(f.read_bytes()[:300])"
    first, again, refused, summary = commands(
        folder, several, [cut], several, [*several, "crops=5"], ("summary", "input=two.jsonl", "worst=3")
    )
    assert "SRCC of csv (a) and csv (b) over 4 images: 1.000" in first
    rows = [json.loads(line) for line in (folder / "two.jsonl").open()]
    assert list(rows[0]) == score_columns(["csv (a)", "csv (b)"])
    assert rows[0]["score_csv (a)"] - 50 == pytest.approx(50 - rows[0]["score_csv (b)"], abs=1e-2)
    assert rows[0]["spread_csv (a)"] is None  # of a whole image

    assert "Continuing two.jsonl after 1 images" in again
    assert "over 4 images" in again
    assert [row["path"] for row in rows] == [f"images/{name}.png" for name in ("a", "b", "bad", "c", "d")]
    assert "what is there was scored with other settings (scorers)" in refused

    assert "4 images, 1 unreadable" in summary
    assert "The 3 worst of 5 images: two.worst.jpg" in summary
    with Image.open(folder / "two.worst.jpg") as sheet:
        assert sheet.size == (720, 270)
        worst = pd.DataFrame(rows).set_index("path")["quality_csv (a)"].idxmin()
        with Image.open(folder / worst) as image:
            shown = np.asarray(sheet.crop((40, 40, 200, 200)), float).mean((0, 1))
            assert np.abs(shown - np.asarray(image, float).mean((0, 1))).max() < 40


def test_a_changed_list_is_noticed(folder, tmp_path):
    (tmp_path / "images").symlink_to(folder / "images")
    (tmp_path / "list.txt").write_text("images/a.png\nimages/c.png\n")
    settings = (f"scorer={folder}/a.safetensors", "output=scores.parquet", "input=list.txt")
    change = "import pathlib; pathlib.Path('list.txt').write_text('images/a.png\\nimages/b.png\\n')"
    unfinish = (
        "import pathlib; pathlib.Path('scores.parquet').unlink(); "
        "pathlib.Path('scores.parquet.jsonl').write_text("
        """'{"path": "images/a.png", "error": ""}\\n{"path": "images/c.png", "error": ""}\\n')"""
    )
    done, there, changed = commands(tmp_path, settings, settings, [change], [unfinish], settings)
    assert "2 images on the scale of csv: scores.parquet" in done
    assert "All scores are there already: scores.parquet" in there
    assert "its row 2 is images/c.png, but the input has images/b.png there" in changed


def test_endless_images_are_scored_in_flat_memory(folder):
    """The rows of an endless list come out while no more than a few images have been asked for."""
    scorer = Scorer.load(folder / "a.safetensors", precision="auto")
    asked = 0

    def endless():
        nonlocal asked
        while True:
            asked += 1
            yield Entry(str(asked), lambda: folder / "images" / "c.png")

    batches = score_entries({"a": scorer}, endless(), batch_size=3, num_threads=2)
    for number, rows in enumerate(islice(batches, 4), start=1):
        assert [row["path"] for row in rows] == [str(3 * number - 2), str(3 * number - 1), str(3 * number)]
        assert asked <= 3 * number + 2 * 3
    batches.close()


def test_listing_a_folder_remembers_no_more_than_one_of_its_folders(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02d}").mkdir()
        for name in range(100):
            (tmp_path / f"{number:02d}" / f"{name:03d}.jpg").touch()
    source = find_source(str(tmp_path), column="", every=1)
    assert source.count == 2000
    tracemalloc.start()
    assert sum(1 for _ in source.entries()) == 2000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000  # bytes: of the 100 names of one folder at a time


def test_agreement_has_the_direction_of_quality_and_needs_two_images():
    tally = Tally(["x", "y"])
    rows = [{"quality_x": x, "quality_y": y, "error": ""} for x, y in ((0.1, 0.5), (0.2, 0.4), (0.3, 0.6))]
    tally.add(rows[0])
    assert list(tally.agreement()) == []
    for row in [*rows[1:], {"error": "broken"}]:
        tally.add(row)
    assert list(tally.agreement()) == ["SRCC of x and y over 3 images: 0.500"]
    assert (tally.count, tally.errors) == (4, 1)
