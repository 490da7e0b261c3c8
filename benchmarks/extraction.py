"""Feature extraction from image files against the bare encoder's forward pass on the same crops, in one run.

Bare: the encoder in inference mode on batches of normalised crops that are in memory already. Extraction: `extract_features` as the
command calls it, with one loader process: decoding, cropping, normalising, forward pass, writing, its cache empty. The two take turns. Exits with 1 if extraction keeps less than 0.90 of the bare throughput.

Command: python benchmarks/extraction.py (2 CPU cores, about 4 minutes).
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import lightning
import torch
from rich.console import Console
from torch import Tensor

from arniqa_pl.data.databases import kadid10k
from arniqa_pl.data.datasets import ImageCrops
from arniqa_pl.data.images import normalize, to_unit
from arniqa_pl.demo import write_demo
from arniqa_pl.models import Encoder
from arniqa_pl.quality.features import extract_features

FLOOR = 0.90
CROP_SIZE, CROPS, BATCH_SIZE, TURNS = 224, 5, 4, 3
IMAGES = {"resnet50": 24, "mobilenet_v2": 96}


def bare_seconds(encoder: Encoder, batches: list[Tensor]) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            encoder(batch)
    return time.perf_counter() - start


def extraction_seconds(encoder: Encoder, paths: list[Path]) -> float:
    trainer = partial(lightning.Trainer, accelerator="cpu", devices=1)
    policy = {"crop_size": CROP_SIZE, "crops": CROPS, "batch_size": BATCH_SIZE, "num_workers": 1}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        extract_features(encoder, paths, trainer=trainer, cache_dir=folder, **policy)
        return time.perf_counter() - start


def main() -> int:
    kept = []
    with tempfile.TemporaryDirectory() as folder:
        write_demo(Path(folder), pristine=22, seed=27)
        every = kadid10k(f"{folder}/KADID10K").paths
        for name, count in IMAGES.items():
            encoder = Encoder(name).eval()
            paths = every[:: len(every) // count][:count]
            crops = torch.stack([ImageCrops(paths, crop_size=CROP_SIZE, crops=CROPS)[row][1] for row in range(count)])
            batches = [normalize(to_unit(batch)).flatten(0, 2) for batch in crops.split(BATCH_SIZE)]
            bare_seconds(encoder, batches[:1])  # warms up
            bare = extraction = 0.0
            for _ in range(TURNS):
                bare += bare_seconds(encoder, batches)
                extraction += extraction_seconds(encoder, paths)
            kept.append(bare / extraction)
            rate = crops.shape[:3].numel() * TURNS
            Console().print(
                f"{name}: {rate / extraction:.1f} crops/s from files, {rate / bare:.1f} bare: {kept[-1]:.3f} "
                f"(floor {FLOOR:.2f})"
            )
    return 0 if min(kept) >= FLOOR else 1


if __name__ == "__main__":
    sys.exit(main())
