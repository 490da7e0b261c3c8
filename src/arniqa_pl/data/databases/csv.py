import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from arniqa_pl.data.databases.database import Database, read_side, tabulate
from arniqa_pl.data.databases.files import read_table, refuse
from arniqa_pl.errors import InputError


def read(path: str, *, score_range: tuple[float, float] | None, higher_is_better: bool, name: str) -> Database:
    """Read a user's own table: columns image and score, and optionally reference, group, distortion, level, split.

    Args:
        path: a .csv or .xlsx file; paths in it are relative to its folder. `reference` is the pristine photograph
            an image was made from; `group` says what must stay on one side of a split, else the reference does;
            `split` is train, val or test, or empty.
        score_range: lowest and highest possible score; read off the scores when not given.
        higher_is_better: False when a high score means a bad image.
        name: what the scorer says it was fitted to.

    Raises:
        InputError: the table or a column is missing, or an image, score, level or split in it makes no sense, or
            the range does.

    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"Wanted your table of images and scores at {file}. Found no file {file.resolve()}.")
    table = read_table(file, ("image", "score"), optional=("reference", "group", "distortion", "level", "split"))
    rows = tabulate(
        file.parent,
        image=table["image"],
        score=table["score"],
        group=table["group"].str.lower() if "group" in table else "",
        reference=table.get("reference", ""),
        distortion=table.get("distortion", ""),
        level=_levels(table["level"], file) if "level" in table else 0,
        split=read_side(table, "split", file),
    )
    low, high = (rows["score"].min(), rows["score"].max()) if score_range is None else _range(score_range)
    return Database(name, file.parent, rows, (float(low), float(high)), higher_is_better)


def _levels(told: "pd.Series[str]", file: Path) -> "pd.Series[int]":
    levels = pd.to_numeric(told.replace("", "0"), errors="coerce")
    refuse(~(levels >= 0) | (levels % 1 != 0), told, "whole numbers from 1 (weakest) on, or nothing, in the rows", file)
    return levels.astype(int)


def _range(told: Sequence[float]) -> tuple[float, float]:
    try:
        low, high = map(float, told)
    except (TypeError, ValueError):
        low = high = 0.0
    if not -math.inf < low < high < math.inf:
        raise InputError(
            f"Wanted the lowest and the highest possible score as databases.csv.score_range, got {told}: give two "
            "numbers, such as [1,5]."
        )
    return low, high
