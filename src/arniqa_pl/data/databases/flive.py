from pathlib import Path

import pandas as pd

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import read_table, refuse, respell

RELEASE = Release(
    title="FLIVE (PaQ-2-PiQ)",
    layout="the folder database/ with blur_dataset/, EE371R/ and voc_emotic_ava/, and the table labels_image.csv; "
    "for the official split also labels<=640_padded.csv and labels>640.csv",
    url="https://baidut.github.io/PaQ-2-PiQ/#download-zone",
    citation="Ying et al.: From patches to pictures (PaQ-2-PiQ): mapping the perceptual space of picture quality. "
    "CVPR 2020",
    rows=39_810,
    seen=(0.0, 94.34),
    split_sizes=(30253, 7727, 1827),
)


def read(root: str) -> Database:
    """FLIVE: 39,810 photographs as people took them, MOS 1 to 100.

    Args:
        root: folder with `labels_image.csv` (name, mos) and `database/<name>`. Its official split comes from two
            more tables of the authors where they are there: `labels>640.csv` names the test images (name_image),
            `labels<=640_padded.csv` the others (name_image, is_valid). Three images are in neither.

    Raises:
        InputError: the folder or a table is missing (also one of those two alone), or a score or mark in it makes
            no sense.

    """
    table = read_table(RELEASE.find(root, "labels_image.csv"), ("name", "mos"))
    rows = tabulate(
        Path(root),
        image="database/" + table["name"],
        score=table["mos"],
        split=_official_split(root, table["name"]),
    )
    return Database("flive", Path(root), rows, (1.0, 100.0), higher_is_better=True, release=RELEASE)


_MARKS = {"false": "train", "0": "train", "0.0": "train", "true": "val", "1": "val", "1.0": "val"}


def _official_split(root: str, names: "pd.Series[str]") -> "pd.Series[str] | str":
    tables = respell(Path(root), ("labels<=640_padded.csv", "labels>640.csv"))
    if not any((Path(root) / name).is_file() for name in tables):
        return ""
    small, large = (RELEASE.find(root, name) for name in tables)
    learned = read_table(small, ("name_image", "is_valid"))
    told = learned["is_valid"].str.lower().map(_MARKS)
    refuse(told.isna(), learned["is_valid"], "True or False in the rows", small)
    sides = dict(zip(learned["name_image"], told, strict=True))
    sides |= dict.fromkeys(read_table(large, ("name_image",))["name_image"], "test")
    return names.map(sides).fillna("")
