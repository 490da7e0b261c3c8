"""What a table of scores says at a glance."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.table import Table

from arniqa_pl.data.sources import reopen
from arniqa_pl.errors import InputError
from arniqa_pl.quality.score_table import SUFFIXES, TEXT_COLUMNS


def _read_lines(file: Path) -> pd.DataFrame:
    """Read JSON lines, in which a path may hold what is no text: pandas' own reader stops there."""
    with file.open(encoding="utf-8") as stream:
        frame = pd.DataFrame([json.loads(line) for line in stream], dtype=object)
    return frame.astype({name: float for name in frame if name not in TEXT_COLUMNS})


_READERS: dict[str, Callable[..., Any]] = {
    ".csv": partial(pd.read_csv, dtype={"path": object, "error": str}, encoding_errors="surrogateescape"),
    ".jsonl": _read_lines,
    ".parquet": pd.read_parquet,
}
_BINS, _BAR = 10, 40
_CELL, _CAPTION, _COLUMNS = 240, 30, 6  # px, px, images in a row


def read_scores(file: Path) -> pd.DataFrame:
    """Read what `ScoreTable` wrote.

    Raises:
        InputError: there is no such file, or no score in it.

    """
    if file.suffix not in SUFFIXES or not file.is_file():
        raise InputError(f"Wanted a table that arniqa_pl.predict wrote ({', '.join(SUFFIXES)}), found no {file}.")
    frame: pd.DataFrame = _READERS[file.suffix](file)
    if "path" not in frame or not qualities(frame) or frame[qualities(frame)].isna().all(axis=None):
        raise InputError(f"Wanted scores of images in {file}, found none.")
    return frame


def qualities(frame: pd.DataFrame) -> list[str]:
    """Return the columns of quality, one for each scorer."""
    return [name for name in map(str, frame) if name == "quality" or name.startswith("quality_")]


def distribution_tables(frame: pd.DataFrame) -> Iterator[Table]:
    """Yield for each scorer a table of its quality in ten steps, with the scores at its quantiles as the title."""
    for column in qualities(frame):
        scores = frame[column.replace("quality", "score", 1)].dropna()
        quantiles = ", ".join(f"{scores.quantile(q):.4g}" for q in (0, 0.05, 0.5, 0.95, 1))
        table = Table(
            "quality",
            "images",
            "",
            title=f"{column}: {len(scores)} images, {len(frame) - len(scores)} unreadable\n"
            f"scores: lowest, 5 %, median, 95 %, highest: {quantiles}",
        )
        counts, edges = np.histogram(frame[column].dropna(), bins=_BINS, range=(0, 1))
        for count, low, high in zip(counts, edges[:-1], edges[1:], strict=True):
            table.add_row(f"{low:.1f}–{high:.1f}", str(count), "█" * round(_BAR * count / max(counts)))
        yield table


def write_sheet(frame: pd.DataFrame, file: Path, *, worst: int, column: str | None) -> int:
    """Draw the images of the lowest quality as one picture, the worst first; return how many could be read again.

    Args:
        frame: from `read_scores`.
        file: the picture.
        worst: at most so many.
        column: the quality to go by; None: the mean of all.

    Raises:
        InputError: there is no such column, or not one of the images is where it was.

    """
    if column is not None and column not in qualities(frame):
        raise InputError(f"Wanted by= one of {', '.join(qualities(frame))}, got {column!r}.")
    quality = frame[qualities(frame)].mean(axis=1) if column is None else frame[column]
    lowest = quality.nsmallest(worst)
    names = frame.loc[lowest.index, "path"]
    qualities_of = dict(zip(names, lowest, strict=True))
    cells = {name: _cell(image, f"{qualities_of[name]:.3f}  {Path(name).name}") for name, image in reopen(set(names))}
    if not cells:
        raise InputError(
            f"Wanted the images of the table, found no {names.iloc[0]}: run this where arniqa_pl.predict ran."
        )
    rows = -(-len(cells) // _COLUMNS)
    sheet = Image.new("RGB", (_CELL * min(len(cells), _COLUMNS), (_CELL + _CAPTION) * rows), "white")
    for number, name in enumerate(name for name in names if name in cells):
        sheet.paste(cells[name], (number % _COLUMNS * _CELL, number // _COLUMNS * (_CELL + _CAPTION)))
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file)
    return len(cells)


def _cell(image: Image.Image, caption: str) -> Image.Image:
    """Return an image of one size, with a caption below; of a name that is no text, what can be printed."""
    caption = "".join(each if each.isprintable() else "�" for each in caption)
    cell = Image.new("RGB", (_CELL, _CELL + _CAPTION), "white")
    small = ImageOps.contain(image, (_CELL - 8, _CELL - 8))
    cell.paste(small, ((_CELL - small.width) // 2, (_CELL - small.height) // 2))
    font = ImageFont.load_default(14)
    while font.getlength(caption) > _CELL - 8:
        caption = caption.removesuffix("…")[:-1] + "…"
    ImageDraw.Draw(cell).text((4, _CELL + 4), caption, fill="black", font=font)
    return cell
