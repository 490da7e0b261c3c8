from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import parse_names, read_table

RELEASE = Release(
    title="CSIQ",
    layout="the folders dst_imgs/<type>/ and src_imgs/ and the table CSIQ.txt or csiq_label.txt",
    url="https://s2.smu.edu/~eclarson/csiq.html, and CSIQ.txt from https://github.com/icbcbicc/IQA-Dataset",
    citation="Larson, Chandler: Most apparent distortion: full-reference image quality assessment and the role of "
    "strategy. Journal of Electronic Imaging 19(1), 2010",
    rows=866,
    seen=(0.0, 1.0),
    references=30,
    types=6,
    levels=5,
    split_sizes=(608, 87, 174),
)
DISTORTIONS = {
    "awgn": ("white_noise", "noise"),
    "jpeg": ("jpeg", "jpeg"),
    "jpeg2000": ("jpeg2000", "jpeg"),
    "fnoise": ("pink_noise", "noise"),
    "blur": ("gaussian_blur", "blur"),
    "contrast": ("contrast_change", "sharpness_contrast"),
}
"""What file names call a type, to its name and group."""


def read(root: str) -> Database:
    """CSIQ: 30 references × 6 distortions × 5 levels (contrast 4), DMOS 0 to 1, lower is better.

    Args:
        root: folder with `dst_imgs/<type>/<reference>.<type>.<level>.png`, `src_imgs/<reference>.png`, and
            `CSIQ.txt` (dis_img_path, dis_type, ref_img_path, score) or `csiq_label.txt` (name and DMOS in each
            line, no header, the name with or without .png).

    Raises:
        InputError: the folder or its table is missing, or a name or score in it makes no sense.

    """
    file = RELEASE.find(root, "CSIQ.txt", "csiq_label.txt")
    if file.name.lower() == "csiq.txt":
        table = read_table(file, ("dis_img_path", "score"))
        name, score = table["dis_img_path"].str.rpartition("/")[2], table["score"]
    else:
        table = read_table(file, ("name", "score"), separator=r"\s+", header=False)
        name, score = table["name"], table["score"]
    pattern = rf"(?P<reference>.+)\.(?P<type>{'|'.join(DISTORTIONS)})\.(?P<level>\d)(?:\.png)?"
    names = parse_names(name, pattern, "1600.AWGN.1.png", file)
    kind = names["type"].str.lower()
    file_name = names["reference"] + "." + names["type"] + "." + names["level"] + ".png"
    rows = tabulate(
        Path(root),
        image="dst_imgs/" + names["type"] + "/" + file_name,
        score=score,
        group=names["reference"].str.lower(),
        reference="src_imgs/" + names["reference"] + ".png",
        distortion=kind.map(lambda each: DISTORTIONS[each][0]),
        distortion_group=kind.map(lambda each: DISTORTIONS[each][1]),
        level=names["level"].astype(int),
    )
    return Database("csiq", Path(root), rows, (0.0, 1.0), higher_is_better=False, release=RELEASE)
