"""The verbs of prepare through its real command line; the data that the demo writes are looked at in test_demo.py."""

import shutil
import sys

import pandas as pd
import pytest
from PIL import Image

from arniqa_pl import prepare
from tests.test_entries import run


@pytest.fixture
def folder(replicas, tmp_path):
    """A folder data/ with damaged replicas, an excerpt that the demo wrote, and a table of one's own."""
    for name in ("CSIQ", "SPAQ"):
        shutil.copytree(replicas / name, tmp_path / "data" / name)
    (tmp_path / "data/CSIQ/dst_imgs/awgn/1600.AWGN.1.png").unlink()
    (tmp_path / "data/SPAQ/TestImage/00007.jpg").write_bytes(b"\xff\xd8 no photograph")
    shutil.copytree(replicas / "KADID10K", tmp_path / "demo" / "KADID10K")
    (tmp_path / "demo" / "DEMO.txt").touch()
    for number in range(15):
        Image.new("L", (9, 9), number).save(tmp_path / f"{number}.png")
    table = {"image": [f"{number}.png" for number in range(15)], "score": range(15)}
    pd.DataFrame(table).to_csv(tmp_path / "scores.csv", index=False)
    return tmp_path


def test_check_tells_every_fault_of_every_database_and_fails(folder):
    before = sorted(folder.rglob("*"))
    output = run(
        folder,
        "prepare",
        "check",
        "database=[csiq,pipal,spaq,kadid10k,csv]",
        "databases.kadid10k.root=demo/KADID10K",
        "databases.csv.path=scores.csv",
        "decode=true",
        code=1,
    )
    csiq, pipal, spaq, kadid, own = (
        output.index(text)
        for text in ("csiq in data/CSIQ", "pipal: Wanted PIPAL", "spaq in data", "kadid10k in demo", "csv in .")
    )
    assert csiq < pipal < spaq < kadid < own
    assert "rows: wanted 866, found 31. Restore the score file from https://" in output[csiq:pipal]
    assert "2 published" in output[csiq:pipal]
    missing = "images: 1 of 31 are missing, the first is data/CSIQ/dst_imgs/awgn/1600.AWGN.1.png. Extract"
    assert missing in output[csiq:pipal]
    assert "unreadable images: 1. Restore them" in output[spaq:kadid]
    assert "data/SPAQ/TestImage/00007.jpg" in output[spaq:kadid]
    assert "written by the demo, an excerpt on purpose" in output[kadid:own]
    assert "rows: wanted 10,125, found 24.\n" in output[kadid:own]
    assert "Nothing is wrong." in output[own:]
    # csiq: rows, references, types, images, splits; pipal; spaq: rows, unreadable.
    assert "Wanted csiq, pipal, spaq, kadid10k, csv without a fault, found 8: see above." in output
    assert "image/s" in output  # progress has a rate
    assert "Traceback" not in output
    assert sorted(folder.rglob("*")) == before


def test_what_has_no_default_is_asked_for(tmp_path):
    output = run(tmp_path, "prepare", "check", "database=csv", code=1)
    assert "Wanted databases.csv.path=…, which has no default: add it to the command." in output
    assert "Traceback" not in output


def test_unknown_verbs_are_told_the_known_ones(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["prepare", "chek", "database=csiq"])
    with pytest.raises(SystemExit, match=r"Wanted python -m arniqa_pl\.prepare demo \| check.*, got 'chek'"):
        prepare.main()
