"""Readers of image quality databases. Each returns one `Database`; images are matched to scores by file name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from arniqa_pl.errors import InputError


@dataclass(frozen=True)
class Database:
    """A set of images with opinion scores.

    Attributes:
        name: as in `conf/database/<name>.yaml`.
        root: folder that the table's paths are relative to.
        table: a row per image with the columns
            image (path relative to root), score (float), group (reference photograph, or the image itself:
            rows of one group never stand on two sides of a split), distortion (name or ""), level (1.. or 0).
        score_range: nominal lowest and highest score.
        higher_is_better: True for opinion scores (MOS), False for differential ones (DMOS).
        short_side: what its images are resized to before they are cropped, in pixels (512 for SPAQ); None: as they are.

    """

    name: str
    root: Path
    table: pd.DataFrame
    score_range: tuple[float, float]
    higher_is_better: bool
    short_side: int | None = None

    @property
    def scores(self) -> NDArray[np.float64]:
        """(rows,) in the database's own scale."""
        return self.table["score"].to_numpy(np.float64)

    @property
    def paths(self) -> list[Path]:
        """(rows,) absolute or relative to the working directory, as root is."""
        return [self.root / image for image in self.table["image"]]


KADID10K_DISTORTIONS = (
    "gaussian_blur", "lens_blur", "motion_blur", "color_diffusion", "color_shift",
    "color_quantization", "color_saturation_1", "color_saturation_2", "jpeg2000", "jpeg",
    "white_noise", "white_noise_color_component", "impulse_noise", "multiplicative_noise", "denoise",
    "brighten", "darken", "mean_shift", "jitter", "non_eccentricity_patch",
    "pixelate", "quantization", "color_block", "high_sharpen", "contrast_change",
)  # fmt: skip
"""The 25 distortion types in the order of the numbers in KADID-10k's file names."""

_GROUPS = (
    ("blur", 3), ("color_distortion", 5), ("jpeg", 2), ("noise", 5),
    ("brightness_change", 3), ("spatial_distortion", 5), ("sharpness_contrast", 2),
)  # fmt: skip
KADID10K_GROUPS = tuple(group for group, count in _GROUPS for _ in range(count))


def kadid10k(root: str) -> Database:
    """KADID-10k (Lin et al., QoMEX 2019): 81 references × 25 distortions × 5 levels, scores 1 to 5.

    Args:
        root: folder with `images/IRR_TT_LL.png` and `dmos.csv` (dist_img, ref_img, dmos, var). The column
            named dmos holds mean opinion scores: higher is better.

    Raises:
        InputError: the folder, the table or any of its images is missing.

    """
    folder = Path(root)
    table = _read_table(
        folder / "dmos.csv",
        ("dist_img", "ref_img", "dmos"),
        f"KADID-10k in {folder}/: the folder images/ and the table dmos.csv. Get it from "
        "https://database.mmsp-kn.de/kadid-10k-database.html, or write small demo data in its layout: "
        "python -m arniqa_pl.prepare",
    )
    code = table["dist_img"].str.extract(r"^I\d+_(\d+)_(\d+)\.png$").astype(float)
    wrong = code.isna().any(axis=1) | ~code[0].between(1, len(KADID10K_DISTORTIONS))
    if wrong.any():
        raise InputError(
            f"Wanted names like I01_25_05.png in {folder / 'dmos.csv'}, found {table['dist_img'][wrong].iloc[0]!r}: "
            "restore the file from the release."
        )
    rows = pd.DataFrame(
        {
            "image": "images/" + table["dist_img"],
            "score": table["dmos"],
            "group": table["ref_img"],
            "distortion": [KADID10K_DISTORTIONS[int(number) - 1] for number in code[0]],
            "level": code[1].astype(int),
            "reference": "images/" + table["ref_img"],
            "distortion_group": [KADID10K_GROUPS[int(number) - 1] for number in code[0]],
        }
    )
    _check_scores(rows["score"], folder / "dmos.csv")
    return _with_images(Database("kadid10k", folder, rows, score_range=(1.0, 5.0), higher_is_better=True))


def csv(
    path: str,
    score_range: tuple[float, float] | None = None,
    higher_is_better: bool = True,
    name: str = "csv",
) -> Database:
    """Read a user's own table with the columns image and score, and optionally group, distortion, level.

    Args:
        path: the table; image paths in it are relative to its folder.
        score_range: lowest and highest possible score; read off the scores when not given.
        higher_is_better: False when a high score means a bad image.
        name: what the scorer says it was fitted to.

    Raises:
        InputError: the table, a column or an image is missing, or a score is no finite number.

    """
    file = Path(path)
    table = _read_table(file, ("image", "score"), f"your table of images and scores at {file}")
    rows = pd.DataFrame(
        {
            "image": table["image"],
            "score": table["score"],
            "group": table["group"] if "group" in table else table["image"],
            "distortion": table["distortion"].fillna("").astype(str) if "distortion" in table else "",
            "level": table["level"].fillna(0).astype(int) if "level" in table else 0,
            "reference": table["reference"].fillna("").astype(str) if "reference" in table else "",
            "distortion_group": "",
        }
    )
    _check_scores(rows["score"], file)
    low, high = score_range or (rows["score"].min(), rows["score"].max())
    return _with_images(Database(name, file.parent, rows, (float(low), float(high)), higher_is_better))


def _read_table(file: Path, columns: tuple[str, ...], wanted: str) -> pd.DataFrame:
    if not file.is_file():
        raise InputError(f"Wanted {wanted}. Found no file {file.resolve()}.")
    try:
        table = pd.read_csv(file)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"Wanted {wanted}. Found {file}, which is no table: {error}") from error
    missing = [column for column in columns if column not in table]
    if missing:
        raise InputError(
            f"Wanted the columns {', '.join(columns)} in {file}; found {', '.join(map(str, table.columns))}, "
            f"so {', '.join(missing)} is missing."
        )
    if table.empty:
        raise InputError(f"Wanted a row per image in {file}, found none.")
    return table


def _check_scores(scores: "pd.Series[float]", file: Path) -> None:
    numbers = pd.to_numeric(scores, errors="coerce").to_numpy(np.float64)
    wrong = np.flatnonzero(~np.isfinite(numbers))
    if len(wrong):
        found = scores.iloc[wrong[0]]
        raise InputError(f"Wanted a finite number as every score in {file}, found {found!r} in row {wrong[0] + 1}.")
    if numbers.min() == numbers.max():
        raise InputError(f"Wanted scores that differ in {file}, found {numbers[0]} in every row.")


def _with_images(database: Database) -> Database:
    """Return the database if every image of its table is there."""
    missing = [path for path in database.paths if not path.is_file()]
    if missing:
        raise InputError(
            f"Wanted {len(database.table)} images of {database.name} in {database.root}, found all but "
            f"{len(missing)}: {missing[0]} is the first one missing. Extract the archive again, or remove "
            "their rows from the table."
        )
    return database
