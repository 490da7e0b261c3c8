"""The pristine photographs that pre-training learns from: where they are, and which of them are fit for it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from PIL import Image

from arniqa_pl.data.images import list_images, read_image
from arniqa_pl.errors import InputError


class Photos(Protocol):
    """Photographs in a fixed order, decoded one at a time, by any process.

    Attributes:
        source: where they come from, for the record of a run.

    """

    source: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Return photograph `index` in RGB; raise an InputError that names it if it cannot be decoded."""
        ...

    def table(self) -> pd.DataFrame:
        """Return the columns image (a name that is the same on every machine) and bytes, for the record of a run."""
        ...


class PhotoFiles:
    """Photographs in image files.

    Args:
        paths: the files.
        names: what to call them, the same on every machine.
        source: where they come from.

    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str], source: str) -> None:
        # Arrays of bytes: looping over a list of objects would copy its memory into every loader process.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._names = np.array([name.encode(errors="surrogateescape") for name in names])
        self.source = source

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self.path(index))

    def path(self, index: int) -> Path:
        """Return the file of a photograph."""
        return Path(os.fsdecode(self._paths[index]))

    def table(self) -> pd.DataFrame:
        """Return the columns image and bytes."""
        sizes = [self.path(index).stat().st_size for index in range(len(self))]
        return pd.DataFrame({"image": [name.decode(errors="replace") for name in self._names], "bytes": sizes})


def find_photos(source: str | Sequence[str]) -> PhotoFiles:
    """Find pristine photographs for pre-training, in an order that does not depend on the machine.

    Args:
        source: a folder, searched recursively and sorted by path within it; or several, one after the other; or a text
            file with a path on each line, relative to its own folder, in its own order.

    Raises:
        InputError: there are none, or a file that the list names is not there.

    """
    sources = [source] if isinstance(source, str) else list(source)
    files: list[tuple[Path, str]] = []
    for each in map(Path, sources):
        found = _listed(each) if each.is_file() else [str(path) for path in list_images(each)]
        root = each.parent if each.is_file() else each
        if not found:
            raise InputError(
                f"Wanted pristine photographs for pre-training in {each.resolve()}, found none. Put the ref_imgs of "
                "KADIS-700k there (https://database.mmsp-kn.de/kadis-700k-database.html), or name photographs of your "
                "own, a folder, [several] or a text file of paths: photos.source=<folder>."
            )
        files += [(root / name, name) for name in found]
    return PhotoFiles([path for path, _ in files], [name for _, name in files], ", ".join(sources))


def _listed(file: Path) -> list[str]:
    names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    missing = [name for name in names if not (file.parent / name).is_file()]
    if missing:
        raise InputError(
            f"Wanted the {len(names)} photographs that {file} names, {len(missing)} are not there, the first is "
            f"{missing[0]!r}: paths in it are relative to its own folder."
        )
    return names


@dataclass(frozen=True)
class Fitness:
    """What one photograph measures, and why it may not be pristine enough to learn from.

    Attributes:
        side: the shorter side, in pixels.
        sharpness: variance of the Laplacian (4 neighbours) of the luma, in squared grey levels (Pech-Pacheco et al.,
            "Diatom autofocusing in brightfield microscopy", 2000); it falls as a photograph gets blurred.
        blockiness: mean luma step across the borders of 8×8 blocks over the mean step elsewhere (after Wang, Sheikh
            and Bovik, "No-reference perceptual quality assessment of JPEG compressed images", 2002): about 1 without
            JPEG blocks.
        flat: share of 8×8 blocks of a single grey: what a damaged JPEG file, a frame or a drawing leaves.
        error: why it cannot be decoded; then nothing else is known.

    """

    side: int = 0
    sharpness: float = float("nan")
    blockiness: float = float("nan")
    flat: float = float("nan")
    error: str = ""


def measure_photo(path: Path) -> Fitness:
    """Decode and measure a photograph."""
    try:
        image = read_image(path)
    except InputError as error:
        return Fitness(error=str(error))
    luma = np.asarray(image.convert("L"), dtype=np.float32)
    side = min(luma.shape)
    if side < 16:  # too small to have two blocks; flagged by its side anyway
        return Fitness(side=side)
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    rows, columns = (length // 8 * 8 for length in luma.shape)
    blocks = luma[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8)
    flat = blocks.max(axis=(1, 3)) == blocks.min(axis=(1, 3))
    return Fitness(
        side=side,
        sharpness=float(np.var(neighbours - 4 * luma[1:-1, 1:-1])),
        blockiness=_blockiness(luma),
        flat=float(flat.mean()),
    )


def _blockiness(luma: np.ndarray) -> float:
    """Return the mean step between neighbours across the 8×8 grid over the mean of all other steps; 1 if all is flat."""
    borders, others = [], []
    for steps in (np.abs(np.diff(luma, axis=0)).mean(axis=1), np.abs(np.diff(luma, axis=1)).mean(axis=0)):
        on_grid = np.arange(1, len(steps) + 1) % 8 == 0
        borders.append(steps[on_grid].mean())
        others.append(steps[~on_grid].mean())
    return float(sum(borders) / sum(others)) if sum(others) else 1.0


def screen_photos(
    measured: Sequence[Fitness], *, min_side: int, min_sharpness: float, max_blockiness: float, max_flat: float
) -> list[list[str]]:
    """Return what is wrong with each photograph: any of unreadable, small, blurred, blocky, flat."""
    problems = []
    for each in measured:
        if each.error:
            problems.append(["unreadable"])
            continue
        found = {
            "small": each.side < min_side,
            "blurred": each.sharpness < min_sharpness,
            "blocky": each.blockiness > max_blockiness,
            "flat": each.flat > max_flat,
        }
        problems.append([name for name, wrong in found.items() if wrong])
    return problems
