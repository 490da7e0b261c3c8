from dataclasses import replace
from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, read_side, tabulate
from arniqa_pl.data.databases.files import read_table, refuse
from arniqa_pl.errors import InputError

RELEASE = Release(
    title="KonIQ-10k",
    layout="the folder 1024x768/ or 512x384/ and the table koniq10k_scores_and_distributions.csv; for the official "
    "split also koniq10k_distributions_sets.csv",
    url="https://database.mmsp-kn.de/koniq-10k-database.html",
    citation="Hosu, Lin, Sziranyi, Saupe: KonIQ-10k: an ecologically valid database for deep learning of blind image "
    "quality assessment. IEEE Transactions on Image Processing 29, 2020",
    rows=10_073,
    split_sizes=(7051, 1007, 2015),
)
RANGES = {"MOS_zscore": (0.0, 100.0), "MOS": (1.0, 5.0)}
"""Nominal range of each of the two columns that hold a score."""
SEEN = {"MOS": (1.09, 4.31)}
"""Lowest and highest score, where we know them."""


def read(root: str, *, score: str, size: str) -> Database:
    """KonIQ-10k: 10,073 photographs as people took them.

    Args:
        root: folder with `koniq10k_scores_and_distributions.csv` (image_name, MOS, MOS_zscore, …). The official
            split comes from a column set, in this table or in `koniq10k_distributions_sets.csv` beside it.
        score: MOS_zscore (0 to 100, after each rater's scores were brought to one mean and spread) or MOS (1 to 5).
        size: folder of the images: 1024x768 or 512x384.

    Raises:
        InputError: the folder or its table is missing, or a score in it makes no sense.

    """
    if score not in RANGES:
        raise InputError(f"Wanted one of {', '.join(RANGES)} as databases.koniq10k.score, got {score!r}.")
    file = RELEASE.find(root, "koniq10k_scores_and_distributions.csv")
    table = read_table(file, ("image_name", score), optional=("set",))
    split = read_side(table, "set", file)
    sets = Path(root) / "koniq10k_distributions_sets.csv"
    if "set" not in table and sets.is_file():
        told = read_table(sets, ("image_name", "set"))
        split = table["image_name"].map(dict(zip(told["image_name"], read_side(told, "set", sets), strict=True)))
        refuse(split.isna(), table["image_name"], f"names that {sets.name} has, too, in the rows", file)
    rows = tabulate(
        Path(root),
        image=size + "/" + table["image_name"],
        score=table[score],
        split=split,
    )
    release = replace(RELEASE, seen=SEEN.get(score))
    return Database("koniq10k", Path(root), rows, RANGES[score], higher_is_better=True, release=release)
