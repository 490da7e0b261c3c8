"""Files that are cut short, unreadable, or gone in the middle of the work."""

import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.conftest import PHOTOS
from tests.faults.commands import TINY, WITHOUT_OVERRIDE, finished, lines, rows_done, run, start
from tests.faults.test_kills import equal, losses

pytestmark = pytest.mark.faults


def cut(file: Path, seed: int) -> None:
    """Keep a random part of a file, at least a byte and not all of it."""
    os.truncate(file, random.Random(seed).randrange(1, file.stat().st_size))


def told(printed: str, *words: str) -> None:
    """Check that a command said something in a sentence."""
    assert "Traceback" not in printed, printed
    for word in words:
        assert word in printed, printed


@pytest.fixture
def work(tmp_path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def regression(trained, small_data) -> tuple[str, ...]:
    """The words of a quick regression into run/."""
    settings = ("features.crop_size=32", "features.crops=1", "features.num_workers=0", "trainer.precision=32-true")
    return (
        *("regress", f"checkpoint={trained}/run", f"paths.data_dir={small_data}", "hydra.run.dir=run"),
        *(*settings, "ridge.num_splits=2"),
    )


@pytest.mark.parametrize("seed", range(2))
def test_a_run_goes_on_from_the_checkpoint_before_one_that_is_cut_short(trained, work, seed):
    shutil.copytree(trained, work, dirs_exist_ok=True)
    cut(work / "run/checkpoints/last.ckpt", seed)
    printed = run(work, "train", "resume=run")
    told(printed, "run/checkpoints/last.ckpt is damaged: continuing from the checkpoint before it")
    assert equal(trained / "run/checkpoints/last.ckpt", work / "run/checkpoints/last.ckpt")


def test_a_scorer_a_split_table_and_a_feature_cache_cut_short(trained, small_data, regression, work):
    scorer, before = work / "cut.safetensors", trained / "run/kadid10k.safetensors"
    shutil.copy(before, scorer)
    cut(scorer, 3)
    words = ("predict", f"scorer={scorer}", f"input={PHOTOS}/owl.jpg", "output=a.csv")
    told(run(work, *words, code=1), f"Wanted a scorer in {scorer}, the file is damaged")
    checkpoint = work / "cut.ckpt"
    shutil.copy(trained / "run/checkpoints/best.ckpt", checkpoint)
    cut(checkpoint, 4)
    printed = run(work, *regression, f"checkpoint={checkpoint}", code=1)
    told(printed, f"Wanted tensors in the weights file {checkpoint}, could not read it")

    run(work, *regression)
    (cache,) = (work / "runs/cache/features").iterdir()
    wanted = cache.read_bytes()
    cut(cache, 5)
    again = run(work, *regression)
    told(again, "in the feature cache", "making it anew")
    assert cache.read_bytes() == wanted

    data = work / "data/KADID10K"
    shutil.copytree(small_data / "KADID10K", data)
    (data / "splits").mkdir()
    for side, rows in {"train": range(30), "val": range(30, 45), "test": range(45, 60)}.items():
        np.save(data / f"splits/{side}.npy", np.array([rows]))
    cut(data / "splits/val.npy", 6)
    printed = run(work, *regression, f"paths.data_dir={work}/data", code=1)
    told(printed, f"Wanted a split table in {data}/splits/val.npy, could not read it", "Restore it")


def test_mlflows_file_cut_short_costs_no_run_and_is_filled_again(regression, work):
    run(work, *regression)
    store = work / "runs/mlflow.db"
    for size in (store.stat().st_size // 2, 1000):
        os.truncate(store, size)
        printed = run(work, *regression, "logger.patience=2")
        told(printed, "Tracking fails, the run goes on without it", "report send runs=")
        told(run(work, "report", "runs=run"), "run")
        told(run(work, "report", "send", "runs=run", code=1), "did not arrive")
    store.unlink()
    assert "Sent run" in run(work, "report", "send", "runs=run")


def test_a_journal_cut_short_is_continued(trained, work):
    shutil.copytree(trained, work, dirs_exist_ok=True)
    journal = work / "run/tracking.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content[: content.index(b'"train/loss"') + 5])
    told(run(work, "report", "runs=run"), "run")
    run(work, "train", "resume=run")
    assert losses(work) == losses(trained)
    journal.write_bytes(content[:20])  # not even its first line
    told(run(work, "report", "runs=run", code=1), "Wanted the folder of a run")
    told(run(work, "train", "resume=run"))


def test_photographs_that_vanish_in_mid_epoch_are_replaced_or_stop_the_run(small_data, work):
    photos = work / "photos"
    shutil.copytree((small_data / "KADIS700").resolve() / "ref_imgs", photos)
    words = ("train", *TINY, f"paths.data_dir={small_data}", f"photos.source={photos}", "trainer.max_epochs=6")
    words += ("data.cache_images=0", "data.num_workers=1")
    process = start(work, *words)
    metrics = work / "run/metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and "train/loss" in metrics.read_text()):
        time.sleep(0.01)
    gone, *_, unreadable = sorted(photos.iterdir())
    gone.unlink()
    unreadable.unlink()
    unreadable.mkdir()
    printed = finished(process, work.with_name("work.printed"))
    told(printed, f"Left out, another photograph takes its place: Wanted an image, could not decode {gone}")
    assert str(unreadable) in printed
    shutil.rmtree(work / "run")
    shutil.copytree((small_data / "KADIS700").resolve() / "ref_imgs", photos, dirs_exist_ok=True, copy_function=_copy)
    process = start(work, *words, "data.unreadable=stop")
    while process.poll() is None and not (metrics.exists() and "train/loss" in metrics.read_text()):
        time.sleep(0.01)
    shutil.rmtree(photos)
    printed = finished(process, work.with_name("work.printed"), len(printed), code=1)
    told(printed, "Wanted an image, could not decode", "No such file")


def _copy(source: str, target: str) -> None:
    if Path(target).is_dir():
        Path(target).rmdir()
    shutil.copy(source, target)


def test_a_database_image_that_vanishes_is_named_and_the_command_goes_on_with_it(regression, small_data, work):
    data = work / "data"
    shutil.copytree(small_data / "KADID10K", data / "KADID10K")
    words = (*regression, f"paths.data_dir={data}", "features.batch_size=1", "features.crops=5")
    images = sorted((data / "KADID10K/images").glob("*_*.png"))
    cache = work / "runs/cache/features"
    process = start(work, *words)
    while process.poll() is None and rows_done(cache) < 5:
        time.sleep(0.005)
    images[-1].rename(work / "kept.png")
    printed = finished(process, work.with_name("work.printed"), code=1)
    told(printed, f"Wanted an image, could not decode {images[-1]}")
    done = rows_done(cache)
    assert done >= 5
    (work / "kept.png").rename(images[-1])
    assert f"{done} of 60 images have features already" in run(work, *words)


def test_images_that_cannot_be_read_cost_a_prediction_their_rows_only(scorer_file, work):
    images = work / "images"
    (images / "below").mkdir(parents=True)
    for number in range(60):
        with Image.open(PHOTOS / "owl.jpg") as photo:
            photo.resize((80, 70)).save(images / f"{number:02d}.png")
    (images / "07.png").chmod(0)
    words = ("predict", f"scorer={scorer_file}", "input=images", "output=scores.csv", "batch_size=2", "num_threads=1")
    process = start(work, *words, before=WITHOUT_OVERRIDE)
    while process.poll() is None and lines(work / "scores.csv") < 3:
        time.sleep(0.005)
    (images / "55.png").unlink()
    printed = finished(process, work.with_name("work.printed"), code=1)
    told(printed, "Wanted 60 images, could not read 2: see the column error in scores.csv")
    errors = pd.read_csv(work / "scores.csv").set_index("path")["error"].dropna()
    assert list(errors.index) == ["images/07.png", "images/55.png"]
    assert "Permission denied" in errors.iloc[0]
    assert "No such file" in errors.iloc[1]
    (images / "below").chmod(0)
    printed = run(work, *words[:-3], "output=b.csv", code=1, before=WITHOUT_OVERRIDE)
    told(printed, "Wanted the images in the folder images/below, could not list it: Permission denied")


@pytest.mark.parametrize("stage", ["training", "regression"])
def test_a_loader_that_the_system_kills_is_told_and_the_command_goes_on(stage, trained, small_data, regression, work):
    import psutil

    if stage == "training":
        words = ("train", *TINY, f"paths.data_dir={small_data}", "data.num_workers=2")
        ready = work / "run/checkpoints/previous.ckpt"
        process = start(work, *words)
        while process.poll() is None and not ready.exists():
            time.sleep(0.01)
    else:
        words = (*regression, "features.num_workers=2", "features.batch_size=1", "features.crops=5")
        process = start(work, *words)
        while process.poll() is None and rows_done(work / "runs/cache/features") < 5:
            time.sleep(0.005)
    loaders = [child for child in psutil.Process(process.pid).children() if child.cmdline() == _own(process)]
    loaders[0].kill()
    printed = finished(process, work.with_name("work.printed"), code=1)
    told(printed, "A process that loads images was killed: DataLoader worker", "lower num_workers")
    if stage == "training":
        run(work, "train", "resume=run")
        assert equal(trained / "run/checkpoints/last.ckpt", work / "run/checkpoints/last.ckpt")
    else:
        assert "of 60 images have features already" in run(work, *words)


def _own(process) -> list[str]:
    import psutil

    return psutil.Process(process.pid).cmdline()
