import functools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from numpy.lib.format import open_memmap

from arniqa_pl.data.datasets import ImageCrops
from arniqa_pl.data.splits import Split
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.quality.features import broken_rows, extract_features
from arniqa_pl.quality.regression import regress
from tests.conftest import PHOTOS

TRAINER = functools.partial(lightning.Trainer, accelerator="cpu", devices=1)


class CountingEncoder(Encoder):
    """Leaves a mark in a file for each image that it computes, in whatever process."""

    def __init__(self, marks: Path, seconds: float = 0.0) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            super().__init__("resnet18")
        self.marks = marks
        self.seconds = seconds
        self.computed()

    def crop_features(self, crops: torch.Tensor) -> torch.Tensor:
        time.sleep(self.seconds)
        with self.marks.open("a") as stream:
            stream.write("." * len(torch.unique(crops.flatten(1), dim=0)))  # a last batch is filled up
        return super().crop_features(crops)

    def computed(self) -> int:
        """How many images were computed since this was last asked."""
        count = len(self.marks.read_text()) if self.marks.exists() else 0
        self.marks.write_text("")
        return count


@pytest.fixture
def encoder(tmp_path):
    return CountingEncoder(tmp_path / "marks")


@pytest.fixture
def paths(tmp_path):
    return [Path(shutil.copy(photo, tmp_path)) for photo in sorted(PHOTOS.glob("*.jpg"))[:7]]


def extract(encoder, paths, folder, trainer=TRAINER, crop_size=48, batch_size=3, num_workers=0, short_side=None):
    return extract_features(
        encoder,
        paths,
        trainer=trainer,
        cache_dir=folder,
        crop_size=crop_size,
        crops=5,
        batch_size=batch_size,
        num_workers=num_workers,
        short_side=short_side,
    )


