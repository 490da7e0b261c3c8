"""Sweeps through the real command line: every launcher and sweeper, a job that fails, and going on afterwards."""

import json
from pathlib import Path

import mlflow
import pandas as pd
import pytest

from arniqa_pl.errors import InputError
from arniqa_pl.sweeps import continued
from tests.test_entries import TINY, run

SWEEP = (
    "-m",
    "experiment=demo",
    "encoder.name=resnet18",
    "encoder.weights=none",
    "callbacks.pair_grid=null",
    "trainer.max_epochs=1",
    *(each for each in TINY if "max_epochs" not in each and "crop_size" not in each),
    "data.crop_size=32",
    "features.crop_size=32",
    "trainer.accelerator=cpu",
)


def children(folder: Path) -> tuple[mlflow.entities.Run, dict[str, mlflow.entities.Run]]:
    """The one sweep that MLflow knows in a folder, and its jobs by their names."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    (parent,) = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    jobs = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(jobs) == len(runs) - 1
    return parent, {each.info.run_name: each for each in jobs}


@pytest.fixture(scope="module")
def swept(small_data, tmp_path_factory) -> tuple[Path, str]:
    """A folder with a sweep over three values, of which one cannot work, and what its command printed."""
    folder = tmp_path_factory.mktemp("sweeps")
    photos = f"photos.source={small_data}/KADID10K/images"
    changes = ("degradation.max_distortions=1,99,2", "seed=1", "hydra.sweep.dir=runs/sweep")
    return folder, run(folder, "train", *SWEEP, f"paths.data_dir={small_data}", photos, *changes, code=1)


def test_a_failed_job_is_a_line_of_the_comparison_and_the_others_run(swept):
    folder, output = swept
    jobs = pd.read_csv(folder / "runs/sweep/results_jobs.csv").set_index("job")
    assert jobs["status"].tolist() == ["finished", "failed", "finished"]
    assert "max_distortions" in jobs["error"][1]
    assert "Job 1 failed: " in output
    assert "Traceback" not in output
    assert "Jobs without a result: 1. Run these again with: python -m arniqa_pl.train -m" in output
    settings = pd.read_csv(folder / "runs/sweep/results.csv")
    assert sorted(settings["degradation.max_distortions"]) == [1, 2]
    assert settings["objective_mean"].is_monotonic_decreasing
    best = settings["degradation.max_distortions"][0]
    text = (folder / "runs/sweep/results.md").read_text()
    assert f"degradation.max_distortions={best}\n" in text
    assert "python -m arniqa_pl.train experiment=demo encoder.name=resnet18" in text


def test_a_sweep_is_one_run_with_a_child_for_each_job(swept):
    folder, _ = swept
    parent, jobs = children(folder)
    assert set(jobs) == {"degradation.max_distortions=1", "degradation.max_distortions=2"}
    assert {each.info.status for each in jobs.values()} == {"FINISHED"}
    assert parent.info.run_name == "sweep sweep"
    assert "## Settings" in parent.data.tags["mlflow.note.content"]
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    artifacts = {each.path for where in ("", "figures") for each in client.list_artifacts(parent.info.run_id, where)}
    assert {"results.md", "results.csv", "results_jobs.csv", "figures/comparison.png"} <= artifacts
    objectives = pd.read_csv(folder / "runs/sweep/results_jobs.csv")["objective"]
    assert parent.data.metrics["best/objective"] == pytest.approx(objectives.max())


def test_resuming_runs_what_is_missing_alone(swept):
    folder, _ = swept
    before = {file: file.stat().st_mtime_ns for file in folder.glob("runs/sweep/[02]/checkpoints/*")}
    values = {number: folder / f"runs/sweep/{number}/job.json" for number in range(3)}
    unfinished = json.loads(values[2].read_text()) | {"status": "unfinished"}
    values[2].write_text(json.dumps(unfinished))  # as a job that was killed has left it
    output = run(folder, "train", "-m", "hydra.sweep.dir=runs/sweep", "resume=true", code=1)
    assert "Job 0 is finished" in output
    assert "Continuing" in output
    assert "Jobs without a result: 1." in output
    after = {file: file.stat().st_mtime_ns for file in before}
    assert [file for file in before if after[file] == before[file]] == [file for file in before if "/0/" in str(file)]
    assert [json.loads(file.read_text())["status"] for file in values.values()] == ["finished", "failed", "finished"]
    parent, jobs = children(folder)
    assert len(jobs) == 2
    assert parent.info.status == "FINISHED"


def test_the_sweep_that_continues_has_to_be_named(tmp_path):
    with pytest.raises(InputError, match=r"found none: say -m hydra\.sweep\.dir=<folder> resume=true"):
        continued(["-m", "resume=true"])
    with pytest.raises(InputError, match=f"found no sweep.json in {tmp_path}"):
        continued(["-m", "resume=true", f"hydra.sweep.dir={tmp_path}"])
    assert continued(["-m", "seed=1,2"]) == ["-m", "seed=1,2"]
