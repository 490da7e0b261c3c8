"""Time and memory of the distortions and of random compositions, beside those of the published system.

    python benchmarks/degradation.py [--batch 32] [--side 224] [--repeats 3]

Prints milliseconds per crop for every distortion, mean over its levels, with one CPU thread, two, and on a
CUDA device where there is one; the published system's milliseconds on one core, one image at a time; how many
times faster one thread is; and the peak of the memory a call takes, its result included, in its own batches.
Two minutes on two cores. Nothing else should run: a busy neighbour doubles the times of one thread and spoils
those of two. Results with machine and date: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from arniqa_pl.distortions import CATALOG, DegradationModel, distort
from arniqa_pl.launch import keep_freed_memory

# published system, one core, ms per 224×224 image, mean over the levels; those not named took less than REST
PUBLISHED = {
    "jitter": 36.0,
    "color_diffusion": 49.0,
    "jpeg2000": 32.0,
    "lens_blur": 5.0,
    "gaussian_blur": 5.0,
    "color_shift": 6.7,
    "brighten": 7.3,
    "high_sharpen": 6.0,
    "linear_contrast_change": 5.0,
    "darken": 4.2,
    "color_saturation_2": 3.8,
    "color_saturation_1": 2.3,
    "quantization": 2.2,
    "motion_blur": 1.7,
}
REST = 1.1
COMPOSITION = "random compositions"
PUBLISHED_COMPOSITION = 17.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    keep_freed_memory()  # as every command does

    devices = [("cpu", 1), ("cpu", 2)] + ([("cuda", 1)] if torch.cuda.is_available() else [])
    table = Table(title=f"ms per {options.side}×{options.side} crop, batch {options.batch}, float32")
    table.add_column("distortion", no_wrap=True)
    for device, threads in devices:
        table.add_column(device if device == "cuda" else f"{threads} thread{'s' * (threads > 1)}", justify="right")
    for heading in ("published", "times faster", "peak memory"):
        table.add_column(heading, justify="right")

    for name in [*CATALOG, COMPOSITION]:
        times = [_ms_per_crop(name, device, threads, options) for device, threads in devices]
        published = PUBLISHED_COMPOSITION if name == COMPOSITION else PUBLISHED.get(name, REST)
        bound = "" if name in PUBLISHED or name == COMPOSITION else "< "
        ours = [f"{each:.3f}" for each in times]
        table.add_row(name, *ours, f"{bound}{published:g}", f"{bound}{published / times[0]:.1f}", _peak(name, options))
    console = Console(width=120)
    console.print(table)
    if torch.cuda.is_available():
        crops = 1000 / _ms_per_crop(COMPOSITION, "cuda", 1, options)
        console.print(f"{torch.cuda.get_device_name()}: {crops:,.0f} composed crops per second")


def _images(options: argparse.Namespace, device: str) -> Tensor:
    """Noise smoothed over 5 px, so that the codecs meet something like a photograph."""
    noise = torch.rand(options.batch, 3, options.side, options.side, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2).to(device)


def _work(name: str, images: Tensor) -> Callable[[], Tensor]:
    """One call of the distortion at mixed levels, or of newly drawn compositions."""
    noise = torch.Generator(images.device).manual_seed(0)
    if name != COMPOSITION:
        levels = [1 + i % 5 for i in range(len(images))]
        return lambda: distort(images, name, levels, noise)
    model, draws = DegradationModel(pristine_prob=0.0), torch.Generator().manual_seed(0)
    return lambda: model.apply(images, model.draw(len(images), draws), noise)


def _ms_per_crop(name: str, device: str, threads: int, options: argparse.Namespace) -> float:
    """The best of the repeats; for compositions, which differ, the mean of four times as many."""
    torch.set_num_threads(threads)
    work = _work(name, _images(options, device))
    work()
    seconds = []
    for _ in range(options.repeats * (4 if name == COMPOSITION else 1)):
        _wait(device)
        start = time.perf_counter()
        work()
        _wait(device)
        seconds.append(time.perf_counter() - start)
    best = sum(seconds) / len(seconds) if name == COMPOSITION else min(seconds)
    return best / options.batch * 1e3


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _peak(name: str, options: argparse.Namespace) -> str:
    """Peak memory of a call above what was there before, in batches, its result included."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images = _images(options, device)
    work = _work(name, images)
    work()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        peak = torch.cuda.max_memory_allocated() - before
    else:
        reset = Path("/proc/self/clear_refs")
        if not reset.exists():
            return "?"
        ctypes.CDLL(None).malloc_trim(0)  # what earlier calls freed would hide what this one takes
        reset.write_text("5")  # Linux: the high-water mark starts again from what is resident now
        before = _resident("VmRSS")
        work()
        peak = _resident("VmHWM") - before
    return f"{peak / (images.numel() * images.element_size()):.1f}"


def _resident(field: str) -> int:
    """Bytes, out of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


if __name__ == "__main__":
    main()
