"""Which photographs are pristine enough to learn from: every one decoded and measured once, before any training."""

import csv
import ctypes
import logging
import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import PhotoFiles
from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)

PROBLEMS = ("unreadable", "small", "blurred", "blocky", "flat")


def screen_photos(
    photos: PhotoFiles,
    *,
    min_side: int,
    min_sharpness: float,
    max_blockiness: float,
    max_flat: float,
    num_workers: int,
) -> pd.DataFrame:
    """Decode and measure photographs in parallel.

    Args:
        photos: the files.
        min_side: below it the photograph is small, in pixels.
        min_sharpness: below it it is blurred, in squared grey levels.
        max_blockiness: above it it is blocky; 1 is none.
        max_flat: above it it is flat, a share.
        num_workers: processes.

    Returns:
        A row for each photograph, in their order: image; side, sharpness, blockiness and flat as `measure_photo` gives
        them; problems, any of `PROBLEMS` separated by spaces; error, why it cannot be decoded.

    """
    paths = [photos.path(index) for index in range(len(photos))]
    with ProcessPoolExecutor(max(num_workers, 1), initializer=_end_with_parent) as pool:
        measured = pool.map(measure_photo, paths, chunksize=8)
        rows = list(tqdm(measured, total=len(paths), desc="Screening", unit="photo"))
    table = pd.DataFrame(rows, columns=["side", "sharpness", "blockiness", "flat", "error"])
    found = pd.DataFrame(
        {
            "unreadable": table["error"] != "",
            "small": table["side"] < min_side,
            "blurred": table["sharpness"] < min_sharpness,
            "blocky": table["blockiness"] > max_blockiness,
            "flat": table["flat"] > max_flat,
        }
    )
    table["problems"] = [" ".join(found.columns[row]) for row in found.to_numpy()]
    table.insert(0, "image", [photos.name(index) for index in range(len(photos))])
    return table


def _end_with_parent() -> None:
    """Have the system end this process when its parent is killed, for whose work it would wait forever; on Linux."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


_PR_SET_PDEATHSIG = 1  # of sys/prctl.h


def measure_photo(path: Path) -> tuple[float, float, float, float, str]:
    """Decode a photograph and measure its luma.

    Returns:
        side: the shorter one, in pixels.
        sharpness: variance of the Laplacian of 4 neighbours, in squared grey levels (Pech-Pacheco et al., "Diatom
            autofocusing in brightfield microscopy", 2000). It falls as a photograph gets blurred.
        blockiness: mean step across the borders of 8×8 blocks over the mean step elsewhere (after Wang, Sheikh and
            Bovik, "No-reference perceptual quality assessment of JPEG compressed images", 2002). About 1 without JPEG
            blocks, or with blocks that a later resizing moved off this grid.
        flat: share of 8×8 blocks of a single grey: what is left of a damaged JPEG file, or a frame, or a drawing.
        error: why it cannot be decoded; then side to flat are NaN.

    """
    nothing = float("nan")
    try:
        image = read_image(path)
    except InputError as error:
        return nothing, nothing, nothing, nothing, str(error)
    luma = np.asarray(image.convert("L"), dtype=np.float32)
    side = min(luma.shape)
    if side < 16:  # not two blocks
        return side, nothing, nothing, nothing, ""
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    rows, columns = (length // 8 * 8 for length in luma.shape)
    blocks = luma[:rows, :columns].reshape(rows // 8, 8, columns // 8, 8)
    flat = blocks.max(axis=(1, 3)) == blocks.min(axis=(1, 3))
    return side, float(laplacian.var()), _blockiness(luma), float(flat.mean()), ""


def _blockiness(luma: NDArray[np.float32]) -> float:
    borders, others = 0.0, 0.0
    for axis in (0, 1):
        steps = np.abs(np.diff(luma, axis=axis)).mean(axis=1 - axis)
        on_border = np.arange(1, len(steps) + 1) % 8 == 0
        borders += float(steps[on_border].mean())
        others += float(steps[~on_border].mean())
    return borders / others if others else 1.0


def report_file(output: Path | str) -> Path:
    """Return where the report on a list of photographs lies: beside it."""
    return Path(output).with_suffix(".csv")


def require_listable(output: Path, leave_out: Sequence[str]) -> None:
    """Refuse what `write_screening` could not do, before hours of measuring.

    Raises:
        InputError: leave_out names another problem, or the output is named as the report is.

    """
    if unknown := set(leave_out) - set(PROBLEMS):
        raise InputError(f"Wanted leave_out to name some of {', '.join(PROBLEMS)}, got {', '.join(sorted(unknown))}.")
    if report_file(output) == output:
        raise InputError(f"Wanted a text file for the list, got {output}: beside it, the report takes the name .csv.")


def write_screening(table: pd.DataFrame, photos: PhotoFiles, output: Path, leave_out: Sequence[str]) -> int:
    """Write which photographs to learn from as a text file, and beside it the report on all of them as a CSV.

    Args:
        table: from `screen_photos`.
        photos: the same as there.
        output: the text file; paths in it are relative to its folder.
        leave_out: the problems for which a photograph is left out, of `PROBLEMS`; any other is only reported.

    Returns:
        How many photographs are in the list. Those with a line break in their paths cannot be: the log names the first.

    Raises:
        InputError: photographs are unreadable, and are not to be left out.

    """
    report = report_file(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(report, index=False, quoting=csv.QUOTE_NONNUMERIC)  # a name may hold a carriage return
    unreadable = table["error"] != ""
    if unreadable.any() and "unreadable" not in leave_out:
        raise InputError(
            f"Wanted {len(table)} photographs that can be decoded, {unreadable.sum()} cannot, the first is "
            f"{table['image'][unreadable].iloc[0]}: see {report}; leave_out=[unreadable] lists the others."
        )
    kept = [index for index, problems in enumerate(table["problems"]) if not set(problems.split()) & set(leave_out)]
    if not kept:
        raise InputError(f"Wanted photographs to learn from, all {len(table)} are left out: see {report}.")
    paths = [os.path.relpath(photos.path(index), output.parent) for index in kept]
    lines = [path for path in paths if not {"\n", "\r"} & set(path)]
    if len(lines) < len(paths):
        broken = next(path for path in paths if {"\n", "\r"} & set(path))
        log.warning(
            "Left out, a list of lines cannot hold a line break: %d photographs, the first is %r. Rename them.",
            *(len(paths) - len(lines), broken),
        )
    output.write_bytes(b"".join(os.fsencode(f"{line}\n") for line in lines))
    return len(lines)
