import json

import pandas as pd
import pytest

from arniqa_pl.errors import InputError
from arniqa_pl.quality.score_table import ScoreTable

COLUMNS = ["path", "score", "error"]
ROWS = [
    {"path": "a.png", "score": 1.25, "error": ""},
    {"path": 'b "x",\nc.png', "score": None, "error": "Wanted an image"},
    {"path": "caf\udce9.png", "score": 3.0, "error": ""},  # a name that is no UTF-8
]


def table(file, facts=None, **settings) -> ScoreTable:
    return ScoreTable(file, COLUMNS, facts or {"scorer": "a"}, **({"overwrite": False} | settings))


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_table_goes_on_behind_its_last_whole_row_wherever_it_was_cut(tmp_path, suffix):
    file = tmp_path / f"scores.{suffix}"
    table(file).append(ROWS)
    whole = file.read_bytes()
    for length in range(len(whole) + 1):
        file.write_bytes(whole[:length])
        again = table(file)
        kept = list(again.rows())
        assert kept == ROWS[: len(kept)]
        assert len(kept) >= whole[:length].count(b"png") - 2
        again.append(ROWS[len(kept) :])
        assert file.read_bytes() == whole, length


def test_a_parquet_file_appears_when_all_rows_are_there(tmp_path):
    file = tmp_path / "deep" / "scores.parquet"
    first = table(file)
    first.append(ROWS[:1])
    assert not file.exists()
    assert not first.finished
    second = table(file)
    assert list(second.rows()) == ROWS[:1]
    second.append(ROWS[1:])
    second.finish()
    frame = pd.read_parquet(file)
    assert frame["path"].tolist() == ["a.png", 'b "x",\nc.png', "caf�.png"]
    assert frame["score"].fillna(-1).tolist() == [1.25, -1, 3]
    assert sorted(path.name for path in file.parent.iterdir()) == ["scores.parquet", "scores.parquet.json"]
    assert table(file).finished


def test_rows_of_other_settings_or_of_nobody_knows_what_are_not_continued(tmp_path):
    file = tmp_path / "scores.csv"
    table(file).append(ROWS)
    assert json.loads((tmp_path / "scores.csv.json").read_text()) == {"scorer": "a"}
    with pytest.raises(InputError, match=r"was scored with other settings \(scorer\): name another output, or"):
        table(file, {"scorer": "b"})
    assert list(table(file).rows()) == ROWS
    assert list(table(file, {"scorer": "b"}, overwrite=True).rows()) == []
    (tmp_path / "mine.csv").write_text("path,score\nx,1\n")
    with pytest.raises(InputError, match="Wanted to continue"):
        table(tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_text() == "path,score\nx,1\n"
    with pytest.raises(InputError, match=r"ends in \.csv, \.jsonl, \.parquet, got .*scores\.txt"):
        table(tmp_path / "scores.txt")
