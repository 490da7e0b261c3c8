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


def relate(root: Path, paths: Iterable[str]) -> list[str]:
    """Write each path in one way: without `./` and `//`, and relative to a folder if it is below it.

    From the paths alone. `..` stays: after a symbolic link it does not lead back.
    """
    folders = (root.absolute(), root.resolve())

    @cache
    def related(path: str) -> str:
        pure = PurePosixPath(path)
        for folder in folders if pure.is_absolute() else ():
            if pure.is_relative_to(folder):
                pure = pure.relative_to(folder)
        return str(pure)

    return [path and related(path) for path in paths]


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


def read_table(
    file: Path,
    columns: Sequence[str],
    *,
    optional: Sequence[str] = (),
    separator: str = ",",
    header: bool = True,
) -> pd.DataFrame:
    """Read columns of a text table, or of the first sheet of an Excel file, as text without spaces around it.

    Nothing is guessed: a photograph may be called `007`, a group `NA`. A cell is "" only if it is empty.

    Args:
        file: .csv, .txt or .xlsx.
        columns: the ones it must have, with no empty cell; without a header, the first ones.
        optional: what else is read where it is there.
        separator: regular expression of what stands between the columns of a text table.
        header: the first line names the columns.

    Raises:
        InputError: it is no such table, a column is missing or there twice, a cell is empty, or it has no rows.

    """
    excel = file.suffix.lower() == ".xlsx"
    # The header is read as a row: as a header, pandas would rename the second of two columns of one name.
    options: dict[str, Any] = {"header": None, "dtype": str, "keep_default_na": False}
    form = "" if excel else f" with {'commas' if separator == ',' else 'spaces'} between the columns"
    try:
        table = (
            pd.read_excel(file, engine="openpyxl", **options) if excel else pd.read_csv(file, sep=separator, **options)
        )
    except (*_DAMAGED, zipfile.BadZipFile, KeyError, ParseError) as error:
        told = str(error).strip()  # some of pandas' end with a line end
        raise InputError(f"Wanted a table{form} in {file}, could not read it: {told}. Restore the file.") from error
    if len(table) <= header:
        raise InputError(f"Wanted a row per image in {file}, found none.")
    names = table.iloc[0].str.strip().fillna("").tolist() if header else [*columns][: table.shape[1]]
    places = _places(names, columns, optional, f"{form} in {file}")
    table = table.iloc[int(header) :, list(places.values())].set_axis(list(places), axis=1)
    table = table.apply(lambda cells: cells.str.strip())
    for column in table:
        damaged = table[column].isna()  # what Excel shows as #N/A or #VALUE!
        refuse(damaged | (table[column] == "") & (column in columns), table[column], "a value in every row", file)
    return table.reset_index(drop=True)


def _places(names: list[str], columns: Sequence[str], optional: Sequence[str], where: str) -> dict[str, int]:
    """Find at which place of a header each column is; an optional one in another letter case is not overlooked."""
    wanted = [*columns, *(column for column in optional if column in map(str.lower, names))]
    missing = [column for column in wanted if column not in names]
    if missing:
        raise InputError(
            f"Wanted the columns {', '.join(wanted)}{where}, in this letter case; found {', '.join(names)}, so "
            f"{', '.join(missing)} is missing."
        )
    for column in wanted:
        if names.count(column) > 1:
            raise InputError(
                f"Wanted one column {column}{where}, found {names.count(column)}: remove all but the right one."
            )
    return {column: names.index(column) for column in wanted}


def refuse(wrong: "pd.Series[bool]", column: "pd.Series[str]", wanted: str, file: Path) -> None:
    """Refuse a column of a table if any of its cells is wrong.

    Raises:
        InputError: names the first wrong cell, and its row from 1.

    """
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise InputError(
            f"Wanted {wanted} of the column {column.name} in {file}, found {column.iloc[rows[0]]!r} in row "
            f"{rows[0] + 1} ({len(rows)} in all): correct it."
        )


def read_mat(file: Path, keys: Sequence[str], kind: type[str] | type[float]) -> list[NDArray[Any]]:
    """Read arrays of a MATLAB file (nothing in one is ever executed), flattened.

    Args:
        file: .mat, up to version 7.
        keys: names of the arrays.
        kind: what each of their elements or cells becomes.

    Raises:
        InputError: it is no such file, or an array is missing or cannot become that.

    """
    try:
        content = scipy.io.loadmat(file, variable_names=list(keys))
        missing = [key for key in keys if key not in content]
        if not missing:
            return [np.array([kind(cell.item()) for cell in content[key].ravel()]) for key in keys]
    # The last four: a damaged type of an array, or its length; and an array that is sparse.
    except (
        *_DAMAGED,
        MatReadError,
        IndexError,
        TypeError,
        UnboundLocalError,
        MemoryError,
        AttributeError,
        ZeroDivisionError,
    ) as error:
        raise InputError(f"Wanted a MATLAB file, could not read {file}: {error}. Restore the file.") from error
    raise InputError(f"Wanted {', '.join(keys)} in {file}, found no {', '.join(missing)}: restore the file.")


def parse_names(names: "pd.Series[str]", pattern: str, example: str, file: Path) -> pd.DataFrame:
    """Split file names into the named groups of a pattern, in any letter case.

    Raises:
        InputError: names the first file that does not fit.

    """
    parts = names.str.extract(rf"(?i)^{pattern}\Z")  # $ would let a line end follow
    wrong = parts.isna().any(axis=1)
    if wrong.any():
        raise InputError(
            f"Wanted names like {example} in {file}, found {names[wrong].iloc[0]!r}: restore the file from the release."
        )
    return parts
