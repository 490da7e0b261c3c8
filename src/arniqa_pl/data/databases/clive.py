from pathlib import Path

import pandas as pd

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import read_mat
from arniqa_pl.errors import InputError

RELEASE = Release(
    title="LIVE in the Wild (CLIVE)",
    layout="the folders Images/ and Data/ with AllImages_release.mat and AllMOS_release.mat",
    url="https://live.ece.utexas.edu/research/ChallengeDB/index.html",
    citation="Ghadiyaram, Bovik: Massive online crowdsourced study of subjective and objective picture quality. "
    "IEEE Transactions on Image Processing 25(1), 2016",
    rows=1162,
    seen=(3.42, 92.44),
    split_sizes=(813, 117, 232),
)
TRAINING_ROWS = 7
"""The first entries showed the raters what to do; they are no part of the database."""


def read(root: str) -> Database:
    """LIVE in the Wild Image Quality Challenge: 1,162 photographs as people took them, MOS 1 to 100.

    Args:
        root: folder with `Images/`, `Data/AllImages_release.mat` and `Data/AllMOS_release.mat`.

    Raises:
        InputError: the folder or its tables are missing, or a score in them makes no sense.

    """
    file = RELEASE.find(root, "Data/AllMOS_release.mat")
    (score,) = read_mat(file, ("AllMOS_release",), float)
    (name,) = read_mat(RELEASE.find(root, "Data/AllImages_release.mat"), ("AllImages_release",), str)
    if len(score) != len(name) or len(score) <= TRAINING_ROWS:
        raise InputError(
            f"Wanted a score for each of more than {TRAINING_ROWS} images in {file.parent}, found {len(score)} scores "
            f"and {len(name)} names: restore both files from the release."
        )
    rows = tabulate(
        Path(root),
        image="Images/" + pd.Series(name[TRAINING_ROWS:]),
        score=pd.Series(score[TRAINING_ROWS:]),
    )
    return Database("clive", Path(root), rows, (1.0, 100.0), higher_is_better=True, release=RELEASE)
