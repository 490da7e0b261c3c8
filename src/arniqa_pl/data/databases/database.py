from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from arniqa_pl.data.databases.files import refuse, relate, respell
from arniqa_pl.errors import InputError


@dataclass(frozen=True)
class Release:
    """What the authors of a database say of what they released; nothing of it is needed to read the files.

    Attributes:
        title: as the authors spell it.
        layout: the files and folders below its root.
        url: where to get it.
        citation: who to thank.
        rows: images with a score.
        seen: lowest and highest score.
        references: pristine photographs, 0 if the images have none.
        types: distortion types, 0 if they have no names.
        levels: levels of each type, 0 if they are not told.
        split_sizes: (train, val, test) rows of the largest split in ARNIQA's tables; None: there are none.

    """

    title: str
    layout: str
    url: str
    citation: str
    rows: int
    seen: tuple[float, float] | None = None
    references: int = 0
    types: int = 0
    levels: int = 0
    split_sizes: tuple[int, int, int] | None = None

    def find(self, root: str, *names: str) -> Path:
        """Return the first of some score files that the database's folder holds.

        Raises:
            InputError: it holds none of them.

        """
        folder = Path(root)
        for name in respell(folder, names):
            if (folder / name).is_file():
                return folder / name
        raise InputError(
            f"Wanted {self.title} in {folder}/: {self.layout}. Get it from {self.url}. "
            f"Found no file {' or '.join(str((folder / name).resolve()) for name in names)}."
        )


@dataclass(frozen=True)
class Database:
    """A set of images with opinion scores.

    Attributes:
        name: as in `conf/database/<name>.yaml`.
        root: folder that the table's paths are relative to.
        table: a row per image, in the order of the score file, as `tabulate` makes it.
        score_range: nominal lowest and highest score.
        higher_is_better: True for opinion scores (MOS), False for differential ones (DMOS).
        release: what is to be expected of it; None for a user's own.
        short_side: what its images are resized to before they are cropped, in pixels (512 for SPAQ); None: as they are.

    """

    name: str
    root: Path
    table: pd.DataFrame
    score_range: tuple[float, float]
    higher_is_better: bool
    release: Release | None = None
    short_side: int | None = None

    @property
    def scores(self) -> NDArray[np.float64]:
        """(rows,) in the database's own scale."""
        return self.table["score"].to_numpy(np.float64)

    @property
    def paths(self) -> list[Path]:
        """(rows,) absolute or relative to the working directory, as root is."""
        return [self.root / image for image in self.table["image"]]

    @property
    def missing(self) -> list[Path]:
        """Those of the paths that no file is at."""
        return [path for path in self.paths if not path.is_file()]

    @property
    def remedy(self) -> str:
        """What to do about missing images."""
        return "Extract the archive again." if self.release else "Correct their paths, or remove their rows."

    def require_images(self) -> "Database":
        """Return the database itself if every image of its table is there.

        Raises:
            InputError: counts the missing ones and names the first.

        """
        missing = self.missing
        if missing:
            raise InputError(
                f"Wanted {len(self.table)} images of {self.name} in {self.root}, found all but {len(missing)}: "
                f"{missing[0]} is the first one missing. {self.remedy}"
            )
        return self


def tabulate(
    root: Path,
    *,
    image: "pd.Series[str]",
    score: "pd.Series[float]",
    group: "pd.Series[str] | str" = "",
    reference: "pd.Series[str] | str" = "",
    distortion: "pd.Series[str] | str" = "",
    distortion_group: "pd.Series[str] | str" = "",
    level: "pd.Series[int] | int" = 0,
    split: "pd.Series[str] | str" = "",
) -> pd.DataFrame:
    """Make the table of a database; paths are written in one way, in the letter case of the files.

    Args:
        root: folder that paths are relative to.
        image: path of each image.
        score: in the database's own scale.
        group: rows of one group never stand on two sides of a split; where "", all of one reference are a group, or of
            one image if there is no reference, in whatever letter case the table has it.
        reference: path of the pristine photograph it was made from, or "".
        distortion: name of its type, or "".
        distortion_group: one of the seven groups of `arniqa_pl.distortions` where the type belongs to one, or "".
        level: 1 (weakest) and up, or 0.
        split: "train", "val" or "test" where the database has a split of its own, "" for rows in none.

    Raises:
        InputError: a score is no finite number, or all are the same.

    """
    numbers = pd.to_numeric(score, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        raise InputError(
            f"Wanted a finite number as every score in {root}, found {str(score.iloc[wrong[0]])!r} in row "
            f"{wrong[0] + 1} ({len(wrong)} in all): correct the score file."
        )
    if numbers.min() == numbers.max():
        raise InputError(
            f"Wanted scores that differ in {root}, found {numbers[0]} in every row: correct the score file, there is "
            "nothing to learn from it."
        )
    table = pd.DataFrame(
        {
            "image": image,
            "score": numbers,
            "group": group,
            "reference": reference,
            "distortion": distortion,
            "distortion_group": distortion_group,
            "level": level,
            "split": split,
        }
    )
    for column in ("image", "reference"):
        table[column] = relate(root, table[column])
    # From the table's names alone, not from the files': so a seed draws the same splits on any machine.
    source = table["reference"].where(table["reference"] != "", table["image"]).str.lower()
    table["group"] = table["group"].where(table["group"] != "", source)
    for column in ("image", "reference"):
        table[column] = respell(root, table[column])
    return table


_SIDES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def read_side(table: pd.DataFrame, column: str, file: Path) -> "pd.Series[str] | str":
    """Return the column that says on which side of a split each row stands, as "train", "val", "test" or "".

    Raises:
        InputError: it says something else.

    """
    if column not in table:
        return ""
    told = table[column].str.lower()
    refuse(~told.isin([*_SIDES, ""]), table[column], "train, val, test or nothing in the rows", file)
    return told.map(_SIDES).fillna("")
