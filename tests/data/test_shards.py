import copy
import hashlib
import json
import socket
from pathlib import Path

import lightning
import numpy as np
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.pristine import PhotoFiles, find_photos
from arniqa_pl.data.shards import PhotoShards, write_shards
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.errors import InputError


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> PhotoFiles:
    """Ten small photographs in three formats; the fourth is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number in range(10):
        image = Image.fromarray(noise.integers(0, 256, (60, 80, 3), np.uint8)).resize((160, 120))
        file = folder / f"{number}.{('png', 'jpg', 'webp')[number % 3]}"
        image.save(file)
        if number == 3:
            file.write_bytes(file.read_bytes()[:2000])
    return find_photos(str(folder))


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory) -> Path:
    """The photographs in three shards or more, packed by two processes without a network."""
    output = tmp_path_factory.mktemp("packed") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", offline)
        patch.setattr(socket, "create_connection", offline)
        write_shards(photos, str(output), shard_bytes=60_000, num_workers=2)
    assert len(list(output.glob("*.bin"))) >= 3
    return output


def offline(*args: object, **kwargs: object) -> None:
    raise AssertionError("litdata reached for the network")


def make_data(photos, **changes) -> PretrainingData:
    settings = {
        "degradation": DegradationModel(),
        "databases": {},
        "crop_size": 32,
        "padding": "zeros",
        "batch_size": 2,
        "samples_per_epoch": 12,
        "partner": "other",
        "half_scale": "independent",
        "num_workers": 0,
        "unreadable": "replace",
        "cache_images": 0,
        "validation_crop_size": 32,
        "validation_crops": 1,
        "validation_pairs": 0,
        "seed": 27,
    }
    return PretrainingData(photos=photos, **settings | changes)


class Witness(BoringModel):
    """Writes down which crops it is shown, by rank, epoch and step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def training_step(self, batch, batch_idx):
        digest = hashlib.sha256(batch.crops.contiguous().numpy().tobytes()).hexdigest()
        line = [self.current_epoch, batch_idx, self.global_rank, *batch.key, digest]
        with (self.folder / f"{self.global_rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return self.layer(batch.crops.flatten()[:32]).sum()

    def val_dataloader(self):
        return []


def witnessed(data: PretrainingData, folder: Path, **trainer) -> list:
    """Fit a tiny model and return what it was shown: degraded and normalised crops."""
    folder.mkdir()
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    fit = lightning.Trainer(**settings | quiet | trainer)
    fit.fit(Witness(folder), data)
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return sorted(json.loads(line) for line in lines)


def test_shards_hold_the_files_as_they_are(photos, shards):
    packed = PhotoShards(str(shards))
    assert len(packed) == len(photos) == 10
    for index in (9, 0, 4, 5, 1):  # in any order
        assert packed[index].tobytes() == photos[index].tobytes()
    with pytest.raises(InputError, match=r"could not decode 3\.png in .*shards"):
        packed[3]
    assert packed.table()["photos"].sum() == 10
    assert list(packed.table()["bytes"]) == [(shards / name).stat().st_size for name in packed.table()["image"]]


def test_a_run_from_shards_sees_what_a_run_from_files_sees(photos, shards, tmp_path):
    from_files = witnessed(make_data(photos), tmp_path / "files")
    from_shards = witnessed(make_data(PhotoShards(str(shards)), num_workers=2), tmp_path / "shards")
    assert from_files == from_shards
    assert len(from_files) == 12


def test_two_ranks_see_what_one_sees(photos, shards, tmp_path):
    two = {"devices": 2, "strategy": "ddp_spawn", "max_epochs": 1}
    from_files = witnessed(make_data(photos), tmp_path / "files", **two)
    from_shards = witnessed(make_data(PhotoShards(str(shards))), tmp_path / "shards", **two)
    assert from_files == from_shards
    assert [line[2] for line in from_shards] == [0, 1] * 3
    alone = make_data(PhotoShards(str(shards)), batch_size=1).train_dataloader()
    digests = {tuple(sample.key): sample.crops for sample in alone}
    assert {tuple(line[3:5]) for line in from_shards} <= set(digests)


def test_other_items_are_not_unpickled(shards, tmp_path):
    index = json.loads((shards / "index.json").read_text())
    foreign = copy.deepcopy(index)
    foreign["config"]["data_format"] = ["pickle", "bytes"]
    (tmp_path / "index.json").write_text(json.dumps(foreign))
    with pytest.raises(InputError, match=r"found items of \['pickle', 'bytes'\]"):
        PhotoShards(str(tmp_path))


def test_what_is_missing_or_in_the_way_is_said(photos, shards, tmp_path):
    with pytest.raises(InputError, match=r"found no index\.json there: .*prepare shards"):
        PhotoShards(str(tmp_path))
    with pytest.raises(InputError, match="Wanted a new folder for shards"):
        write_shards(photos, str(shards), shard_bytes=1000, num_workers=1)
