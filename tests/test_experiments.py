"""Every experiment from end to end on the replicas, in miniature: one step, one validation batch, every database."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from arniqa_pl import train
from arniqa_pl.composition import CONFIG_DIR
from arniqa_pl.tracking.journal import Journal
from tests.test_configs import EXPERIMENTS, composed

SMALL = (
    "encoder.weights=none",
    "data.batch_size=2",
    "data.samples_per_epoch=2",
    "data.crop_size=32",
    "data.num_workers=0",
    "data.validation_pairs=2",
    "features.crop_size=32",
    "features.crops=1",
    "features.num_workers=0",
    "ridge.num_splits=2",
    "ridge.alphas.num=3",
    "callbacks.progress=null",
    "trainer.accelerator=cpu",
    "trainer.precision=32-true",
    "+trainer.fast_dev_run=true",
)


def last_job(experiment: str) -> list[str]:
    """The last value of what an experiment sweeps over; nothing if it is a single run."""
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        sweeper = compose("train", [f"experiment={experiment}"], return_hydra_config=True).hydra.sweeper
    return [f"{key}={str(values).split(',')[-1]}" for key, values in (sweeper.params or {}).items()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_on_the_replicas(experiment, replicas, folder, monkeypatch):
    monkeypatch.chdir(folder)
    changed, run = last_job(experiment), Path("runs") / experiment
    places = (f"paths.data_dir={replicas}", f"photos.source={replicas}/KADID10K/images", f"paths.run_dir={run}")
    small = [] if any(each.startswith("encoder.name") for each in changed) else ["encoder.name=resnet18"]
    # What a sweep changes is all about pre-training; its databases are those of kadid, which is here as well.
    # Without one, the best epoch is chosen where the experiment does so without labels.
    databases = ["database=[]"] if changed else []
    words = [f"experiment={experiment}", *SMALL, *small, *places, *changed, *databases]
    cfg = composed("train", *words)
    if not cfg.databases and cfg.callbacks.best.monitor == "val/srcc":
        cfg = composed("train", *words, "callbacks.best=null")
    train.main.__wrapped__(cfg)
    assert (run / "results.csv").is_file() == bool(cfg.databases)
    assert Journal(run).story().status == "FINISHED"
