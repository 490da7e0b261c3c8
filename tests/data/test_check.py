import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.check import check_database, require_sound
from arniqa_pl.data.databases import csv, kadid10k, live, tid2013
from arniqa_pl.errors import InputError

read_csv = partial(csv.read, score_range=(0, 10), higher_is_better=True, name="csv")


def faults(database, *, decode=False, excerpt=False):
    """What is wrong and not excused, by name."""
    findings = check_database(database, decode=decode, excerpt=excerpt)
    return {finding.what: finding.fault for finding in findings if finding.fault and not finding.excused}


@pytest.fixture
def kadid(replicas, tmp_path):
    return shutil.copytree(replicas / "KADID10K", tmp_path / "KADID10K")


def test_a_part_of_a_release_is_told_from_the_whole(kadid, caplog):
    database = kadid10k.read(str(kadid))
    with caplog.at_level("INFO"):
        require_sound(database)
    assert "kadid10k is a part of its release" in caplog.text
    assert "24 of 10,125 rows, 4 of 81 references, 3 × 2 of 25 × 5 types × levels" in caplog.text
    told = faults(database, decode=True)
    assert set(told) == {"rows", "references", "types × levels"}
    assert told["rows"].startswith("rows: wanted 10,125, found 24. Restore the score file from https://")
    assert told["types × levels"].startswith("types × levels: wanted 25 × 5, found 3 × 2.")
    assert faults(database, excerpt=True) == {}
    excused = [each for each in check_database(database, decode=False, excerpt=True) if each.excused and each.fault]
    assert [each.found for each in excused] == ["24", "4", "3 × 2"]


def test_it_does_not_stop_at_the_first_fault(kadid):
    images = kadid / "images"
    (images / "I01_10_05.png").unlink()
    (images / "I04.png").unlink()
    (images / "I02_01_01.png").write_bytes((images / "I02_01_01.png").read_bytes()[:-300])
    shutil.copy(images / "I03_01_01.png", images / "I04_01_01.png")
    table = pd.read_csv(kadid / "dmos.csv")
    table.loc[7, "dmos"] = 55.0
    table.loc[9, "dist_img"] = table.loc[8, "dist_img"]
    table.to_csv(kadid / "dmos.csv", index=False)
    (kadid / "splits").mkdir()
    np.save(kadid / "splits" / "train.npy", np.arange(9))
    told = faults(kadid10k.read(str(kadid)), decode=True, excerpt=True)
    assert set(told) == {
        "scores (MOS, higher is better)",
        "images",
        "reference images",
        "rows of the same image",
        "splits",
        "unreadable images",
        "same file in two groups",
    }
    assert f"1 of 23 are missing, the first is {images / 'I01_10_05.png'}. Extract" in told["images"]
    assert f"1 of 4 are missing, the first is {images / 'I04.png'}" in told["reference images"]
    assert "wanted 1 to 5, found" in told["scores (MOS, higher is better)"]
    assert "val.npy" in told["splits"]
    assert told["unreadable images"].count("\n") == 1
    assert str(images / "I02_01_01.png") in told["unreadable images"]
    assert "images/I03_01_01.png, images/I04_01_01.png" in told["same file in two groups"]


def test_published_splits_have_the_size_that_was_published(kadid):
    (kadid / "splits").mkdir()
    for side, rows in {"train": range(12), "val": range(12, 18), "test": range(18, 24)}.items():
        np.save(kadid / "splits" / f"{side}.npy", [rows])
    database = kadid10k.read(str(kadid))
    told = faults(database)["splits"]
    assert told.startswith("splits: wanted sides as large as 7125/1000/2000 rows, found 12/6/6 rows. The tables in")
    assert faults(database, excerpt=True) == {}


def test_scores_of_a_whole_release_fill_its_scale(kadid):
    database = kadid10k.read(str(kadid))
    whole = replace(database, release=replace(database.release, rows=len(database.table)))
    assert "scores (MOS, higher is better)" not in faults(whole)
    squeezed = whole.table.assign(score=1 + whole.table["score"] / 9)
    told = faults(replace(whole, table=squeezed))["scores (MOS, higher is better)"]
    assert told.startswith("scores: wanted 1 to 5, found 1.")
    with pytest.raises(InputError, match="on another scale"):
        require_sound(replace(whole, table=squeezed))


def test_a_file_that_cannot_be_opened_is_one_fault_of_many(kadid):
    image = kadid / "images" / "I01_10_05.png"
    image.unlink()
    image.symlink_to("/proc/self/mem")  # a file that even root cannot read
    told = faults(kadid10k.read(str(kadid)), decode=True, excerpt=True)
    assert set(told) == {"unreadable images"}
    assert "Input/output error" in told["unreadable images"]


def test_two_files_that_differ_in_case_alone_are_not_guessed_between(replicas, tmp_path):
    folder = shutil.copytree(replicas / "TID2013", tmp_path / "TID2013")
    (folder / "distorted_images" / "i01_01_3.bmp").rename(folder / "distorted_images" / "i01_01_3.BMP")
    shutil.copy(folder / "distorted_images" / "i01_01_3.BMP", folder / "distorted_images" / "I01_01_3.BMP")
    told = faults(tid2013.read(str(folder)), excerpt=True)
    assert "(which of I01_01_3.BMP, i01_01_3.BMP is meant? Keep one)" in told["images"]


def test_scores_may_leave_the_nominal_range_as_the_release_does(replicas):
    database = live.read(str(replicas / "LIVE"))
    assert database.scores.min() < database.score_range[0]
    assert faults(database, excerpt=True) == {}


def test_a_table_of_ones_own_is_checked_without_expectations(tmp_path):
    for number in range(20):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    table = pd.DataFrame({"image": [f"{number}.png" for number in range(20)], "score": np.arange(20) / 2})
    table.to_csv(tmp_path / "scores.csv", index=False)
    findings = check_database(read_csv(str(tmp_path / "scores.csv")), decode=True, excerpt=False)
    assert not any(finding.fault for finding in findings)
    assert {finding.what: finding.wanted for finding in findings}["rows"] == ""
    table.assign(score=table["score"] * 10).to_csv(tmp_path / "scores.csv", index=False)
    (fault,) = faults(read_csv(str(tmp_path / "scores.csv"))).values()
    assert "wanted 0 to 10, found 0 to 95" in fault
    with pytest.raises(InputError, match=rf"Wanted csv in {tmp_path} without a fault, found 1. scores: wanted 0 to 10"):
        require_sound(read_csv(str(tmp_path / "scores.csv")))
    pd.concat([table, table.head(1)]).to_csv(tmp_path / "scores.csv", index=False)
    with pytest.raises(InputError, match=r"rows of the same image: 1, the first is 0\.png"):
        require_sound(read_csv(str(tmp_path / "scores.csv")))
    table.head(2).to_csv(tmp_path / "scores.csv", index=False)
    (fault,) = faults(read_csv(str(tmp_path / "scores.csv"))).values()
    assert "at least 3 groups" in fault
