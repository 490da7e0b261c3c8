from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
from hypothesis import assume, given
from hypothesis import strategies as st

from arniqa_pl.data.databases.files import parse_names, read_mat, read_table, respell
from arniqa_pl.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("Images/I01.BMP", "Images/i02.bmp", "Images/twin.bmp", "Images/TWIN.bmp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("wanted", "spelled"),
    [
        ("images/i01.bmp", "Images/I01.BMP"),
        ("Images/i02.bmp", "Images/i02.bmp"),
        ("IMAGES/Twin.bmp", "Images/Twin.bmp"),  # fits two files: left as it is, and so missing
        ("images/twin.bmp", "Images/twin.bmp"),  # one of the two as it is
        ("images/gone.bmp", "Images/gone.bmp"),
        ("gone/i01.bmp", "gone/i01.bmp"),
        ("Images/I01.BMP/x", "Images/I01.BMP/x"),
        ("/absolute/I01.bmp", "/absolute/I01.bmp"),
        ("", ""),
    ],
)
def test_only_the_letter_case_is_changed(folder, wanted, spelled):
    assert respell(folder, [wanted]) == [spelled]


def test_names_are_split_or_refused(tmp_path):
    names = pd.Series(["I01_1.bmp", "i25_5.BMP"])
    parts = parse_names(names, r"i(?P<reference>\d\d)_(?P<level>\d)\.bmp", "i01_1.bmp", tmp_path / "t.txt")
    assert parts.to_dict("list") == {"reference": ["01", "25"], "level": ["1", "5"]}
    with pytest.raises(InputError, match=r"Wanted names like i01_1\.bmp in .*t\.txt, found 'i1_1\.bmp'"):
        parse_names(pd.Series(["i01_1.bmp", "i1_1.bmp"]), r"i(?P<r>\d\d)_\d\.bmp", "i01_1.bmp", tmp_path / "t.txt")


def test_mat_files_give_numbers_and_names(tmp_path):
    cells = np.array([np.array(["a.bmp"]), np.array(["bb.JPG"])], dtype=object).reshape(-1, 1)
    scipy.io.savemat(tmp_path / "x.mat", {"names": cells, "scores": [[1.5, 2.5]]})
    (names,) = read_mat(tmp_path / "x.mat", ("names",), str)
    (scores,) = read_mat(tmp_path / "x.mat", ("scores",), float)
    assert names.tolist() == ["a.bmp", "bb.JPG"]
    assert scores.tolist() == [1.5, 2.5]
    with pytest.raises(InputError, match="found no dmos"):
        read_mat(tmp_path / "x.mat", ("dmos",), float)


@pytest.mark.parametrize(
    "content",
    [
        np.array([np.array([1.0, 2.0]), np.array([])], dtype=object),
        np.array([np.array(["a.bmp"])], dtype=object),
        {"field": 1.0},
        "a.bmp",
        scipy.sparse.eye_array(3, format="csc"),
    ],
)
def test_a_mat_file_of_another_kind_is_refused(tmp_path, content):
    scipy.io.savemat(tmp_path / "x.mat", {"dmos": content})
    with pytest.raises(InputError, match=r"Wanted a MATLAB file, could not read .*x\.mat"):
        read_mat(tmp_path / "x.mat", ("dmos",), float)


@pytest.mark.parametrize(("place", "damage"), [(144, b"\0"), (144, b"\x63"), (160, b"\xff\xff\xff\x7f\xff\xff\1\0")])
def test_a_mat_file_with_a_damaged_array_is_refused(tmp_path, place, damage):
    """Of a type that there is not, or too long for any memory: scipy has errors of its own."""
    cells = np.array([np.array(["a.bmp"]), np.array(["bb.JPG"])], dtype=object)
    scipy.io.savemat(tmp_path / "x.mat", {"names": cells})
    whole = bytearray((tmp_path / "x.mat").read_bytes())
    whole[place : place + len(damage)] = damage
    (tmp_path / "x.mat").write_bytes(whole)
    with pytest.raises(InputError, match=r"Wanted a MATLAB file, could not read .*x\.mat"):
        read_mat(tmp_path / "x.mat", ("names",), str)


