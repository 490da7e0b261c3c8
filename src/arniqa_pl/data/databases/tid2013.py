from pathlib import Path

from arniqa_pl.data.databases.database import Database, Release, tabulate
from arniqa_pl.data.databases.files import parse_names, read_table

RELEASE = Release(
    title="TID2013",
    layout="the folders distorted_images/ and reference_images/ and the table mos_with_names.txt",
    url="https://www.ponomarenko.info/tid2013.htm",
    citation="Ponomarenko et al.: Image database TID2013: peculiarities, results and perspectives. "
    "Signal Processing: Image Communication 30, 2015",
    rows=3000,
    seen=(0.24, 7.22),
    references=25,
    types=24,
    levels=5,
    split_sizes=(2160, 240, 600),
)
DISTORTIONS = {
    "additive_gaussian_noise": "noise",
    "additive_noise_in_color_components": "noise",
    "spatially_correlated_noise": "noise",
    "masked_noise": "noise",
    "high_frequency_noise": "noise",
    "impulse_noise": "noise",
    "quantization_noise": "noise",
    "gaussian_blur": "blur",
    "denoising": "noise",
    "jpeg": "jpeg",
    "jpeg2000": "jpeg",
    "jpeg_transmission_errors": "jpeg",
    "jpeg2000_transmission_errors": "jpeg",
    "non_eccentricity_pattern_noise": "spatial_distortion",
    "local_blockwise_distortions": "spatial_distortion",
    "mean_shift": "brightness_change",
    "contrast_change": "sharpness_contrast",
    "color_saturation_change": "color_distortion",
    "multiplicative_gaussian_noise": "noise",
    "comfort_noise": "noise",
    "lossy_compression_of_noisy_images": "jpeg",
    "color_quantization_with_dither": "color_distortion",
    "chromatic_aberrations": "color_distortion",
    "sparse_sampling_and_reconstruction": "spatial_distortion",
}
"""Type to group, in the order of the types' numbers in the file names."""


def read(root: str) -> Database:
    """TID2013: 25 references × 24 distortions × 5 levels, scores 0 to 9, higher is better.

    Args:
        root: folder with `distorted_images/iRR_TT_L.bmp`, `reference_images/IRR.BMP` and `mos_with_names.txt`
            (score and name in each line, no header). The letter case of names differs between table and files.

    Raises:
        InputError: the folder or its table is missing, or a name or score in it makes no sense.

    """
    file = RELEASE.find(root, "mos_with_names.txt")
    table = read_table(file, ("score", "name"), separator=r"\s+", header=False)
    types = "|".join(f"{number:02d}" for number in range(1, len(DISTORTIONS) + 1))
    pattern = rf"i(?P<reference>\d\d)_(?P<type>{types})_(?P<level>\d)\.bmp"
    names = parse_names(table["name"], pattern, "i25_24_5.bmp", file)
    distortion = names["type"].astype(int).map(dict(enumerate(DISTORTIONS, start=1)))
    rows = tabulate(
        Path(root),
        image="distorted_images/" + table["name"],
        score=table["score"],
        group="i" + names["reference"],
        reference="reference_images/i" + names["reference"] + ".bmp",
        distortion=distortion,
        distortion_group=distortion.map(DISTORTIONS),
        level=names["level"].astype(int),
    )
    return Database("tid2013", Path(root), rows, (0.0, 9.0), higher_is_better=True, release=RELEASE)
