from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import read_table

RELEASE = Release(
    title="AGIQA-3K",
    layout="the folder images/ and the table data.csv",
    url="https://github.com/lcysyzxdxc/AGIQA-3k-Database",
    citation="Li et al.: AGIQA-3K: an open database for AI-generated image quality assessment. "
    "IEEE Transactions on Circuits and Systems for Video Technology 34(8), 2024",
    rows=2982,
)


def read(root: str, *, images: str) -> Database:
    """AGIQA-3K: 2,982 images by six generators, quality MOS 0 to 5; images of one prompt are a group.

    Args:
        root: folder with `data.csv` (name, prompt, mos_quality, …).
        images: the folder in it that holds the images.

    Raises:
        InputError: the folder or its table is missing, or a score in it makes no sense.

    """
    table = read_table(RELEASE.find(root, "data.csv"), ("name", "prompt", "mos_quality"))
    rows = tabulate(
        Path(root),
        image=f"{images}/" + table["name"],
        score=table["mos_quality"],
        group=table["prompt"].str.lower(),
    )
    return Database("agiqa3k", Path(root), rows, (0.0, 5.0), higher_is_better=True, release=RELEASE)
