"""Scoring photographs from disk against torchmetrics' ARNIQA, in one run, each in a process of its own.

The same ResNet-50 with the same random weights, whole images, 40 photographs of 1080×800 (the demo's, some of them
mirrored) as JPEG files. Ours is what `arniqa_pl.predict` does with its default precision: threads decode, batch norms
are folded, bfloat16 where the CPU has it, memory is kept. Theirs is a loop that decodes, makes a tensor and calls the
metric's network, as its documentation shows; its memory is kept too in a second number, so that nobody has to take
the allocator for the network. The three take turns, ten photographs at a time.

Prints images/s and by how much scores differ, as a share of the range (KADID-10k's 1 to 5). Exits with 1 below four
times theirs, or if a score in float32 differs by more than 1e-5, or in the default precision by more than 0.005.

Command: python benchmarks/scoring.py (2 CPU cores, about 3 minutes).
"""

import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from rich.console import Console

from arniqa_pl.composition import PACKAGE
from arniqa_pl.data.images import to_tensor, to_unit
from arniqa_pl.data.sources import find_source
from arniqa_pl.launch import keep_freed_memory
from arniqa_pl.models import Encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.scorer import ScoreScale
from arniqa_pl.quality.scoring import score_entries

COUNT, TURN, SIZE = 40, 10, (1080, 800)
FLOOR, EXACT, CLOSE = 4.0, 1e-5, 0.005

state: dict[str, Any] = {}


def write_photos(folder: Path) -> None:
    photos = sorted((PACKAGE / "data" / "photos").glob("*.jpg"))
    for number in range(COUNT):
        with Image.open(photos[number % len(photos)]) as photo:
            picture = ImageOps.fit(photo.convert("RGB"), SIZE, Image.Resampling.LANCZOS)
        if number >= len(photos):
            picture = ImageOps.mirror(picture)
        turn = folder / f"{number // TURN}"
        turn.mkdir(exist_ok=True)
        picture.save(turn / f"{number:02d}.jpg", quality=92)


def write_scorer(file: Path) -> None:
    torch.manual_seed(0)
    scale = ScoreScale("kadid10k", True, (1.0, 5.0), (1.0, 5.0), 1.0, 0.0, 0.0, "")
    weight = torch.randn(4096)
    Scorer(Encoder("resnet50"), weight, 3.0, scale=scale, crop_size=224, crops="whole").save(file)


def start_ours(file: Path) -> None:
    keep_freed_memory()
    state["scorer"] = Scorer.load(file, precision="auto")


def ours(folder: Path) -> tuple[float, list[float]]:
    started = time.perf_counter()
    entries = find_source(str(folder), column="", every=1).entries()
    rows = [row for rows in score_entries({"": state["scorer"]}, entries, batch_size=8, num_threads=2) for row in rows]
    return time.perf_counter() - started, [(row["score"] - 1) / 4 for row in rows]


def start_theirs(file: Path, keep: bool) -> None:
    from torchmetrics.functional.image.arniqa import _ARNIQA, _NoTrainArniqa

    if keep:
        keep_freed_memory()
    scorer = Scorer.load(file)

    def load(self: Any) -> None:
        self.encoder.load_state_dict(torch.nn.Sequential(*list(scorer.encoder.trunk.children())[:-1]).state_dict())
        self.regressor.load_state_dict(scorer.ridge.state_dict())

    _ARNIQA._load_weights = load  # it would download those that were published
    state["model"] = _NoTrainArniqa("kadid10k").eval()


@torch.no_grad()
def theirs(folder: Path) -> tuple[float, list[float]]:
    started = time.perf_counter()
    scores = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as photo:
            image = to_unit(to_tensor(photo.convert("RGB")))[None]
        scores.append(float(state["model"](image, normalize=True)))
    return time.perf_counter() - started, scores


def exact(file: Path, folder: Path) -> list[float]:
    scorer = Scorer.load(file)
    return scorer.to_quality(scorer.score(sorted(folder.iterdir())), clamp=False).tolist()


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        file, photos = Path(name) / "scorer.safetensors", Path(name) / "photos"
        photos.mkdir()
        write_photos(photos)
        warm = Path(name) / "warm"
        warm.mkdir()
        (warm / "0.jpg").write_bytes((photos / "0" / "00.jpg").read_bytes())
        write_scorer(file)
        context = get_context("spawn")
        sides = {
            "ours": (ours, ProcessPoolExecutor(1, context, start_ours, (file,))),
            "theirs": (theirs, ProcessPoolExecutor(1, context, start_theirs, (file, False))),
            "theirs, memory kept": (theirs, ProcessPoolExecutor(1, context, start_theirs, (file, True))),
        }
        turns = sorted(photos.iterdir())
        seconds, scores = dict.fromkeys(sides, 0.0), {side: [] for side in sides}
        for score, pool in sides.values():
            pool.submit(score, warm).result()
        for turn in turns:
            for side, (score, pool) in sides.items():
                took, found = pool.submit(score, turn).result()
                seconds[side] += took
                scores[side] += found
        for _, pool in sides.values():
            pool.shutdown()
        error = np.abs(np.subtract(exact(file, turns[0]), scores["theirs"][:TURN])).max()
    difference = np.abs(np.subtract(scores["ours"], scores["theirs"]))
    ratio = seconds["theirs"] / seconds["ours"]
    for side in sides:
        Console().print(f"{side}: {COUNT / seconds[side]:.2f} images/s, {seconds['theirs'] / seconds[side]:.1f} times")
    Console().print(
        f"{ratio:.1f} times as fast (floor {FLOOR:.0f}); scores differ by {difference.max():.4%} of the range at most "
        f"({CLOSE:.1%} allowed), by {difference.max() / np.std(scores['theirs']):.1%} of their own standard deviation; "
        f"in float32 by {error:.1e} ({EXACT:.0e} allowed)"
    )
    return 0 if ratio >= FLOOR and difference.max() <= CLOSE and error <= EXACT else 1


if __name__ == "__main__":
    sys.exit(main())
