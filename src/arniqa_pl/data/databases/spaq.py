from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import read_table

RELEASE = Release(
    title="SPAQ",
    layout="the folders TestImage/ and Annotations/ with the table MOS and Image attribute scores.xlsx",
    url="https://github.com/h4nwei/SPAQ",
    citation="Fang et al.: Perceptual quality assessment of smartphone photography. CVPR 2020",
    rows=11_125,
    seen=(2.0, 96.0),
    split_sizes=(7787, 1113, 2225),
)


def read(root: str) -> Database:
    """SPAQ: 11,125 photographs taken with smartphones, MOS 1 to 100.

    Args:
        root: folder with `TestImage/` and `Annotations/MOS and Image attribute scores.xlsx` (Image name, MOS).

    Raises:
        InputError: the folder or its table is missing, or a score in it makes no sense.

    """
    table = read_table(RELEASE.find(root, "Annotations/MOS and Image attribute scores.xlsx"), ("Image name", "MOS"))
    rows = tabulate(Path(root), image="TestImage/" + table["Image name"], score=table["MOS"])
    return Database("spaq", Path(root), rows, (1.0, 100.0), higher_is_better=True, release=RELEASE, short_side=512)
