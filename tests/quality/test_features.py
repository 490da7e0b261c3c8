import functools
import os

import lightning
import numpy as np
import pytest
import torch

from arniqa_pl.data.databases import kadid10k
from arniqa_pl.data.datasets import ImageCrops
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.quality.features import extract_features

TRAINER = functools.partial(lightning.Trainer, accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder("resnet18")


def extract(encoder, paths, folder, trainer=TRAINER, crop_size=48):
    return extract_features(
        encoder, paths, trainer=trainer, cache_dir=folder, crop_size=crop_size, crops=5, batch_size=3, num_workers=0
    )


def test_rows_are_the_images_in_their_order(demo_data, encoder, tmp_path):
    paths = kadid10k.read(str(demo_data / "KADID10K")).paths[:7]
    features = extract(encoder, paths, tmp_path)
    assert features.shape == (7, 5, 1024)
    assert features.dtype == np.float32
    with torch.no_grad():
        for row in range(7):
            crops = ImageCrops(paths, crop_size=48, crops=5)[row][1]
            wanted = encoder.eval().crop_features(crops[None])[0]
            np.testing.assert_allclose(features[row], wanted, atol=1e-5)
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


def test_cache_is_used_until_something_changes(demo_data, encoder, tmp_path):
    paths = kadid10k.read(str(demo_data / "KADID10K")).paths[:4]

    def files() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    extract(encoder, paths, tmp_path)
    (first,) = files()
    (tmp_path / first).write_bytes((tmp_path / first).read_bytes()[:-4] + np.float32(7).tobytes())
    assert extract(encoder, paths, tmp_path)[-1, -1, -1] == 7  # read, not computed
    with torch.no_grad():
        encoder.trunk.conv1.weight[0, 0, 0, 0] += 1e-3
    extract(encoder, paths, tmp_path)
    assert len(files()) == 2
    extract(encoder, paths[::-1], tmp_path)
    assert len(files()) == 3
    extract(encoder, paths, tmp_path, crop_size=56)
    assert len(files()) == 4
    os.utime(paths[0], (1, 1))
    extract(encoder, paths, tmp_path)
    assert len(files()) == 5
    extract(encoder, paths, tmp_path, trainer=functools.partial(TRAINER, precision="bf16-mixed"))
    assert len(files()) == 6
    assert all(name.endswith(".npy") for name in files())


def test_two_processes_share_the_images(demo_data, encoder, tmp_path):
    paths = kadid10k.read(str(demo_data / "KADID10K")).paths[:5]  # an odd number: no image twice, none left out
    both = functools.partial(lightning.Trainer, accelerator="cpu", devices=2, strategy="ddp_spawn")
    np.testing.assert_allclose(
        extract(encoder, paths, tmp_path / "two", trainer=both), extract(encoder, paths, tmp_path / "one"), atol=1e-5
    )


def test_a_shortened_trainer_does_not_shorten_the_cache(demo_data, encoder, tmp_path):
    paths = kadid10k.read(str(demo_data / "KADID10K")).paths[:7]
    hasty = functools.partial(TRAINER, fast_dev_run=True, limit_predict_batches=1)
    np.testing.assert_array_equal(
        extract(encoder, paths, tmp_path / "hasty", trainer=hasty), extract(encoder, paths, tmp_path / "whole")
    )


def test_features_that_are_nan_are_no_cache(demo_data, tmp_path):
    paths = kadid10k.read(str(demo_data / "KADID10K")).paths[:4]
    broken = Encoder("resnet18")
    with torch.no_grad():
        broken.trunk.bn1.weight.fill_(torch.nan)
    with pytest.raises(InputError, match="Wanted features of 4 images, 4 are NaN"):
        extract(broken, paths, tmp_path)
    assert not list(tmp_path.iterdir())