def test_tables_are_read_as_text(tmp_path):
    (tmp_path / "t.csv").write_bytes("\ufeffname, score ,more\r\n 01 ,1e3,\r\nNA,2\r\n".encode())
    table = read_table(tmp_path / "t.csv", ("score", "name"), optional=("more", "none"))
    assert table.to_dict("list") == {"score": ["1e3", "2"], "name": ["01", "NA"], "more": ["", ""]}
    (tmp_path / "t.txt").write_text(" 1.5 01.bmp \n2 NA\n")
    table = read_table(tmp_path / "t.txt", ("score", "name"), separator=r"\s+", header=False)
    assert table.to_dict("list") == {"score": ["1.5", "2"], "name": ["01.bmp", "NA"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,score\na,1\n,2\n ,3\n", r"every row of the column name in .*t\.csv, found '' in row 2 \(2 in all\)"),
        ("name,score\na,1\nb\n", "every row of the column score in .*, found '' in row 2"),
        ("name,score\n,\n,\n", "every row of the column name in .*, found '' in row 1"),
        ("name,score\n", "a row per image in .*, found none"),
        ("", "could not read it"),
    ],
)
def test_a_table_with_gaps_is_refused(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "t.csv", ("name", "score"))


def test_what_excel_could_not_work_out_is_no_empty_cell(tmp_path):
    pd.DataFrame({"name": ["a", "b", "c"], "group": ["g", None, "#N/A"]}).to_excel(tmp_path / "t.xlsx", index=False)
    with pytest.raises(InputError, match=r"column group in .*t\.xlsx, found nan in row 3 \(1 in all\)"):
        read_table(tmp_path / "t.xlsx", ("name",), optional=("group",))


def test_a_file_cut_anywhere_is_refused_or_read(tmp_path):
    """Interrupted downloads: an InputError, never another exception."""
    cells = np.array([np.array([f"{number}.bmp"]) for number in range(9)], dtype=object)
    scipy.io.savemat(tmp_path / "x.mat", {"a": cells, "b": np.arange(9.0)})
    scipy.io.savemat(tmp_path / "z.mat", {"a": cells, "b": np.arange(9.0)}, do_compression=True)
    pd.DataFrame({"a": ["x"] * 9, "b": range(9)}).to_excel(tmp_path / "x.xlsx", index=False)
    refused = 0
    for name in ("x.mat", "z.mat", "x.xlsx"):
        whole = (tmp_path / name).read_bytes()
        for size in np.linspace(0, len(whole) - 1, 40, dtype=int):
            cut = tmp_path / f"cut{name}"
            cut.write_bytes(whole[:size])
            try:
                if name.endswith("xlsx"):
                    read_table(cut, ("a", "b"))
                else:
                    read_mat(cut, ("a",), str)
                    read_mat(cut, ("b",), float)
            except InputError:
                refused += 1
    assert refused > 110


# Spaces, line ends and letters whose other case is one letter again, in three alphabets.
names_like_them = st.text(st.sampled_from("abzABZéÉжЖ09 ._-\n'"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(names_like_them, min_size=1, max_size=4, unique_by=str.casefold), st.data())
def test_a_name_in_any_letter_case_finds_its_file_and_only_its_own(tmp_path_factory, names, data):
    root = tmp_path_factory.mktemp("names")
    folder, *files = names
    (root / folder).mkdir()
    for name in files:
        (root / folder / name).touch()
    paths = [f"{folder}/{name}" for name in files]
    flips = st.lists(st.booleans(), min_size=20, max_size=20)
    scrambled = [
        "".join(c.swapcase() if flip else c for c, flip in zip(path, data.draw(flips), strict=False)) for path in paths
    ]
    assert respell(root, scrambled) == paths
    assert respell(root, paths) == paths
    strange = data.draw(names_like_them)
    assume(strange.casefold() not in {name.casefold() for name in files})
    assert respell(root, [f"{folder}/{strange}"]) == [f"{folder}/{strange}"]


PATTERN = r"i(?P<reference>\d\d)_(?P<level>\d)\.bmp"


@given(st.integers(0, 99), st.integers(0, 9), st.booleans(), st.text(" \n0_.ä", min_size=1, max_size=3), st.booleans())
def test_a_name_gives_its_numbers_and_nothing_may_stand_around_it(reference, level, upper, more, before):
    name = f"i{reference:02d}_{level}.bmp"
    name = name.upper() if upper else name
    parts = parse_names(pd.Series([name]), PATTERN, "i01_1.bmp", Path("t.txt"))
    assert parts.astype(int).to_dict("records") == [{"reference": reference, "level": level}]
    with pytest.raises(InputError, match=r"Wanted names like i01_1\.bmp in t\.txt"):
        parse_names(pd.Series([more + name if before else name + more]), PATTERN, "i01_1.bmp", Path("t.txt"))
