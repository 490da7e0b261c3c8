"""Commands are killed at moments that a seed draws, and started again: nothing is lost, nothing comes twice."""

import contextlib
import csv
import random
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from tests.conftest import PHOTOS
from tests.faults.commands import TINY, kill_when, lines, rows_done, run, start
from tests.models.test_restart import TIMED

pytestmark = pytest.mark.faults
STEPS = 16


def losses(folder: Path) -> list[tuple[int, float]]:
    """What MLflow's file knows of the loss of the only run."""
    with contextlib.closing(sqlite3.connect(folder / "runs/mlflow.db")) as store:
        return store.execute("SELECT step, value FROM metrics WHERE key = 'train/loss' ORDER BY step").fetchall()


def equal(one: Path, other: Path) -> bool:
    """Whether two checkpoints hold the same weights."""
    states = [torch.load(file, weights_only=True)["state_dict"] for file in (one, other)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_a_training_killed_eight_times_ends_as_the_undisturbed_one(trained, small_data, tmp_path):
    """In its steps, its validation, its regression and while it starts; the metrics come once each."""
    draw = random.Random(41)
    moments = [*sorted(draw.sample(range(1, STEPS), 6)), STEPS, STEPS]
    metrics, begun = tmp_path / "work/run/metrics.jsonl", ("train", *TINY, f"paths.data_dir={small_data}")
    (tmp_path / "work").mkdir()
    killed = 0
    for step in moments:
        words = ("train", "resume=run") if (tmp_path / "work/run/.hydra/config.yaml").exists() else begun
        process = start(tmp_path / "work", *words)
        killed += kill_when(
            process,
            lambda step=step: metrics.exists() and metrics.read_text().count("train/loss") >= step,
            draw.uniform(0, 1.5 if step == STEPS else 0.3),
        )
    assert killed == len(moments)
    run(tmp_path / "work", "train", "resume=run")
    assert equal(trained / "run/checkpoints/last.ckpt", tmp_path / "work/run/checkpoints/last.ckpt")
    assert equal(trained / "run/checkpoints/best.ckpt", tmp_path / "work/run/checkpoints/best.ckpt")
    found = losses(tmp_path / "work")
    assert found == losses(trained)
    assert [step for step, _ in found] == list(range(STEPS))
    wanted, again = (pd.read_csv(folder / "run/results.csv") for folder in (trained, tmp_path / "work"))
    pd.testing.assert_frame_equal(again, wanted)
    told = {name for name in pd.read_json(metrics, lines=True).columns if not name.startswith("system/")}
    assert told - TIMED == set(pd.read_json(trained / "run/metrics.jsonl", lines=True).columns) - TIMED


def test_a_regression_killed_five_times_keeps_the_features_it_has(trained, small_data, tmp_path):
    draw = random.Random(42)
    work, cache = tmp_path / "work", tmp_path / "work/runs/cache/features"
    work.mkdir()
    words = ("regress", f"checkpoint={trained}/run", f"paths.data_dir={small_data}", "hydra.run.dir=run")
    settings = ("features.crop_size=32", "features.num_workers=0", "ridge.num_splits=2", "trainer.precision=32-true")
    slow = ("features.batch_size=1", "features.crops=5")
    moments, done, killed = sorted(draw.sample(range(2, 55), 5)), 0, 0
    for rows in moments:
        process = start(work, *words, *settings, *slow)
        killed += kill_when(process, lambda rows=rows: rows_done(cache) >= rows, draw.uniform(0, 0.02))
        assert rows_done(cache) >= max(done, rows)
        done = rows_done(cache)
    assert killed == len(moments)
    assert done < 60
    printed = run(work, *words, *settings, *slow)
    assert f"{done} of 60 images have features already" in printed
    alone = tmp_path / "alone"
    alone.mkdir()
    run(alone, *words, *settings, *slow)
    (found,), (wanted,) = cache.iterdir(), (alone / "runs/cache/features").iterdir()
    assert found.read_bytes() == wanted.read_bytes()
    assert (work / "run/results.csv").read_bytes() == (alone / "run/results.csv").read_bytes()
    assert (work / "run/kadid10k.safetensors").read_bytes() == (alone / "run/kadid10k.safetensors").read_bytes()


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_a_prediction_killed_three_times_has_every_image_once(scorer_file, tmp_path, suffix):
    work = tmp_path / "work"
    (work / "images").mkdir(parents=True)
    for number in range(90):
        with Image.open(sorted(PHOTOS.glob("*.jpg"))[number % 24]) as photo:
            photo.resize((80, 70)).rotate(number).save(work / f"images/{number:03d}.bmp")
    words = ("predict", f"scorer={scorer_file}", "input=images", "precision=float32", "batch_size=2")
    run(work, *words, f"output=alone.{suffix}")
    draw = random.Random(43)
    moments = sorted(draw.sample(range(2, 80), 3))
    output = work / f"scores.{suffix}"
    for row in moments:
        process = start(work, *words, f"output={output}")
        assert kill_when(process, lambda row=row: lines(output) >= row, draw.uniform(0, 0.02))
    assert f"Continuing {output} after" in run(work, *words, f"output={output}")
    read = pd.read_csv if suffix == "csv" else lambda file: pd.read_json(file, lines=True)
    found, wanted = read(output), read(work / f"alone.{suffix}")
    assert found["path"].tolist() == wanted["path"].tolist() == [f"images/{n:03d}.bmp" for n in range(90)]
    np.testing.assert_allclose(found["score"], wanted["score"], rtol=1e-5)


def test_demo_data_killed_four_times_are_written_anew(demo_data, tmp_path):
    draw = random.Random(44)
    (tmp_path / "work").mkdir()
    images = tmp_path / "work/demo/KADID10K/images"
    words = ("prepare", "output=demo", "pristine=20")
    for count in sorted(draw.sample(range(1, 200), 4)):
        shutil.rmtree(images, ignore_errors=True)  # of the attempt before, so that there is something to wait for
        process = start(tmp_path / "work", *words)
        assert kill_when(
            process,
            lambda count=count: images.exists() and len(list(images.iterdir())) >= count,
            draw.uniform(0, 0.05),
        )
        assert not (images.parent / "dmos.csv").exists()  # without which it is no database, and no command takes it
    run(tmp_path / "work", *words)
    found, wanted = (
        {path.relative_to(root): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "work/demo", demo_data)
    )
    assert found == wanted
    checked = run(tmp_path / "work", "prepare", "check", "database=kadid10k", "paths.data_dir=demo")
    assert "written by the demo, an excerpt on purpose" in checked


def test_shards_and_lists_killed_twice_each_are_whole_afterwards(tmp_path):
    pytest.importorskip("litdata")
    draw = random.Random(45)
    work = tmp_path / "work"
    (work / "photos").mkdir(parents=True)
    for number in range(400):
        shutil.copy(sorted(PHOTOS.glob("*.jpg"))[number % 24], work / f"photos/{number:03d}.jpg")
    (work / "many.txt").write_text("".join(f"photos/{number:03d}.jpg\n" for number in range(400)) * 40)
    pack = ("prepare", "shards", "input=many.txt", "output=shards", "shard_bytes=2000000")
    for count in draw.sample(range(2, 9), 2):
        process = start(work, *pack)
        assert kill_when(process, lambda count=count: len(list(work.glob("shards/*"))) >= count, draw.uniform(0, 0.05))
        assert not (work / "shards/index.json").exists()
    assert "16000 photographs in shards" in run(work, *pack)
    screen = ("prepare", "photos", "input=photos", "output=photos.txt", "screening.num_workers=1")
    for _ in range(2):
        process = start(work, *screen)
        while process.poll() is None and not (measuring := psutil.Process(process.pid).children()):
            time.sleep(0.01)
        assert kill_when(process, lambda: True, draw.uniform(0, 0.5))
        _, alive = psutil.wait_procs(measuring, timeout=30)
        assert not alive  # they end with the command that wanted their work
    run(work, *screen)
    with (work / "photos.csv").open() as stream:
        assert sum(1 for _ in csv.DictReader(stream)) == 400
    assert lines(work / "photos.txt") == 400
