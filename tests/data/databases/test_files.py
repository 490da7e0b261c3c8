import numpy as np
import pandas as pd
import pytest
import scipy.io

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
    names, scores = read_mat(tmp_path / "x.mat", ("names", "scores"))
    assert names.tolist() == ["a.bmp", "bb.JPG"]
    assert scores.tolist() == [1.5, 2.5]
    with pytest.raises(InputError, match="found no dmos"):
        read_mat(tmp_path / "x.mat", ("dmos",))


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
                (read_table if name.endswith("xlsx") else read_mat)(cut, ("a", "b"))
            except InputError:
                refused += 1
    assert refused > 110
