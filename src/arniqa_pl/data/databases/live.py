from pathlib import Path

import pandas as pd

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import parse_names, read_mat, read_table
from arniqa_pl.errors import InputError

RELEASE = Release(
    title="LIVE (release 2)",
    layout="the folders jp2k/, jpeg/, wn/, gblur/, fastfading/ and refimgs/, and the table LIVE.txt, or "
    "refnames_all.mat with dmos_realigned.mat or dmos.mat",
    url="https://live.ece.utexas.edu/research/Quality/subjective.htm, and LIVE.txt from "
    "https://github.com/icbcbicc/IQA-Dataset",
    citation="Sheikh, Sabir, Bovik: A statistical evaluation of recent full reference image quality assessment "
    "algorithms. IEEE Transactions on Image Processing 15(11), 2006",
    rows=779,
    seen=(-2.65, 111.78),
    references=29,
    types=5,
    split_sizes=(540, 83, 163),
)
DISTORTIONS = {
    "jp2k": ("jpeg2000", "jpeg"),
    "jpeg": ("jpeg", "jpeg"),
    "wn": ("white_noise", "noise"),
    "gblur": ("gaussian_blur", "blur"),
    "fastfading": ("fast_fading", "jpeg"),
}
"""Folder of a type, to its name and group; fast fading are transmission errors in a JPEG 2000 stream."""
MAT_ROWS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
"""How many entries of the .mat files belong to each folder, in their order; undistorted images among them."""


def read(root: str) -> Database:
    """LIVE, release 2: 29 references, 5 distortions, DMOS nominally 1 to 100 (realigned: -2.6 to 111.8).

    Args:
        root: folder with `<type>/img<n>.bmp`, `refimgs/`, and as scores the first of: `LIVE.txt` (dis_img_path,
            dis_type, ref_img_path, score: the realigned ones), or of the release `refnames_all.mat` with
            `dmos_realigned.mat` or, older, `dmos.mat`. All list the images in the same order.

    Raises:
        InputError: the folder or its table is missing, or a name or score in it makes no sense.

    """
    file = RELEASE.find(root, "LIVE.txt", "dmos_realigned.mat", "dmos.mat")
    if file.suffix.lower() == ".txt":
        table = read_table(file, ("dis_img_path", "ref_img_path", "score"))
    else:
        table = _read_release(file, RELEASE.find(root, "refnames_all.mat"))
    pattern = rf"(?:.*/)?(?P<folder>{'|'.join(DISTORTIONS)})/(?P<name>img\d+\.bmp)"
    names = parse_names(table["dis_img_path"], pattern, "jp2k/img2.bmp", file)
    reference = table["ref_img_path"].str.rpartition("/")[2]
    kind = names["folder"].str.lower()
    rows = tabulate(
        Path(root),
        image=names["folder"] + "/" + names["name"],
        score=table["score"],
        group=reference.str.lower(),
        reference="refimgs/" + reference,
        distortion=kind.map(lambda each: DISTORTIONS[each][0]),
        distortion_group=kind.map(lambda each: DISTORTIONS[each][1]),
    )
    return Database("live", Path(root), rows, (1.0, 100.0), higher_is_better=False, release=RELEASE)


def _read_release(file: Path, names_file: Path) -> pd.DataFrame:
    """Read the distorted images' rows of the .mat files, in the columns of LIVE.txt."""
    score, undistorted = read_mat(file, ("dmos_new" if "realigned" in file.name.lower() else "dmos", "orgs"), float)
    (reference,) = read_mat(names_file, ("refnames_all",), str)
    total = sum(MAT_ROWS.values())
    if not len(score) == len(undistorted) == len(reference) == total:
        raise InputError(
            f"Wanted {total} entries in {file} and {names_file}, found {len(score)} scores, {len(undistorted)} marks "
            f"and {len(reference)} names: restore them from the release."
        )
    paths = [f"{folder}/img{number}.bmp" for folder, count in MAT_ROWS.items() for number in range(1, count + 1)]
    table = pd.DataFrame({"dis_img_path": paths, "ref_img_path": reference, "score": score})
    return table[undistorted == 0].reset_index(drop=True)
