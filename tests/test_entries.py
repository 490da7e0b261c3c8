"""Each entry through its real command line, on real files and a real MLflow store."""

import importlib.metadata
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import lightning
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from arniqa_pl.data.splits import draw_splits
from arniqa_pl.models import Encoder
from arniqa_pl.models.encoder import load_encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.regression import regress

TINY = (
    "data.samples_per_epoch=8",
    "data.batch_size=4",
    "data.crop_size=64",
    "data.cache_images=0",
    "data.validation_pairs=4",
    "features.crop_size=64",
    "ridge.num_splits=3",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)


def run(folder: Path, verb: str, *overrides: str, code: int = 0, **environment: str) -> str:
    """Run an entry in a folder; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"arniqa_pl.{verb}", *overrides],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    return output


def start(folder: Path, *overrides: str) -> subprocess.Popen:
    """Start a small training run in a folder; return once it has taken a step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "arniqa_pl.train", "experiment=demo", "hydra.run.dir=runs/first", *TINY, *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = folder / "runs/first/metrics.jsonl"
    while process.poll() is None and not (lines.exists() and "train/loss" in lines.read_text()):
        time.sleep(0.05)
    return process


@pytest.fixture(scope="module")
def trained(small_data, tmp_path_factory) -> tuple[Path, str]:
    """A folder with a small training run in runs/first, and what the command printed that finished it.

    The command that began it was asked to leave after a step; so all tests of this run are tests of resuming, too.
    """
    folder = tmp_path_factory.mktemp("work")
    process = start(folder, f"paths.data_dir={small_data}")
    process.send_signal(signal.SIGTERM)
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGTERM, printed
    assert f"Continue with resume={folder}/runs/first" in printed
    assert not (folder / "runs/first/results.csv").exists()
    return folder, run(folder, "train", "resume=runs/first")


def test_a_resumed_run_stays_in_its_folder_and_keeps_its_first_log(trained):
    folder, output = trained
    assert "Continuing" in output
    assert (folder / "runs/first/checkpoints/last.ckpt").exists()
    assert len(list(folder.glob("runs/first/resumed/*/train.log"))) == 1
    assert {path.name for path in (folder / "runs").iterdir()} >= {"first", "mlflow.db"}
    assert not (folder / "runs/pretraining").exists()
    assert "experiment=demo" in (folder / "runs/first/.hydra/overrides.yaml").read_text()


def test_a_place_that_cannot_be_opened_is_told_in_a_sentence(small_data, tmp_path):
    (tmp_path / "list.txt").mkdir()
    photos = f"input={small_data}/KADIS700/ref_imgs"
    printed = run(tmp_path, "prepare", "photos", photos, "output=list.txt", "screening.num_workers=0", code=1)
    assert "Traceback" not in printed
    assert "Wanted to open list.txt, could not: Is a directory." in printed


