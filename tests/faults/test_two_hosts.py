"""Two hosts that train and regress together, and a network that fails in between. Needs root, for the namespaces."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from arniqa_pl.quality import Scorer
from arniqa_pl.tracking.journal import Journal
from tests.faults.hosts import Hosts, end
from tests.test_entries import run

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

PATIENCE = 30  # s: more than the hosts start apart on a busy machine
TRAINING = (
    "experiment=demo",
    "encoder.weights=none",
    "data.samples_per_epoch=96",
    "data.batch_size=4",
    "data.crop_size=32",
    "data.validation_pairs=4",
    "database=[]",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    f"trainer.strategy.timeout.seconds={PATIENCE}",
    "callbacks.best.monitor=val/retrieved",
    "callbacks.restart.every_n_steps=2",
)


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    hosts = Hosts()
    try:
        hosts.build()
    except (OSError, subprocess.CalledProcessError) as error:
        hosts.remove()
        pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
    yield hosts
    hosts.remove()


def finish(processes: list[subprocess.Popen]) -> None:
    for code, output in end(processes, 300):
        assert code == 0, output


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def losses(run: Path) -> list[tuple[int, float]]:
    """The step and the loss of each, the last one where a step was taken again."""
    return sorted(dict(Journal(run).story().metrics["train/loss"]).items())


def test_a_run_that_loses_a_host_ends_and_continues_as_if_nothing_had_been(hosts, small_data, tmp_path):
    data = f"paths.data_dir={small_data}"
    finish(hosts.start(tmp_path, "train", *TRAINING, data, "hydra.run.dir=runs/whole"))

    processes = hosts.start(tmp_path, "train", *TRAINING, data, "hydra.run.dir=runs/broken")
    checkpoint = tmp_path / "runs/broken/checkpoints/last.ckpt"
    while not checkpoint.exists() and not any(process.poll() for process in processes):
        time.sleep(0.05)
    hosts.pull()
    for code, output in end(processes, 3 * PATIENCE):
        assert code != 0, output
        assert "Wanted an answer from the other processes of this command, found none" in output
        assert "resume=<folder of the run>" in output
        assert 'File "' not in output.split("ChildFailedError")[0].split("Wanted an answer")[0]  # no traceback of ours
    assert Journal(tmp_path / "runs/broken").story().status == "FAILED"
    assert 0 < len(losses(tmp_path / "runs/broken")) < 24

    hosts.plug()
    finish(hosts.start(tmp_path, "train", "resume=runs/broken"))
    whole, broken = weights(tmp_path / "runs/whole"), weights(tmp_path / "runs/broken")
    assert whole.keys() == broken.keys()
    assert not [name for name in whole if not torch.equal(whole[name], broken[name])]
    assert losses(tmp_path / "runs/whole") == losses(tmp_path / "runs/broken")
    assert len(losses(tmp_path / "runs/whole")) == 24  # 2 epochs of 96 pairs, 2 × 4 at a time


def test_two_hosts_regress_as_one_process(hosts, small_data, small_checkpoints, tmp_path):
    settings = (
        f"checkpoint={small_checkpoints[0]}",
        f"paths.data_dir={small_data}",
        "features.crop_size=64",
        "features.num_workers=0",
        "features.batch_size=7",
        "ridge.num_splits=3",
        "trainer.precision=32-true",
    )
    places = [(f"features.cache_dir={name}", f"hydra.run.dir=runs/{name}") for name in ("two", "one")]
    finish(hosts.start(tmp_path, "regress", *settings, *places[0]))
    run(tmp_path, "regress", *settings, *places[1], "trainer.accelerator=cpu")
    (two,), (one,) = (list((tmp_path / name).glob("*.npy")) for name in ("two", "one"))
    assert two.name == one.name
    np.testing.assert_array_equal(np.load(two), np.load(one))
    shared, alone = (Scorer.load(tmp_path / f"runs/{name}/kadid10k.safetensors") for name in ("two", "one"))
    assert shared.scale.alpha == alone.scale.alpha
    torch.testing.assert_close(shared.ridge.weight, alone.ridge.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(shared.ridge.bias, alone.ridge.bias, rtol=0, atol=1e-6)
