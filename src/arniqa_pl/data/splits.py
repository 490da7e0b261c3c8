import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from arniqa_pl.data.databases import Database
from arniqa_pl.errors import InputError

Rows = NDArray[np.int64]
SIDES = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Row numbers of a database's table, disjoint and sorted."""

    train: Rows
    val: Rows
    test: Rows


class Splits(list[Split]):
    """The splits of a database.

    Attributes:
        origin: "published" (tables in its folder `splits/`), "official" (its own column or files) or "drawn".

    """

    def __init__(self, splits: Iterable[Split], origin: Literal["published", "official", "drawn"]) -> None:
        super().__init__(splits)
        self.origin = origin

    @property
    def digest(self) -> str:
        """A hash that changes whenever any row of any split changes place."""
        return digest(self)


def find_splits(database: Database, *, count: int, seed: int, always_draw: bool) -> Splits:
    """Return the published splits of a database if its folder holds them, else its official one, else drawn ones.

    Args:
        database: whose rows are split.
        count: number of splits, where they are drawn.
        seed: of the drawing.
        always_draw: draw them whatever the database brings.

    Raises:
        InputError: what the database brings is damaged, or puts a row or group on two sides; or there are too few
            groups to draw from.

    """
    groups = database.table["group"].to_numpy(str)
    folder = database.root / "splits"
    if not always_draw and any((folder / f"{side}.npy").exists() for side in SIDES):
        return Splits(read_splits(folder, groups), "published")
    told = database.table["split"].to_numpy(str)
    if not always_draw and np.any(told != ""):
        split = Split(*(np.flatnonzero(told == side) for side in SIDES))
        _prove(split, groups, f"the split of {database.name}'s own in {database.root}")
        return Splits([split], "official")
    return Splits(draw_splits(groups, count, seed), "drawn")


def read_splits(folder: Path, groups: Sequence[object] | NDArray[np.str_]) -> list[Split]:
    """Read published split tables, and prove that they fit.

    Args:
        folder: with `train.npy`, `val.npy` and `test.npy`: integers (splits, rows) or (rows,), row numbers of the
            score file from 0; -1 pads.
        groups: (rows,) the group of each row.

    Raises:
        InputError: a table is missing, damaged or of another shape, a row number is beyond the table or comes
            twice, or a group stands on two sides of a split.

    """
    names = np.asarray(groups, dtype=str)
    tables = [_read_rows(folder / f"{side}.npy") for side in SIDES]
    counts = [len(table) for table in tables]
    if len(set(counts)) > 1:
        raise InputError(
            f"Wanted as many splits in each of train.npy, val.npy and test.npy in {folder}, found "
            f"{', '.join(map(str, counts))}: restore them."
        )
    splits = []
    for number, padded in enumerate(zip(*tables, strict=True), start=1):
        split = Split(*(np.sort(rows[rows != -1]).astype(np.int64) for rows in padded))
        _prove(split, names, f"split {number} of {folder}")
        splits.append(split)
    return splits


def _read_rows(file: Path) -> NDArray[np.integer]:
    """Read one side of all splits as (splits, rows)."""
    try:
        table = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:  # the last: a damaged header may ask for any size
        raise InputError(
            f"Wanted a split table in {file}, could not read it: {error}. Restore it, or remove the folder "
            f"{file.parent} to have splits drawn."
        ) from error
    integers = isinstance(table, np.ndarray) and table.dtype.kind in "iu" and np.can_cast(table.dtype, np.int64)
    if not integers or table.ndim not in (1, 2) or len(table) == 0:
        found = f"{table.dtype} {table.shape}" if isinstance(table, np.ndarray) else type(table).__name__
        raise InputError(f"Wanted integers (splits, rows) or (rows,) in {file}, found {found}: restore it.")
    return np.atleast_2d(table)


def _prove(split: Split, groups: NDArray[np.str_], where: str) -> None:
    """Raise an InputError unless rows are there, come once, and share no group with another side."""
    sides = dict(zip(SIDES, (split.train, split.val, split.test), strict=True))
    for side, rows in sides.items():
        if len(rows) < 2:
            raise InputError(f"Wanted at least 2 rows on the {side} side of {where}, found {len(rows)}.")
        if rows[0] < 0 or rows[-1] >= len(groups):
            raise InputError(
                f"Wanted row numbers from 0 to {len(groups) - 1} on the {side} side of {where}, found "
                f"{rows[0] if rows[0] < 0 else rows[-1]}: it belongs to another table."
            )
        if np.any(rows[1:] == rows[:-1]):
            raise InputError(f"Wanted each row once on the {side} side of {where}, found row {_repeated(rows)} twice.")
    for one, other in combinations(sides, 2):
        rows = np.intersect1d(sides[one], sides[other])
        if len(rows):
            raise InputError(f"Wanted no row on two sides of {where}, found row {rows[0]} in {one} and {other}.")
        shared = np.intersect1d(groups[sides[one]], groups[sides[other]])
        if len(shared):
            raise InputError(
                f"Wanted no group (reference photograph) on two sides of {where}, found {shared[0]} in {one} and "
                f"{other} ({len(shared)} in all): its figures would be too good. Restore it, or have "
                "splits drawn: ridge.always_draw=true."
            )


def _repeated(rows: Rows) -> int:
    return int(rows[1:][rows[1:] == rows[:-1]][0])


def draw_splits(groups: Sequence[object] | NDArray[np.str_], count: int = 10, seed: int = 27) -> list[Split]:
    """Draw 70/10/20 % splits in which no group is on two sides (ARNIQA, section 4.2).

    Args:
        groups: (rows,) the group of each row: its reference photograph, or its own number where there is none.
        count: number of splits.
        seed: split k depends on (seed, k) alone.

    Raises:
        InputError: fewer than three groups, or a side with a single row.

    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 3:
        raise InputError(
            f"Wanted at least 3 groups (reference photographs) to split, found {len(names)}: add images or "
            "give a split of your own."
        )
    num_val, num_test = max(round(0.1 * len(names)), 1), max(round(0.2 * len(names)), 1)

    def draw(index: int) -> Split:
        order = np.random.default_rng((seed, index)).permutation(len(names))
        sides = np.split(order, [num_val, num_val + num_test])
        val, test, train = (np.flatnonzero(np.isin(member, side)) for side in sides)
        if min(len(val), len(test)) < 2:
            raise InputError(
                f"Wanted at least 2 images on the validation and the test side, found {len(member)} images in "
                f"{len(names)} groups: too few to measure a correlation on. Add images."
            )
        return Split(train=train, val=val, test=test)

    return [draw(index) for index in range(count)]


def digest(splits: Sequence[Split]) -> str:
    """Return a hash that changes whenever any row of any split changes place."""
    state = hashlib.sha256()
    for split in splits:
        for rows in (split.train, split.val, split.test):
            state.update(np.int64(len(rows)).tobytes() + rows.astype(np.int64).tobytes())
    return state.hexdigest()[:16]
