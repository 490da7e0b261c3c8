from pathlib import Path

import numpy as np
import pandas as pd

from arniqa_pl.data.databases.database import Database, read_side, tabulate
from arniqa_pl.data.databases.files import read_table
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
        InputError: the table or a column is missing, or an image, score, level or split in it makes no sense.

    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"Wanted your table of images and scores at {file}. Found no file {file.resolve()}.")
    table = read_table(file, ("image", "score"))
    text = {
        column: table[column].fillna("").astype(str)
        for column in ("image", "reference", "group", "distortion")
        if column in table
    }
    rows = tabulate(
        file.parent,
        image=text["image"],
        score=table["score"],
        group=text.get("group", ""),
        reference=text.get("reference", ""),
        distortion=text.get("distortion", ""),
        level=_levels(table["level"], file) if "level" in table else 0,
        split=read_side(table, "split"),
    )
    low, high = score_range or (rows["score"].min(), rows["score"].max())
    return Database(name, file.parent, rows, (float(low), float(high)), higher_is_better)


def _levels(told: "pd.Series[float]", file: Path) -> "pd.Series[int]":
    levels = pd.to_numeric(told.fillna(0), errors="coerce")
    wrong = np.flatnonzero(~(levels >= 0) | (levels % 1 != 0))
    if len(wrong):
        raise InputError(
            f"Wanted whole numbers from 1 (weakest) on, or nothing, in the column level of {file}, found "
            f"{told.iloc[wrong[0]]} in row {wrong[0] + 1}: correct it."
        )
    return levels.astype(int)
