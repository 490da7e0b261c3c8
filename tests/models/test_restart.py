"""A run that is killed again and again against the same run left alone."""

import contextlib
import functools
import json
import multiprocessing
import os
import random
import signal
import sqlite3
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.pristine import Photos, find_photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.models import Encoder
from arniqa_pl.models.pretraining import NonFiniteLossError, Pretraining
from arniqa_pl.models.restart import AtomicCheckpointIO, Restart, newest_checkpoint
from arniqa_pl.models.schedules import one_cycle
from arniqa_pl.models.throughput import Throughput
from arniqa_pl.runs import mlflow_run_id
from arniqa_pl.tracking import RunLogger
from arniqa_pl.tracking.journal import JOURNAL

EPOCHS, STEPS = 3, 5
TIMED = {"train/crops_per_second", "train/data_wait", "train/minutes_left", "train/peak_memory_gb"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Photos:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for index in range(6):
        pixels = generator.integers(0, 256, (80, 90, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    return find_photos(str(folder))


class Strike(lightning.Callback):
    """Sends this process a signal before the step, or before the validation after it."""

    def __init__(self, step: int, number: int, validation: bool = False) -> None:
        self.step, self.number, self.validation = step, number, validation

    def on_train_batch_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step and not self.validation:
            os.kill(os.getpid(), self.number)

    def on_validation_start(self, trainer, *args) -> None:
        if trainer.global_step == self.step and self.validation:
            os.kill(os.getpid(), self.number)


class StrikeOnceSaved(AtomicCheckpointIO):
    """Kills this process when the checkpoint of a step is on the disk."""

    def __init__(self, step: int) -> None:
        self.step = step

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        super().save_checkpoint(checkpoint, path, storage_options)
        if checkpoint["global_step"] == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(
    photos,
    folder: Path,
    *,
    workers: int = 0,
    strike: Strike | None = None,
    files: AtomicCheckpointIO | None = None,
    rate: float = 0.01,
    tracked: bool = True,
) -> None:
    """Start the run in a folder, or continue it, in this process."""
    torch.set_num_threads(1)
    lightning.seed_everything(1)
    data = PretrainingData(
        photos=photos,
        degradation=DegradationModel(),
        databases={},
        crop_size=32,
        padding="zeros",
        unreadable="stop",
        batch_size=2,
        samples_per_epoch=2 * STEPS + 1,  # the last, uneven batch is left out
        partner="other",
        half_scale="independent",
        num_workers=workers,
        cache_images=0,
        validation_crop_size=32,
        validation_crops=1,
        validation_pairs=4,
        seed=3,
    )
    model = Pretraining(
        encoder=Encoder("mobilenet_v2"),
        projection_dim=8,
        temperature=0.1,
        joint_forward=False,
        compile_encoder=False,
        rate_rule="none",
        rate_pairs=16,
        optimizer=functools.partial(torch.optim.SGD, lr=rate, momentum=0.9),
        schedule=functools.partial(one_cycle, warmup=0.3),
    )
    checkpoints = folder / "checkpoints"
    best = ModelCheckpoint(
        checkpoints, "best", monitor="val/uniformity", auto_insert_metric_name=False, enable_version_counter=False
    )
    restart = Restart(folder=str(checkpoints), every_n_steps=2, every_n_minutes=None)
    callbacks = [Throughput(), best, restart, *([strike] if strike else [])]
    store = f"sqlite:///{folder.parent}/mlflow.db"
    logger = RunLogger(
        folder=str(folder),
        experiment_name="restart",
        tracking_uri=store,
        resume=(folder / JOURNAL).exists(),
        patience=60,
    )
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=logger if tracked else False,
        log_every_n_steps=1,
        callbacks=callbacks,
        plugins=[files or AtomicCheckpointIO()],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    with logger.recording() if tracked else contextlib.nullcontext():
        trainer.fit(model, data, ckpt_path=newest_checkpoint(checkpoints))


def train_alone(*args, **kwargs) -> None:
    """Train, with loader processes that notice when this one is killed, which those of a server would not."""
    multiprocessing.set_start_method("fork", force=True)
    train(*args, **kwargs)


def in_a_process(*args, **kwargs) -> int:
    """Train in a process of its own; return its exit code.

    It is forked from one that has imported everything and started nothing: other tests leave threads in this one.
    """
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload([__name__])
    process = processes.Process(target=train_alone, args=args, kwargs=kwargs)
    process.start()
    process.join(timeout=120)
    if process.exitcode is None:
        process.kill()
        pytest.fail("the run did not end within two minutes")
    return process.exitcode


def history(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every metric in MLflow's database with its steps and values, but those of the clock."""
    values: dict[str, list[tuple[int, float]]] = {}
    query = "SELECT key, step, value FROM metrics WHERE run_uuid = ? ORDER BY key, step"
    with contextlib.closing(sqlite3.connect(folder.parent / "mlflow.db")) as store:
        for key, step, value in store.execute(query, [mlflow_run_id(folder)]):
            if key not in TIMED and not key.startswith("system/"):
                values.setdefault(key, []).append((step, value))
    return values


def lines(folder: Path) -> dict[tuple[int, str], float]:
    """The JSON lines as {(step, metric): value}, each at most once."""
    values: dict[tuple[int, str], float] = {}
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        step = row.pop("step")
        assert not {(step, key) for key in row} & set(values)
        values |= {(step, key): value for key, value in row.items() if key not in TIMED}
    return values


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "undisturbed"
    assert in_a_process(photos, folder) == 0
    return folder


def states(folder: Path) -> dict[str, dict]:
    files = (folder / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    return {file.stem: torch.load(file, weights_only=True) for file in files}


def test_a_run_killed_again_and_again_ends_as_if_nothing_had_happened(photos, undisturbed):
    folder = undisturbed.with_name("killed")
    generator = random.Random(5)
    strikes = [Strike(step, signal.SIGKILL) for step in sorted(generator.sample(range(1, EPOCHS * STEPS), 5))]
    strikes.append(Strike(2 * STEPS, signal.SIGKILL, validation=True))
    strikes.sort(key=lambda each: (each.step, not each.validation))
    assert in_a_process(photos, folder, files=StrikeOnceSaved(2)) == -signal.SIGKILL
    for workers, strike in zip((0, 2, 1, 0, 2, 1), strikes, strict=True):
        assert in_a_process(photos, folder, workers=workers, strike=strike) == -signal.SIGKILL
    assert in_a_process(photos, folder, strike=Strike(13, signal.SIGTERM)) == 0  # the entry makes 143 of it
    assert states(folder)["last"]["global_step"] == 14  # the step is finished, and saved
    assert in_a_process(photos, folder) == 0

    wanted, found = states(undisturbed), states(folder)
    for name, state in wanted.items():
        assert state["global_step"] == found[name]["global_step"]
        for key, value in state["state_dict"].items():
            assert torch.equal(value, found[name]["state_dict"][key]), (name, key)
    for one, other in zip(
        wanted["last"]["optimizer_states"][0]["state"].values(),
        found["last"]["optimizer_states"][0]["state"].values(),
        strict=True,
    ):
        assert torch.equal(one["momentum_buffer"], other["momentum_buffer"])
    assert history(folder) == history(undisturbed)
    assert [step for step, _ in history(folder)["train/loss"]] == list(range(EPOCHS * STEPS))
    assert len(history(folder)["val/retrieved"]) == EPOCHS
    assert lines(folder) == lines(undisturbed)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(photos, undisturbed, caplog):
    folder = undisturbed.with_name("damaged")
    assert in_a_process(photos, folder, strike=Strike(9, signal.SIGKILL)) == -signal.SIGKILL
    last = folder / "checkpoints" / "last.ckpt"
    pixels = bytearray(last.read_bytes())
    pixels[len(pixels) // 2] ^= 1  # one bit: torch.load would take it
    last.write_bytes(pixels)
    torch.load(last, weights_only=True)
    assert newest_checkpoint(last.parent) == last.with_name("previous.ckpt")
    assert f"{last} is damaged" in caplog.text
    last.write_bytes(pixels[: len(pixels) // 2])
    assert newest_checkpoint(last.parent) == last.with_name("previous.ckpt")
    assert in_a_process(photos, folder) == 0
    for key, value in states(undisturbed)["last"]["state_dict"].items():
        assert torch.equal(value, states(folder)["last"]["state_dict"][key]), key
    assert history(folder) == history(undisturbed)


def test_without_checkpoints_a_run_starts_at_the_beginning(tmp_path):
    assert newest_checkpoint(tmp_path) is None


def test_a_diverging_run_stops_with_its_step_its_compositions_and_its_state(photos, tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"found nan at step \d+ \(epoch 0.*lower optimizer\.lr.*\[\[") as stop:
        train(photos, tmp_path / "run", rate=1e30, tracked=False)
    step = int(str(stop.value).split("at step ")[1].split(" ")[0])
    state = torch.load(tmp_path / "run/checkpoints/non_finite.ckpt", weights_only=True)
    assert state["global_step"] == step >= 1
    assert str(stop.value).count("('") >= 1  # names of distortions
