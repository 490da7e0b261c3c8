from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import parse_names, read_table

RELEASE = Release(
    title="KADID-10k",
    layout="the folder images/ and the table dmos.csv (small demo data in this layout: python -m arniqa_pl.prepare)",
    url="https://database.mmsp-kn.de/kadid-10k-database.html",
    citation="Lin, Hosu, Saupe: KADID-10k: a large-scale artificially distorted IQA database. QoMEX 2019",
    rows=10_125,
    seen=(1.0, 4.93),
    references=81,
    types=25,
    levels=5,
    split_sizes=(7125, 1000, 2000),
)
DISTORTIONS = {
    "gaussian_blur": "blur",
    "lens_blur": "blur",
    "motion_blur": "blur",
    "color_diffusion": "color_distortion",
    "color_shift": "color_distortion",
    "color_quantization": "color_distortion",
    "color_saturation_1": "color_distortion",
    "color_saturation_2": "color_distortion",
    "jpeg2000": "jpeg",
    "jpeg": "jpeg",
    "white_noise": "noise",
    "white_noise_color_component": "noise",
    "impulse_noise": "noise",
    "multiplicative_noise": "noise",
    "denoise": "noise",
    "brighten": "brightness_change",
    "darken": "brightness_change",
    "mean_shift": "brightness_change",
    "jitter": "spatial_distortion",
    "non_eccentricity_patch": "spatial_distortion",
    "pixelate": "spatial_distortion",
    "quantization": "spatial_distortion",
    "color_block": "spatial_distortion",
    "high_sharpen": "sharpness_contrast",
    "contrast_change": "sharpness_contrast",
}
"""Type to group, in the order of the types' numbers in the file names."""


def read(root: str) -> Database:
    """KADID-10k: 81 references × 25 distortions × 5 levels, scores 1 to 5.

    Args:
        root: folder with `images/IRR_TT_LL.png` and `dmos.csv` (dist_img, ref_img, dmos, var). The column
            named dmos holds mean opinion scores: higher is better.

    Raises:
        InputError: the folder or its table is missing, or a name or score in it makes no sense.

    """
    file = RELEASE.find(root, "dmos.csv")
    table = read_table(file, ("dist_img", "ref_img", "dmos"))
    types = "|".join(f"{number:02d}" for number in range(1, len(DISTORTIONS) + 1))
    names = parse_names(table["dist_img"], rf"I\d+_(?P<type>{types})_(?P<level>\d+)\.png", "I01_25_05.png", file)
    distortion = names["type"].astype(int).map(dict(enumerate(DISTORTIONS, start=1)))
    rows = tabulate(
        Path(root),
        image="images/" + table["dist_img"],
        score=table["dmos"],
        group=table["ref_img"],
        reference="images/" + table["ref_img"],
        distortion=distortion,
        distortion_group=distortion.map(DISTORTIONS),
        level=names["level"].astype(int),
    )
    return Database("kadid10k", Path(root), rows, (1.0, 5.0), higher_is_better=True, release=RELEASE)
