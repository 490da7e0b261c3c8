"""How score files are read, and how names in them find their files."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import ParseError

import numpy as np
import pandas as pd
import scipy.io
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError

from arniqa_pl.errors import InputError

# What pandas (its own errors are ValueErrors), openpyxl and scipy raise at a damaged file.
_DAMAGED = (OSError, ValueError, NotImplementedError, zlib.error)


def respell(root: Path, paths: Iterable[str]) -> list[str]:
    """Write paths below a folder in the letter case of its files, where only the letter case differs.

    Score files and file systems disagree in it (TID2013: `I01.BMP`, `i25.bmp`). A path that is there as it is, or
    that fits none, or that fits several in different case, stays as it is: in the last two cases it is missing.
    """

    @cache
    def listing(folder: str) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        try:
            for name in sorted(os.listdir(root / folder)):  # noqa: PTH208  names alone, of folders with 10,000 files
                names.setdefault(name.casefold(), []).append(name)
        except (FileNotFoundError, NotADirectoryError):
            pass
        return names

    @cache
    def spelled(path: str) -> str:
        parent, _, name = path.rpartition("/")
        folder = spelled(parent) + "/" if parent else ""
        found = listing(folder).get(name.casefold(), [])
        return folder + (found[0] if len(found) == 1 else name)

    return [path if PurePosixPath(path).is_absolute() else spelled(path) for path in paths]


def read_table(file: Path, columns: Sequence[str], *, separator: str = ",", header: bool = True) -> pd.DataFrame:
    """Read a text table or the first sheet of an Excel file.

    Args:
        file: .csv, .txt or .xlsx.
        columns: the ones it must have, or, without a header, has.
        separator: regular expression of what stands between the columns of a text table.
        header: the first line names the columns.

    Raises:
        InputError: it is no such table, a column is missing, or it has no rows.

    """
    try:
        if file.suffix.lower() == ".xlsx":
            table = pd.read_excel(file, engine="openpyxl")
        else:
            table = pd.read_csv(
                file, sep=separator, header=0 if header else None, names=None if header else list(columns)
            )
    except (*_DAMAGED, zipfile.BadZipFile, KeyError, ParseError) as error:
        raise InputError(f"Wanted a table in {file}, could not read it: {error}. Restore the file.") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"Wanted the columns {', '.join(columns)} in {file}; found {', '.join(map(str, table.columns))}, "
            f"so {', '.join(missing)} is missing."
        )
    if table.empty:
        raise InputError(f"Wanted a row per image in {file}, found none.")
    return table


def read_mat(file: Path, keys: Sequence[str]) -> list[NDArray[Any]]:
    """Read arrays of a MATLAB file (nothing in one is ever executed), flattened; cells of text become strings.

    Raises:
        InputError: it is no such file, or an array is missing.

    """
    try:
        content = scipy.io.loadmat(file, variable_names=list(keys))
    except (*_DAMAGED, MatReadError, IndexError, TypeError) as error:
        raise InputError(f"Wanted a MATLAB file, could not read {file}: {error}. Restore the file.") from error
    missing = [key for key in keys if key not in content]
    if missing:
        raise InputError(f"Wanted {', '.join(keys)} in {file}, found no {', '.join(missing)}: restore the file.")
    arrays = [content[key].ravel() for key in keys]
    return [np.array([str(cell.item()) for cell in each]) if each.dtype == object else each for each in arrays]


def parse_names(names: "pd.Series[str]", pattern: str, example: str, file: Path) -> pd.DataFrame:
    """Split file names into the named groups of a pattern, in any letter case.

    Raises:
        InputError: names the first file that does not fit.

    """
    parts = names.astype(str).str.extract(rf"(?i)^{pattern}\Z")  # $ would let a line end follow
    wrong = parts.isna().any(axis=1)
    if wrong.any():
        raise InputError(
            f"Wanted names like {example} in {file}, found {names[wrong].iloc[0]!r}: restore the file from the release."
        )
    return parts