def test_stopped_from_the_keyboard_a_command_says_so_and_no_more(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "arniqa_pl.prepare", "output=demo"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        while process.poll() is None and not (tmp_path / "demo" / "KADIS700").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGINT, printed  # which ends a loop of a shell, too
    assert "Stopped before the end; what was finished is kept." in printed
    assert "Traceback" not in printed


def test_a_run_whose_second_rank_dies_ends_and_says_so(small_data, tmp_path):
    two = ("trainer.accelerator=cpu", "trainer.devices=2", "data.samples_per_epoch=400")
    process = start(tmp_path, f"paths.data_dir={small_data}", *two)
    (second,) = [child for child in psutil.Process(process.pid).children() if "arniqa_pl.train" in child.cmdline()]
    second.kill()
    printed, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    # Which comes first: the first rank's next message to the second one, or Lightning's look at its processes.
    assert re.search(rf"PID {second.pid} terminated with code -9|Connection (closed|reset) by peer", printed), printed


def test_ranks_without_a_best_checkpoint_regress_on_one_encoder(small_data, tmp_path):
    """Batch-norm statistics, which each rank gathers for itself, are part of what the features' cache goes by."""
    two = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.max_epochs=1", "callbacks.best=null")
    start = ("experiment=demo", "hydra.run.dir=runs/two", f"paths.data_dir={small_data}")
    run(tmp_path, "train", *start, *TINY, *two, "+trainer.limit_val_batches=0", OMP_NUM_THREADS="1")
    assert pd.read_csv(tmp_path / "runs/two/results.csv").encoder.tolist() == ["pre-trained", "untrained"]


def test_training_prints_one_table_beside_the_untrained_encoder(trained):
    folder, output = trained
    assert "pre-trained" in output
    assert "untrained" in output
    frame = pd.read_csv(folder / "runs/first/results.csv")
    assert frame["encoder"].tolist() == ["pre-trained", "untrained"]
    assert frame["database"].tolist() == ["kadid10k"] * 2
    assert (frame["splits"] == 3).all()
    assert frame["srcc"].between(0.2, 1).all()
    assert f"{frame['srcc'][0]:.3f} ± {frame['srcc_std'][0]:.3f}" in output
    markdown = (folder / "runs/first/results.md").read_text()
    assert f"{frame['srcc'][0]:.3f} ± {frame['srcc_std'][0]:.3f}" in markdown
    assert f"Splits of kadid10k: drawn, digest {frame['split_digest'][0]}." in markdown
    assert "it/s" in output  # progress has a rate
    assert "Traceback" not in output


def test_training_changes_the_encoder_and_keeps_the_best(trained):
    folder, _ = trained
    kept = load_encoder(folder / "runs/first")
    scorer = Scorer.load(folder / "runs/first/kadid10k.safetensors")
    for name, value in kept.state_dict().items():
        assert torch.equal(value, scorer.encoder.state_dict()[name]), name


def test_run_is_tracked_with_what_it_takes_to_repeat_it(trained):
    folder, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("demo")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.info.status == "FINISHED"
    assert tracked.info.run_name == "first"  # the run's folder
    assert "| SRCC |" in tracked.data.tags["mlflow.note.content"]
    assert tracked.data.params["data/batch_size"] == "4"
    assert tracked.data.params["encoder/name"] == "mobilenet_v2"
    assert tracked.data.tags["version.torch"] == importlib.metadata.version("torch")
    frame = pd.read_csv(folder / "runs/first/results.csv")
    assert tracked.data.metrics["test/kadid10k/srcc"] == pytest.approx(frame["srcc"][0])
    assert tracked.data.metrics["untrained/kadid10k/srcc"] == pytest.approx(frame["srcc"][1])
    assert len(client.get_metric_history(tracked.info.run_id, "train/loss")) == 4
    assert len(client.get_metric_history(tracked.info.run_id, "val/kadid10k/srcc")) == 2
    for name in (
        "train/crops_per_second",
        "train/positive_similarity",
        "val/srcc",
        "train/lr",
        "train/data_wait",
        "train/alignment",
        "train/gradient_norm",
        "val/retrieved",
        "minutes",
    ):
        assert name in tracked.data.metrics
    assert {each.dataset.name for each in tracked.inputs.dataset_inputs} == {"pristine", "kadid10k"}
    assert all(each.dataset.digest for each in tracked.inputs.dataset_inputs)
    artifacts = {
        item.path
        for folder_name in ("", "figures", "scorers")
        for item in client.list_artifacts(tracked.info.run_id, folder_name)
        if not item.is_dir
    }
    assert artifacts == {
        "config.yaml",
        "report.html",
        "results.json",
        "results.md",
        "results.xlsx",
        "results.csv",
        "results_by_type.csv",
        "results_by_group.csv",
        "results_by_type.json",
        "results_by_group.json",
        "figures/degraded_pairs.png",
        "figures/kadid10k_best.png",
        "figures/kadid10k_groups.png",
        "figures/kadid10k_manifold.png",
        "figures/kadid10k_predictions.png",
        "figures/kadid10k_types.png",
        "figures/kadid10k_worst.png",
        "scorers/kadid10k.safetensors",
    }


def test_git_revision_is_recorded_inside_a_checkout(trained):
    folder, _ = trained
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    root = Path(__file__).parents[1]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
    assert tracked.data.tags["mlflow.source.git.commit"] == head.stdout.strip()


def test_regression_on_its_own_repeats_the_result_of_training(trained, small_data):
    folder, _ = trained
    shared = [each for each in TINY if each.startswith(("features", "ridge"))]
    run(
        folder,
        "regress",
        "checkpoint=runs/first",
        f"paths.data_dir={small_data}",
        "hydra.run.dir=runs/second",
        "features.crops=1",
        "features.num_workers=0",
        *shared,
    )
    first, second = (pd.read_csv(folder / f"runs/{name}/results.csv") for name in ("first", "second"))
    assert second.iloc[0].to_dict() == pytest.approx(first.iloc[0].to_dict(), nan_ok=True)


def test_three_processes_regress_as_one(demo_data, tmp_path):
    encoder = Encoder("resnet18")
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    torch.save({"encoder": "resnet18", "state_dict": state}, tmp_path / "a.ckpt")
    table = pd.read_csv(demo_data / "KADID10K/dmos.csv")[::11][:40]  # no multiple of three
    images = [str(demo_data / "KADID10K/images" / name) for name in table["dist_img"]]
    table = pd.DataFrame({"image": images, "score": table["dmos"], "group": np.arange(40) // 4})
    table.to_csv(tmp_path / "own.csv", index=False)
    output = run(
        tmp_path,
        "regress",
        "checkpoint=a.ckpt",
        "database=csv",
        "databases.csv.path=own.csv",
        "hydra.run.dir=runs/three",
        "features.crop_size=64",
        "features.num_workers=0",
        "features.batch_size=4",
        "features.cache_dir=shared",
        "ridge.num_splits=3",
        "trainer.accelerator=cpu",
        "trainer.devices=3",
        "trainer.precision=32-true",
        OMP_NUM_THREADS="1",
    )
    trainer = partial(lightning.Trainer, accelerator="cpu", devices=1)
    alone = extract_features(
        encoder,
        [Path(image) for image in images],
        trainer=trainer,
        cache_dir=tmp_path / "alone",
        crop_size=64,
        crops=5,
        batch_size=4,
        num_workers=0,
    )
    (shared,), (file,) = (tmp_path / "shared").iterdir(), (tmp_path / "alone").iterdir()
    assert shared.name == file.name
    np.testing.assert_array_equal(np.load(shared), alone)
    scores, splits = table["score"].to_numpy(), draw_splits(table["group"].tolist(), 3, 27)
    wanted = regress(alone, scores, splits, np.geomspace(1e-3, 1e3, 100).tolist(), label="alone")
    scorer = Scorer.load(tmp_path / "runs/three/csv.safetensors")
    assert scorer.scale.alpha == wanted.alpha
    np.testing.assert_allclose(scorer.ridge.weight[0], wanted.weight, rtol=0, atol=1e-6)
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("regression").experiment_id])
    assert tracked.info.status == "FINISHED"
    assert output.count("Features of 40 images") == 1  # of three processes, one speaks


def test_own_images_and_scores_need_no_code(trained, small_data):
    folder, _ = trained
    run(
        folder,
        "regress",
        "checkpoint=runs/first",
        "database=csv",
        f"databases.csv.path={small_data}/KADID10K/own.csv",
        "databases.csv.higher_is_better=false",
        "databases.csv.name=mine",
        "hydra.run.dir=runs/own",
        "features.crops=1",
        "features.num_workers=0",
        *[each for each in TINY if each.startswith(("features", "ridge"))],
    )
    scorer = Scorer.load(folder / "runs/own/csv.safetensors")
    assert scorer.scale.database == "mine"
    scores = pd.read_csv(small_data / "KADID10K/own.csv")["score"]
    assert scorer.scale.seen == (scores.min(), scores.max())


def test_mistakes_are_told_in_sentences(trained, small_data, tmp_path):
    folder, _ = trained
    output = run(tmp_path, "train", "experiment=kadid", code=1)
    assert "Wanted KADID-10k in data/KADID10K/" in output
    assert f"Wanted pristine photographs for pre-training in {tmp_path}/data/KADIS700/ref_imgs, found none" in output
    assert output.count("https://database.mmsp-kn.de/") == 2
    assert "Traceback" not in output
    images = f"input={small_data}/KADID10K/images"
    assert "found no gone.safetensors" in run(folder, "predict", "scorer=gone.safetensors", images, code=1)
    scorer = "scorer=runs/first/kadid10k.safetensors"
    assert "Wanted images to score in gone, found none" in run(folder, "predict", scorer, "input=gone", code=1)
    regress = ("regress", f"checkpoint={tmp_path}", f"paths.data_dir={small_data}")
    assert f"no {tmp_path}/checkpoints/best.ckpt" in run(folder, *regress, code=1)
    assert "Wanted database=<name> or a list of names, found none" in run(folder, *regress, "database=[]", code=1)


def test_a_training_needs_no_labels(small_data, tmp_path):
    settings = ("experiment=demo", "database=[]", f"paths.data_dir={small_data}", "hydra.run.dir=runs/free", *TINY)
    output = run(tmp_path, "train", *settings, code=1)
    assert "found none: add database=<name>, or choose without labels: callbacks.best.monitor=val/retrieved" in output
    assert "srcc" not in run(tmp_path, "train", *settings, "callbacks.best.monitor=val/retrieved")
    assert (tmp_path / "runs/free/checkpoints/best.ckpt").is_file()


def test_paper_settings_run_on_the_demo_layout(small_data, tmp_path):
    output = run(
        tmp_path,
        "train",
        "experiment=kadid",
        f"paths.data_dir={small_data}",
        "hydra.run.dir=runs/paper",
        "encoder.weights=none",
        "data.num_workers=0",
        "features.num_workers=0",
        "features.crops=1",
        "data.batch_size=16",
        "data.validation_pairs=16",
        "features.crop_size=64",
        "trainer.max_epochs=1",
        "data.crop_size=64",
        "ridge.num_splits=2",
    )
    frame = pd.read_csv(tmp_path / "runs/paper/results.csv")
    assert frame["encoder"].tolist() == ["pre-trained", "untrained"], output
    assert load_encoder(tmp_path / "runs/paper").name == "resnet50"
