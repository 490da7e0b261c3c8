from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, read_side, tabulate
from arniqa_pl.data.databases.files import read_table

RELEASE = Release(
    title="UHD-IQA",
    layout="the folders training/, validation/ and test/ and the table uhd-iqa-metadata.csv",
    url="https://database.mmsp-kn.de/uhd-iqa-benchmark-database.html",
    citation="Hosu et al.: UHD-IQA benchmark database: pushing the boundaries of blind photo quality assessment. "
    "ECCV Workshops 2024",
    rows=6073,
    seen=(0.28, 0.89),
)


def read(root: str) -> Database:
    """UHD-IQA: 6,073 photographs 3840 pixels wide, MOS 0 to 1, with an official split.

    Args:
        root: folder with `uhd-iqa-metadata.csv` (image_name, quality_mos, set, …) and the images in a folder for
            each set: `training/`, `validation/`, `test/`.

    Raises:
        InputError: the folder or its table is missing, or a score or set in it makes no sense.

    """
    file = RELEASE.find(root, "uhd-iqa-metadata.csv")
    table = read_table(file, ("image_name", "quality_mos", "set"))
    rows = tabulate(
        Path(root),
        image=table["set"] + "/" + table["image_name"],
        score=table["quality_mos"],
        split=read_side(table, "set", file),
    )
    return Database("uhdiqa", Path(root), rows, (0.0, 1.0), higher_is_better=True, release=RELEASE)