def test_rows_are_the_images_in_their_order(encoder, paths, tmp_path):
    features = extract(encoder, paths, tmp_path / "cache")
    assert features.shape == (7, 5, 1024)
    assert features.dtype == np.float32
    with torch.no_grad():
        for row in range(7):
            crops = ImageCrops(paths, crop_size=48, crops=5)[row][1]
            wanted = encoder.eval().crop_features(crops[None])[0]
            np.testing.assert_allclose(features[row], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


def test_cache_is_used_until_something_changes(encoder, paths, tmp_path):
    paths, folder = paths[:4], tmp_path / "cache"
    first = np.array(extract(encoder, paths, folder))
    assert encoder.computed() == 4
    np.testing.assert_array_equal(extract(encoder, paths, folder), first)
    assert encoder.computed() == 0  # read

    def changed(images=paths, **settings) -> bool:
        other = extract(encoder, images, folder, **settings)
        return encoder.computed() == 4 and not np.array_equal(other, first)

    with torch.no_grad():
        encoder.trunk.conv1.weight[0, 0, 0, 0] += 0.1
    assert changed()
    assert changed(paths[::-1])
    assert changed(crop_size=56)
    assert changed(short_side=100)
    assert changed(trainer=functools.partial(TRAINER, precision="bf16-mixed"))
    os.utime(paths[0], (1, 1))
    assert changed()
    assert len(list(folder.iterdir())) == 7


def test_two_processes_share_the_images(encoder, paths, tmp_path):
    both = functools.partial(lightning.Trainer, accelerator="cpu", devices=2, strategy="ddp_spawn")
    shared = extract(encoder, paths, tmp_path / "two", trainer=both)
    assert encoder.computed() == 7  # an odd number: no image twice, none left out
    alone = extract(encoder, paths, tmp_path / "one")
    np.testing.assert_array_equal(shared, alone)
    splits = [Split(np.arange(3), np.array([3, 4]), np.array([5, 6]))]
    fits = [regress(features, np.arange(7.0), splits, [1e-3], label="test").weight for features in (shared, alone)]
    torch.testing.assert_close(*fits, rtol=0, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_gpu_gives_the_features_of_the_cpu(encoder, paths, tmp_path, precision):
    gpu = functools.partial(lightning.Trainer, accelerator="gpu", devices=1, precision=precision)
    found = extract(encoder, paths, tmp_path / "gpu", trainer=gpu)
    cosines = (found * extract(encoder.cpu(), paths, tmp_path / "cpu")).sum(2) / 2  # of two halves of length 1
    assert cosines.min() > 0.999


def test_a_shortened_trainer_does_not_shorten_the_cache(encoder, paths, tmp_path):
    hasty = functools.partial(TRAINER, fast_dev_run=True, limit_predict_batches=1)
    assert not len(broken_rows(extract(encoder, paths, tmp_path / "cache", trainer=hasty)))


_SLOWLY = """
import sys
from pathlib import Path
from tests.quality.test_features import CountingEncoder, extract
marks, folder, *paths = map(Path, sys.argv[1:])
extract(CountingEncoder(marks, seconds=1), paths, folder, batch_size=1)
"""


def test_a_command_goes_on_where_a_killed_one_stopped(encoder, paths, tmp_path, caplog):
    """The second command waits for the first, which is killed meanwhile: the kernel hands the file over.

    The first is stopped in its fourth image, so that it still holds the file however slowly the second one starts.
    """
    marks, folder = tmp_path / "slow marks", tmp_path / "cache"
    first = subprocess.Popen([sys.executable, "-c", _SLOWLY, marks, folder, *paths])
    while first.poll() is None and not (marks.exists() and len(marks.read_text()) >= 4):
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)

    def kill_once_waited_for() -> None:
        while "Waiting for another command" not in caplog.text:
            time.sleep(0.01)
        first.kill()

    threading.Thread(target=kill_once_waited_for, daemon=True).start()
    try:
        with caplog.at_level("INFO"):
            features = extract(encoder, paths, folder)
    finally:
        first.kill()
    assert first.wait() == -signal.SIGKILL
    assert "Waiting for another command" in caplog.text
    assert 3 <= 7 - encoder.computed() <= 4  # the fourth may have been in the works
    assert not len(broken_rows(features))
    np.testing.assert_allclose(features, extract(encoder, paths, tmp_path / "undisturbed"), atol=1e-6)


def test_half_a_row_is_not_a_row(encoder, paths, tmp_path):
    """Neither are zeros, which a file system may leave where a machine lost its power, nor other numbers."""
    wanted = np.array(extract(encoder, paths, tmp_path / "cache"))
    (file,) = (tmp_path / "cache").iterdir()
    stored = open_memmap(file, mode="r+")
    stored[5, 3:] = np.nan
    stored[2, 4, 512:] = 0
    stored[0, 0, 9] = 3e38
    encoder.computed()
    np.testing.assert_allclose(extract(encoder, paths, tmp_path / "cache"), wanted, atol=1e-6)
    assert encoder.computed() == 3


@pytest.mark.parametrize("damage", ["cut", "shape", "text"])
def test_a_damaged_cache_is_made_anew_and_says_so(encoder, paths, tmp_path, damage, caplog):
    wanted = np.array(extract(encoder, paths, tmp_path / "cache"))
    (file,) = (tmp_path / "cache").iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-4])
    elif damage == "shape":
        with file.open("wb") as stream:
            np.save(stream, wanted[:5])
    else:
        file.write_text("no array")
    encoder.computed()
    np.testing.assert_array_equal(extract(encoder, paths, tmp_path / "cache"), wanted)
    assert encoder.computed() == 7
    assert f"Wanted float32 (7, 5, 1024) in the feature cache {file}, found" in caplog.text


def test_an_unreadable_image_is_named_in_a_sentence_from_a_worker_too(encoder, paths, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("no image")
    caught = []
    for _ in range(2):  # a traceback that somebody keeps does not keep the file
        with pytest.raises(InputError) as error:
            extract(encoder, [*paths[:3], broken], tmp_path / "cache", num_workers=1)
        caught.append(error)
        assert str(error.value).startswith(f"Wanted an image, could not decode {broken}")
        assert "Traceback" not in str(error.value)


def test_features_that_are_nan_name_their_images_and_are_no_cache(encoder, paths, tmp_path):
    with torch.no_grad():
        encoder.trunk.bn1.weight.fill_(torch.nan)
    for _ in range(2):
        with pytest.raises(InputError, match=rf"for 4 of 4 images \({paths[0]}, .*{paths[2]}, …\)"):
            extract(encoder, paths[:4], tmp_path / "cache")
        assert encoder.computed() == 4
