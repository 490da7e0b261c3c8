import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arniqa_pl.errors import InputError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """Row numbers of a database's table, disjoint and sorted."""

    train: Rows
    val: Rows
    test: Rows


def draw_splits(groups: Sequence[object], count: int = 10, seed: int = 27) -> list[Split]:
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
