"""The demo data: the package's photographs, rewritten in the layouts of KADIS-700k and KADID-10k."""

import csv
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Generator, Tensor
from tqdm import tqdm

from arniqa_pl.data.databases import kadid10k
from arniqa_pl.data.datasets import derive_seed
from arniqa_pl.data.images import IMAGE_SUFFIXES, read_image, to_image, to_tensor, to_unit
from arniqa_pl.distortions import CATALOG, distort
from arniqa_pl.errors import InputError, writing

NOTE = "DEMO.txt"
"""Stands beside the databases that the demo wrote: they are excerpts on purpose."""
TYPES = tuple(kadid10k.DISTORTIONS)
SIZE = (512, 384)  # as in both databases
# KADID-10k numbers the levels of these by signed amount, the catalog by strength (inferred from how the means of
# its scores rise and fall). All others go by strength in both.
SIGNED_AMOUNTS = {
    "contrast_change": ("linear_contrast_change", (0.3, 0.15, 0.0, -0.4, -0.6)),
    "mean_shift": ("mean_shift", (0.15, 0.08, 0.0, -0.08, -0.15)),
}


def write_demo(output: Path, *, pristine: int, seed: int) -> None:
    """Write `KADIS700/ref_imgs/*.png` and `KADID10K/{images/,dmos.csv}` below a folder, in place of earlier demo data.

    The first photographs (in an order that the seed fixes) are for pre-training; each of the others is the
    reference of 23 distortion types × 5 levels. The score of a row is KADID-10k's mean opinion score of that type
    and level over its own 81 references: it is not a rating of this image. The column var is 0 for the same reason.

    Args:
        output: folder of the demo data.
        pristine: how many of the photographs are for pre-training; 0 if it has photographs of its own.
        seed: of the choice and of everything random in the distortions.

    Raises:
        InputError: no photograph is left for the references, the folder holds databases of another origin, or it cannot
            be written.

    """
    photos = demo_photos()
    if not 0 <= pristine < len(photos):
        raise InputError(f"Wanted 0 to {len(photos) - 1} of the {len(photos)} photographs as pristine, got {pristine}.")
    order = torch.randperm(len(photos), generator=Generator().manual_seed(seed)).tolist()
    shuffled = [photos[index] for index in order]

    with writing(output):
        _make_room(output)
        pristine_folder = output / "KADIS700" / "ref_imgs"
        if pristine:
            pristine_folder.mkdir(parents=True)
        for photo in shuffled[:pristine]:
            _save(_resized(photo), pristine_folder / f"{photo.stem}.png")
        _write_database(output / "KADID10K", shuffled[pristine:], seed)


def demo_photos() -> list[Path]:
    """Return the files of the package's 24 photographs, in the order of their names."""
    return sorted(path for path in _package_folder("photos").iterdir() if path.suffix in IMAGE_SUFFIXES)


def _make_room(output: Path) -> None:
    """Remove earlier demo data: a reference of these must not stay among the pristine photographs of those."""
    folders = [output / name for name in ("KADIS700", "KADID10K")]
    if (output / NOTE).is_file():
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    elif any(folder.exists() for folder in folders):
        raise InputError(
            f"Wanted a folder for the demo data, {output} holds KADIS700 or KADID10K that the demo did not write: "
            "name another one, output=<folder>."
        )
    output.mkdir(parents=True, exist_ok=True)
    (output / NOTE).write_text("Demo data of arniqa_pl. The scores are not ratings of these images.\n")


def _write_database(folder: Path, photos: list[Path], seed: int) -> None:
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    means = _mean_scores()
    rows = []
    with ThreadPoolExecutor() as pool:  # compressing takes longer than distorting, and lets go of the interpreter
        for reference, photo in enumerate(tqdm(photos, desc=f"Writing {folder}", unit="reference"), start=1):
            name = f"I{reference:02d}"
            pristine = _resized(photo)
            saved = [pool.submit(_save, pristine, images / f"{name}.png")]
            for kind, levels in _degraded(to_unit(to_tensor(pristine)), reference, seed):
                for level, pixels in enumerate(levels, start=1):
                    file = f"{name}_{kind:02d}_{level:02d}.png"
                    saved.append(pool.submit(_save, to_image(pixels), images / file))
                    rows.append((file, f"{name}.png", means[TYPES[kind - 1]][level - 1], 0.0))
            for each in saved:
                each.result()
    with (folder / "dmos.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("dist_img", "ref_img", "dmos", "var"))
        writer.writerows(rows)


def _degraded(image: Tensor, reference: int, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Yield KADID-10k's number of each type we can produce, with the image at its five levels (5, 3, H, W)."""
    for kind, name in enumerate(TYPES, start=1):
        ours, amounts = SIGNED_AMOUNTS.get(name, (name, ()))
        if ours not in CATALOG:
            continue
        levels = [CATALOG[ours].levels.index(amount) + 1 for amount in amounts] or [1, 2, 3, 4, 5]
        noise = Generator().manual_seed(derive_seed(seed, reference, kind))
        codec = {"codec": "exact"} if "codec" in CATALOG[ours].pins else {}
        yield kind, distort(image.expand(5, -1, -1, -1), ours, levels, noise, **codec)


def _mean_scores() -> dict[str, list[float]]:
    """Read KADID-10k's mean opinion score by distortion type and level."""
    with (_package_folder("kadid10k_mos_by_type_level.csv")).open() as stream:
        _, *rows = csv.reader(stream)
    return {name: [float(value) for value in values] for name, *values in rows}


def _package_folder(name: str) -> Path:
    return Path(str(resources.files("arniqa_pl.data").joinpath(name)))


def _resized(photo: Path) -> Image.Image:
    """Return a photograph at 512×384, cut at the longer sides; shrinking hides what its JPEG compression left."""
    return ImageOps.fit(read_image(photo), SIZE, Image.Resampling.LANCZOS)


def _save(image: Image.Image, file: Path) -> None:
    image.save(file, compress_level=1)
