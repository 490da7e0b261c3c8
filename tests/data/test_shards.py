import copy
import hashlib
import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.loading import EpochSampler
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
        line = [self.current_epoch, batch_idx, self.global_rank, *batch.key, digest(batch.crops)]
        with (self.folder / f"{self.global_rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return self.layer(batch.crops.flatten()[:32]).sum()

    def val_dataloader(self):
        return []


def digest(crops: torch.Tensor) -> str:
    return hashlib.sha256(crops.contiguous().numpy().tobytes()).hexdigest()


def fit(data: PretrainingData, folder: Path, resume: Path | None = None, **trainer) -> None:
    """Fit a tiny model, which writes down what it is shown: degraded and normalised crops."""
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": "callbacks" in trainer}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    lightning.Trainer(**settings | quiet | trainer).fit(Witness(folder), data, ckpt_path=resume)


def fit_interrupted(shards: Path, folder: Path, step: int, *, num_workers: int = 0, **trainer) -> None:
    """Fit up to a step in the middle of an epoch, then from its checkpoint to the end, as the next command would."""
    first, second = (make_data(PhotoShards(str(shards)), num_workers=num_workers) for _ in range(2))
    fit(
        first,
        folder,
        max_steps=step,
        callbacks=[ModelCheckpoint(folder, "stopped", every_n_train_steps=step)],
        **trainer,
    )
    fit(second, folder, folder / "stopped.ckpt", **trainer)


def fit_as_rank(rank: int, port: int, shards: Path, folder: Path) -> None:
    """One of two processes that train together; Lightning starts none where these variables are set."""
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fit_interrupted(shards, folder, 4, devices=2, strategy="ddp")  # 3 steps are an epoch


def witnessed(folder: Path) -> list:
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return sorted(json.loads(line) for line in lines)


def wanted(photos: PhotoFiles, ranks: int) -> list:
    """What two epochs show to each rank, from the files and without any trainer."""
    lines = []
    for rank in range(ranks):
        data = make_data(photos)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
        loader = data.train_dataloader()
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            for step, batch in enumerate(loader):
                lines.append([epoch, step, rank, *batch.key, digest(data.degrade(batch).crops)])
    return sorted(lines)


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
    for folder in ("files", "shards"):
        (tmp_path / folder).mkdir()
    fit(make_data(photos), tmp_path / "files")
    fit_interrupted(shards, tmp_path / "shards", step=4, num_workers=2)  # 6 steps are an epoch
    assert witnessed(tmp_path / "files") == witnessed(tmp_path / "shards") == wanted(photos, ranks=1)
    assert len(wanted(photos, ranks=1)) == 12


def test_two_ranks_see_their_shares_of_it_across_an_interruption(photos, shards, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(fit_as_rank, (port, shards, tmp_path), nprocs=2)
    seen = witnessed(tmp_path)
    assert seen == wanted(photos, ranks=2)
    assert [line[2] for line in seen] == [0, 1] * 6
    # The same samples as one process sees, each once.
    alone = [tuple(key) for key in EpochSampler(range(12), num_replicas=1, rank=0, seed=27)]
    assert {tuple(line[3:5]) for line in seen if line[0] == 0} <= set(alone)


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
