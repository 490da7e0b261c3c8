"""What does a training step cost beside the encoder? The bare step against the whole step from files, in one run.

    python benchmarks/training_step.py           2 CPU cores: about 6 minutes; an H100: about 2

Bare: encoder forward (a pass for each view), backward and optimiser on a resident random batch. Whole: Lightning's
loop over the real loader: decoding 512×384 PNGs, crops, degradation, both passes, loss, diagnostics. ResNet-50, 224
pixels; 8 pairs on a CPU, 128 on a GPU, in bfloat16 where the hardware has it. The bare step is timed before and after
the whole one. Then 500 further steps of a small encoder: does the process grow? Exits with 1 if bare / whole is below
0.85 (GPU: 0.90), on a GPU below 2,300 crops per second, or if the process grows by 2 %.
"""

import functools
import itertools
import statistics
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import lightning
import psutil
import torch
from PIL import ImageOps
from rich.console import Console
from torch.optim import SGD

from arniqa_pl import launch
from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import Photos, find_photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.models import Encoder
from arniqa_pl.models.precision import fast_precision
from arniqa_pl.models.pretraining import Pretraining
from arniqa_pl.models.schedules import cosine_warm_restarts

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
PAIRS, WORKERS, WARM, TIMED, BAR = (128, 14, 20, 60, 0.90) if GPU else (8, 0, 1, 6, 0.85)
CROPS_PER_SECOND = 2300 if GPU else 0
SETTLED, LONG, GROWTH = 20, 500, 0.02  # steps of the small encoder until its memory is laid out, then counted; bar
OPTIMIZER = functools.partial(SGD, lr=1e-3, momentum=0.9, weight_decay=1e-4, fused=True)


class Clock(lightning.Callback):
    """Notes when each step ends, once the device has done it, and how large the process is then."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.sizes: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        """Look at the clock."""
        if GPU:
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())
        self.sizes.append(psutil.Process().memory_info().rss / 1e9)


def bare_steps() -> list[float]:
    """Return the seconds of each bare step."""
    encoder = Encoder("resnet50").to(DEVICE, memory_format=torch.channels_last)
    optimizer = OPTIMIZER(encoder.parameters())
    views = torch.randn(2, 2 * PAIRS, 3, 224, 224, device=DEVICE)
    seconds = []
    for _ in range(WARM + TIMED):
        started = time.perf_counter()
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=fast_precision("auto") == "bf16-mixed"):
            loss = (encoder(views[0]) * encoder(views[1])).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if GPU:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[WARM:]


def whole_steps(photos: Photos, name: str, crop_size: int, pairs: int, steps: int) -> Clock:
    """Train for some steps, and return when each ended and how large the process then was."""
    data = PretrainingData(
        photos=photos,
        degradation=DegradationModel(),
        databases={},
        crop_size=crop_size,
        padding="zeros",
        unreadable="stop",
        batch_size=pairs,
        samples_per_epoch=steps * pairs,
        partner="other",
        half_scale="independent",
        num_workers=WORKERS,
        cache_images=0,
        validation_crop_size=crop_size,
        validation_crops=1,
        validation_pairs=0,
        seed=27,
    )
    model = Pretraining(
        encoder=Encoder(name),
        projection_dim=128,
        temperature=0.1,
        joint_forward=False,
        compile_encoder=False,
        rate_rule="none",
        rate_pairs=16,
        optimizer=OPTIMIZER,
        schedule=functools.partial(cosine_warm_restarts, first_epochs=1, factor=2, min_lr=1e-6),
    )
    clock = Clock()
    lightning.Trainer(
        max_epochs=1,
        accelerator="auto",
        devices=1,
        precision=fast_precision("auto"),
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(model, data)
    return clock


def main() -> int:
    console = Console()
    launch.keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted((resources.files("arniqa_pl") / "data" / "photos").iterdir(), key=str):
            if file.name.endswith(".jpg"):
                ImageOps.fit(read_image(Path(str(file))), (512, 384)).save(Path(folder) / f"{file.name}.png")
        before = bare_steps()
        photos = find_photos(folder)
        ends = whole_steps(photos, "resnet50", 224, PAIRS, WARM + TIMED + 1).ends[WARM:]
        after = bare_steps()
        sizes = whole_steps(photos, "mobilenet_v2", 64, 4, SETTLED + LONG).sizes[SETTLED - 1 :]
    whole = [end - start for start, end in itertools.pairwise(ends)]
    bare, step = statistics.median(before + after), statistics.median(whole)
    crops = 4 * PAIRS / step
    console.print(f"bare {1000 * bare:.0f} ms ({len(before + after)} steps), whole {1000 * step:.0f} ms ({len(whole)})")
    console.print(f"bare / whole {bare / step:.3f} (bar {BAR}), {crops:.0f} crops/s (bar {CROPS_PER_SECOND})")
    growth = sizes[-1] / sizes[0] - 1
    console.print(
        f"{LONG} steps of a small encoder: {sizes[0]:.3f} GB, then {sizes[-1]:.3f} GB ({growth:+.2%}, bar {GROWTH:.0%})"
    )
    return 0 if bare / step >= BAR and crops >= CROPS_PER_SECOND and growth < GROWTH else 1


if __name__ == "__main__":
    sys.exit(main())
