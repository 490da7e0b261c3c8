"""Crop pairs per second, beside bare Pillow decoding of the same files in the same run; memory of the workers.

Command: python benchmarks/loading.py (2 CPU cores, about 6 minutes). Fails below 85 % of bare decoding (two
photographs decoded for each pair, in as many processes as there are workers), or if the workers grow by 2 % between
the 2,000th and the 22,000th sample. The photographs are the demo's as PNG of 512×384, as in KADIS-700k.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

import psutil
from PIL import Image
from rich.console import Console
from torch.utils.data import DataLoader
from tqdm import tqdm

from arniqa_pl.data.datasets import CropPairs, collate_pairs
from arniqa_pl.data.pristine import PhotoFiles, find_photos
from arniqa_pl.demo import write_demo
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.launch import keep_freed_memory

BATCH, ROUNDS, PAIRS = 16, 7, 480
SETTLED, SAMPLES = 2_000, 20_000
BAR, GROWTH = 0.85, 0.02


def main() -> None:
    keep_freed_memory()  # as every command does; the processes that only decode inherit it, too
    console = Console()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder), pristine=23, seed=0)
        photos = find_photos(str(Path(folder) / "KADIS700" / "ref_imgs"))
        for workers in (1, 2):
            bare, ours = compare(photos, workers)
            ratio = statistics.median(b / a for a, b in zip(bare, ours, strict=True))
            failed |= ratio < BAR
            rates = f"{statistics.median(ours):.1f} pairs/s of {statistics.median(bare):.1f} decoded"
            console.print(f"{workers} worker{'s' * (workers > 1)}: {ratio:.3f} of bare decoding ({rates})")
        growth = memory_growth(photos)
        failed |= growth >= GROWTH
        console.print(f"Memory of 2 workers over {SAMPLES:,} samples: {growth:+.2%}")
    sys.exit(failed)


def compare(photos: PhotoFiles, workers: int) -> tuple[list[float], list[float]]:
    """Pairs per second of bare decoding and of the loader, in turns: neighbours on the machine disturb both alike."""
    paths = [photos.path(index) for index in range(len(photos))] * (2 * PAIRS // len(photos) + 1)
    shares = [paths[first : 2 * PAIRS : workers] for first in range(workers)]
    batches = iter(loader(photos, workers, (2 * ROUNDS + 2) * PAIRS))
    bare, ours = [], []
    with ProcessPoolExecutor(workers) as pool:
        pairs_per_second(pool.map(decode, shares), workers)  # the processes start, the files are read for once
        pairs_per_second(islice(batches, PAIRS // BATCH), PAIRS // BATCH)
        for _ in range(ROUNDS):
            bare.append(pairs_per_second(pool.map(decode, shares), workers))
            # While Pillow had its turn, the workers filled their queue: it is emptied first.
            for _ in range(2 * workers):
                next(batches)
            ours.append(pairs_per_second(islice(batches, PAIRS // BATCH), PAIRS // BATCH))
    return bare, ours


def loader(photos: PhotoFiles, workers: int, samples: int) -> DataLoader:
    pairs = CropPairs(
        photos,
        length=samples,
        crop_size=224,
        padding="zeros",
        degradation=DegradationModel(),
        seed=0,
        unreadable="stop",
        cache_images=0,
        partner="other",
        half_scale="independent",
    )
    order = [(0, index) for index in range(samples)]
    return DataLoader(pairs, BATCH, sampler=order, num_workers=workers, collate_fn=collate_pairs)


def decode(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.load()


def pairs_per_second(work: Iterable, parts: int) -> float:
    start = time.perf_counter()
    assert sum(1 for _ in work) == parts
    return PAIRS / (time.perf_counter() - start)


def memory_growth(photos: PhotoFiles) -> float:
    """How much more memory the workers have for themselves after 20,000 further samples, as a share of it all."""
    batches = iter(loader(photos, 2, SETTLED + SAMPLES))
    for _ in range(SETTLED // BATCH):
        next(batches)
    before = worker_memory()
    for _ in tqdm(range(SAMPLES // BATCH - 4), desc="Memory", unit="batch"):
        next(batches)
    return worker_memory() / before - 1


def worker_memory() -> int:
    return sum(child.memory_info().rss for child in psutil.Process().children() if child.status() != "zombie")


if __name__ == "__main__":
    main()
