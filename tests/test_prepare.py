"""The verbs of prepare through its real command line; the data that the demo writes are looked at in test_demo.py."""

import shutil

import pandas as pd
from PIL import Image

from tests.test_entries import run


def test_check_tells_every_fault_of_every_database_and_fails(replicas, tmp_path):
    data = shutil.copytree(replicas, tmp_path / "data", ignore=shutil.ignore_patterns("KADID10K", "PIPAL", "UHDIQA"))
    (data / "CSIQ" / "dst_imgs" / "awgn" / "1600.AWGN.1.png").unlink()
    (data / "SPAQ" / "TestImage" / "00007.jpg").write_bytes(b"\xff\xd8 no photograph")
    databases = "database=[csiq,kadid10k,spaq]"
    output = run(tmp_path, "prepare", "check", databases, "paths.data_dir=data", "decode=true", code=1)
    for name, rows in (("csiq", 31), ("spaq", 16)):
        assert f"{name} in data/{name.upper()}" in output
        assert f"rows: wanted {866 if name == 'csiq' else '11,125'}, found {rows}." in output
    assert "images: 1 of 31 are missing, the first is data/CSIQ/dst_imgs/awgn/1600.AWGN.1.png." in output
    assert "data/SPAQ/TestImage/00007.jpg" in output
    assert "kadid10k: Wanted KADID-10k in data/KADID10K/" in output
    assert "2 published: up to 16 / 8 / 8 rows" in output
    assert "image/s" in output  # progress has a rate
    assert "Wanted csiq, kadid10k, spaq without a fault, found 7: see above." in output
    assert "Traceback" not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]  # it leaves nothing behind


def test_check_excuses_the_counts_of_the_demo(small_data, tmp_path):
    shutil.copytree(small_data / "KADID10K", tmp_path / "KADID10K")
    (tmp_path / "DEMO.txt").touch()
    output = run(tmp_path, "prepare", "check", "database=kadid10k", "paths.data_dir=.")
    assert "written by the demo, an excerpt on purpose" in output
    assert "rows: wanted 10,125, found 60.\n" in output


def test_check_of_ones_own_table_expects_nothing(tmp_path):
    for number in range(15):
        Image.new("L", (9, 9), number).save(tmp_path / f"{number}.png")
    table = {"image": [f"{number}.png" for number in range(15)], "score": range(15)}
    pd.DataFrame(table).to_csv(tmp_path / "scores.csv", index=False)
    output = run(tmp_path, "prepare", "check", "database=csv", "databases.csv.path=scores.csv", "decode=true")
    assert "Nothing is wrong." in output


def test_unknown_verbs_are_named(tmp_path):
    assert "Wanted python -m arniqa_pl.prepare demo | check" in run(tmp_path, "prepare", "chek", code=1)
    assert "You must specify 'database'" in run(tmp_path, "prepare", "check", code=1)
