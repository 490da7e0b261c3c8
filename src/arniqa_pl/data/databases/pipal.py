import re
from pathlib import Path

import pandas as pd

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import parse_names, read_table, respell
from arniqa_pl.errors import InputError

RELEASE = Release(
    title="PIPAL (training release)",
    layout="the folders Train_Ref/, Distortion_1/ to Distortion_4/ and Train_Label/ with a .txt for each reference",
    url="https://github.com/HaomingCai/PIPAL-dataset",
    citation="Gu et al.: PIPAL: a large-scale image quality assessment dataset for perceptual image restoration. "
    "ECCV 2020",
    rows=23_200,
    seen=(916.71, 1835.99),
    references=200,
    types=7,
)
DISTORTIONS = (
    "traditional_distortion",
    "traditional_super_resolution",
    "psnr_oriented_super_resolution",
    "super_resolution_with_kernel_mismatch",
    "gan_based_super_resolution",
    "denoising",
    "super_resolution_and_denoising",
)
"""The classes 00 to 06 of the file names; their variants (12, 16, 10, 24, 13, 14, 27 of each) follow no order."""


def read(root: str) -> Database:
    """PIPAL, training release: 200 references × 116 restorations, Elo scores around 1450, higher is better.

    Args:
        root: folder with `Train_Label/<reference>.txt` (name and Elo score in each line, no header), the images
            `Axxxx_cc_vv.bmp` in `Distortion_1/` to `Distortion_4/`, and `Train_Ref/Axxxx.bmp`.

    Raises:
        InputError: the folder or its tables are missing, or a name or score in them makes no sense.

    """
    folder = Path(root)
    labels = folder / respell(folder, ["Train_Label"])[0]
    files = [file for file in sorted(labels.glob("*")) if re.fullmatch(r"(?i)A\d+\.txt", file.name)]
    if not files:
        RELEASE.find(root, "Train_Label/A0001.txt")  # says what is wanted
    table = pd.concat([read_table(file, ("name", "elo"), header=False) for file in files], ignore_index=True)
    names = parse_names(table["name"], r"(?P<reference>A\d+)_(?P<kind>0[0-6])_\d+\.bmp", "A0001_00_00.bmp", labels)
    distortion = names["kind"].astype(int).map(dict(enumerate(DISTORTIONS)))
    rows = tabulate(
        folder,
        image=_folder_of_each(folder, table["name"]) + "/" + table["name"],
        score=table["elo"],
        group=names["reference"].str.upper(),
        reference="Train_Ref/" + names["reference"] + ".bmp",
        distortion=distortion,
    )
    return Database("pipal", folder, rows, (916.7, 1836.0), higher_is_better=True, release=RELEASE)


def _folder_of_each(folder: Path, names: "pd.Series[str]") -> "pd.Series[str]":
    """Find which of the four folders holds each image: the labels do not say."""
    holds: dict[str, str] = {}
    for images in respell(folder, [f"Distortion_{number}" for number in range(1, 5)]):
        for path in (folder / images).glob("*"):  # none where it is no folder
            elsewhere = holds.setdefault(path.name.lower(), images)
            if elsewhere != images:
                raise InputError(
                    f"Wanted {path.name} in one folder of {folder}, found it in {elsewhere} and {images}: "
                    "remove the wrong one."
                )
    return names.map(lambda name: holds.get(name.lower(), "Distortion_1"))
