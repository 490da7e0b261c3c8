"""Sweeps through the real command line: every launcher and sweeper, a job that fails, going on, and a run again."""

import json
import re
import shlex
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from arniqa_pl.composition import CONFIG_DIR
from arniqa_pl.errors import InputError
from arniqa_pl.jobs import continued
from arniqa_pl.reproduction import reproduced, tell_differences
from arniqa_pl.sweeps import SweepRecord
from tests.test_configs import composed
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


def children(folder: Path, sweep: str = "sweep") -> tuple[mlflow.entities.Run, dict[str, mlflow.entities.Run]]:
    """The MLflow run of a sweep, and its jobs by their names."""
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    (parent,) = [each for each in runs if each.info.run_name == f"sweep {sweep}"]
    jobs = [each for each in runs if each.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len({each.info.run_name for each in jobs}) == len(jobs)
    return parent, {each.info.run_name: each for each in jobs}


@pytest.fixture(scope="module")
def swept(replicas, tmp_path_factory) -> tuple[Path, str]:
    """A folder with a sweep over three values, of which one cannot work, and what its command printed."""
    folder = tmp_path_factory.mktemp("sweeps")
    photos = f"photos.source={replicas}/KADID10K/images"
    changes = ("degradation.max_distortions=1,99,2", "seed=1", "hydra.sweep.dir=runs/sweep")
    return folder, run(folder, "train", *SWEEP, f"paths.data_dir={replicas}", photos, *changes, code=1)


def test_a_failed_job_is_a_line_of_the_comparison_and_the_others_run(swept):
    folder, output = swept
    jobs = pd.read_csv(folder / "runs/sweep/results_jobs.csv").set_index("job")
    assert jobs["status"].tolist() == ["finished", "failed", "finished"]
    assert jobs["error"][1] == "Wanted max_distortions in 0..7, got 99. No group is taken twice."
    assert "Job 1 failed: " in output
    assert "Traceback" not in output
    assert "Jobs without a result: 1. Run these again with: python -m arniqa_pl.train -m" in output
    settings = pd.read_csv(folder / "runs/sweep/results.csv")
    assert sorted(settings["degradation.max_distortions"]) == [1, 2]
    assert settings["objective_mean"].is_monotonic_decreasing
    best = settings["degradation.max_distortions"][0]
    text = (folder / "runs/sweep/results.md").read_text().replace(" \\\n        ", " ")
    assert f"degradation.max_distortions={best}\n" in text
    assert "python -m arniqa_pl.train experiment=demo encoder.name=resnet18" in text


def test_a_sweep_is_one_run_with_a_child_for_each_job(swept):
    folder, _ = swept
    parent, jobs = children(folder)
    assert set(jobs) == {"degradation.max_distortions=1", "degradation.max_distortions=2"}
    assert {each.info.status for each in jobs.values()} == {"FINISHED"}
    assert parent.info.status == "FINISHED"
    assert "## Settings" in parent.data.tags["mlflow.note.content"]
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    artifacts = {each.path for where in ("", "figures") for each in client.list_artifacts(parent.info.run_id, where)}
    assert {"results.md", "results.csv", "results_jobs.csv", "figures/comparison.png"} <= artifacts
    objectives = pd.read_csv(folder / "runs/sweep/results_jobs.csv")["objective"]
    assert parent.data.metrics["best/objective"] == pytest.approx(objectives.max())


def test_the_best_settings_are_a_command_that_makes_the_same_run(swept):
    folder, _ = swept
    words = shlex.split(children(folder)[0].data.tags["best"])
    assert words[:3] == ["python", "-m", "arniqa_pl.train"]
    best = pd.read_csv(folder / "runs/sweep/results_jobs.csv")["objective"].idxmax()
    started = OmegaConf.load(folder / f"runs/sweep/{best}/.hydra/config.yaml")
    started.resume = None  # another test may have continued the sweep before
    assert composed("train", *words[3:]) == started


def test_resuming_runs_what_is_missing_alone(swept):
    folder, _ = swept
    before = {file: file.stat().st_mtime_ns for file in folder.glob("runs/sweep/*/results.csv")}
    values = {number: folder / f"runs/sweep/{number}/job.json" for number in range(3)}
    unfinished = json.loads(values[2].read_text()) | {"status": "unfinished"}
    values[2].write_text(json.dumps(unfinished))  # as a job that was killed has left it
    output = run(folder, "train", "-m", "hydra.sweep.dir=runs/sweep", "resume=true", code=1)
    assert "Job 0 is finished" in output
    assert "Continuing" in output
    assert "Jobs without a result: 1." in output
    assert [file.parent.name for file, written in before.items() if file.stat().st_mtime_ns != written] == ["2"]
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
    (tmp_path / "sweep.json").write_text('{"arguments": ["hydra/launcher=basic", "seed=1,2", "data.num_workers=2"]}')
    added = ["hydra/launcher=joblib", "data.num_workers=0", "resume=true", f"hydra.sweep.dir={tmp_path}"]
    assert continued(["-m", *added]) == ["-m", "seed=1,2", *added]  # Hydra takes no second option of a group


def test_a_sweeper_that_would_look_for_the_worst_is_refused():
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        cfg = compose("train", ["hydra/sweeper=optuna"], return_hydra_config=True)
        with pytest.raises(SystemExit, match=r"found hydra\.sweeper\.direction=minimize: say hydra/sweeper=tune"):
            SweepRecord().on_multirun_start(cfg, config_name="train")


def test_optuna_asks_and_joblib_gives_each_job_a_process_and_each_device_one(swept, replicas):
    folder, _ = swept
    data = (f"paths.data_dir={replicas}", f"photos.source={replicas}/KADID10K/images")
    output = run(
        folder,
        "train",
        *SWEEP,
        *data,
        "hydra/sweeper=tune",
        "hydra.sweeper.n_trials=1",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=1",
        "hydra.sweep.dir=runs/optuna",
        "degradation.pristine_prob=interval(0.0,0.2)",
        "trainer.devices=2",
        "data.batch_size=2",
    )
    jobs = pd.read_csv(folder / "runs/optuna/results_jobs.csv")
    assert jobs["status"].tolist() == ["finished"]
    assert 0 <= jobs["degradation.pristine_prob"][0] <= 0.2
    (best,) = re.findall(r"best_value: (.+)", (folder / "runs/optuna/optimization_results.yaml").read_text())
    assert float(best) == pytest.approx(jobs["objective"][0])
    rows = (folder / "runs/optuna/0/metrics.jsonl").read_text().splitlines()
    assert sum("train/loss" in row for row in rows) == 2  # steps of 8 pairs, 2 at a time on each of two ranks
    assert len(children(folder, "optuna")[1]) == 1
    assert output.count("Best: python -m") == 1  # the second rank has not started a sweep of its own


def test_a_search_without_any_result_ends_in_a_sentence_and_can_look_further(swept, replicas):
    folder, _ = swept
    data = (f"paths.data_dir={replicas}", f"photos.source={replicas}/KADID10K/images")
    search = ("hydra/sweeper=tune", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=runs/search")
    output = run(folder, "train", *SWEEP, *data, *search, "degradation.max_distortions=choice(98,99)", code=1)
    assert "Traceback" not in output
    assert (
        "Jobs without a result: 0, 1. Look further with: python -m arniqa_pl.train -m hydra.sweep.dir=runs/search "
        "resume=true hydra.sweeper.n_trials=<more than 2>"
    ) in output
    assert "None: no job has finished." in (folder / "runs/search/results.md").read_text()

    file = folder / "runs/search/0/job.json"
    finished = json.loads(file.read_text()) | {"status": "finished", "objective": 0.5, "error": None}
    file.write_text(json.dumps(finished))
    before = (folder / "runs/search/1/job.json").read_text()
    again = ("-m", "hydra.sweep.dir=runs/search", "resume=true", "hydra.sweeper.n_trials=3")
    output = run(folder, "train", *again, code=1)
    assert "Job 0 is finished: 0.5" in output
    assert "Job 1 failed, and the search went on without it: Wanted max_distortions in 0..7" in output
    assert "Job 2 failed: Wanted max_distortions in 0..7" in output
    assert (folder / "runs/search/1/job.json").read_text() == before
    assert "best_value: 0.5" in (folder / "runs/search/optimization_results.yaml").read_text()
    assert json.loads(file.read_text()) == finished


def test_submitit_runs_jobs_on_this_machine(swept, replicas):
    folder, _ = swept
    data = (f"paths.data_dir={replicas}", f"photos.source={replicas}/KADID10K/images")
    run(folder, "train", *SWEEP, *data, "hydra/launcher=submitit_local", "hydra.sweep.dir=runs/submitit", "seed=1,2")
    jobs = pd.read_csv(folder / "runs/submitit/results_jobs.csv")
    assert jobs["status"].tolist() == ["finished"] * 2
    settings = pd.read_csv(folder / "runs/submitit/results.csv")
    assert settings["runs"].tolist() == [2]
    assert settings["objective_std"][0] == pytest.approx(jobs["objective"].std())
    assert set(children(folder, "submitit")[1]) == {"seed=1", "seed=2"}


MEASURED = {f"train/{name}" for name in ("crops_per_second", "data_wait", "peak_memory_gb", "minutes_left")} | {
    "minutes"
}


def test_a_run_again_has_the_same_metrics_to_the_last_digit(swept):
    folder, _ = swept
    first = children(folder)[1]["degradation.max_distortions=1"]
    output = run(folder, "train", f"reproduce={first.info.run_id}", "hydra.run.dir=runs/again")
    assert "Reproducing degradation.max_distortions=1" in output
    assert not [line for line in re.findall("Differs: .*", output) if "git.commit" not in line]

    def metrics(file: Path) -> list[dict[str, float]]:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        return [{key: value for key, value in row.items() if key not in MEASURED} for row in rows]

    then, now = (metrics(folder / f"runs/{name}/metrics.jsonl") for name in ("sweep/0", "again"))
    assert now == then
    assert {"train/loss", "val/srcc", "test/kadid10k/srcc"} <= {key for row in now for key in row}


def test_what_differs_is_said(swept, caplog):
    folder, _ = swept
    first = children(folder)[1]["degradation.max_distortions=1"]
    again = f"reproduce={first.info.run_id}"
    cfg = composed("train", again, f"logger.tracking_uri=sqlite:///{folder}/runs/mlflow.db", "experiment=demo")
    with caplog.at_level("INFO"):
        tell_differences(cfg, {"pristine": "0123"})
    (digest,) = [each.dataset.digest for each in first.inputs.dataset_inputs if each.dataset.name == "pristine"]
    assert [each.message for each in caplog.records if "Differs" in each.message] == [
        f"Differs: pristine, {digest} then, 0123 now"
    ]


def test_a_config_of_unknown_origin_calls_nothing_of_its_own(swept, tmp_path):
    store = f"sqlite:///{swept[0]}/runs/mlflow.db"
    client = mlflow.MlflowClient(store)
    other = client.create_run(client.create_experiment("other", artifact_location=str(tmp_path))).info.run_id
    config = composed("train", "experiment=demo", "optimizer._target_=os.system")
    client.log_text(other, OmegaConf.to_yaml(config), "config.yaml")
    for run_id, message in ((other, "found os.system at optimizer, which is not run"), ("gone", "found none for gone")):
        with pytest.raises(InputError, match=message):
            reproduced(composed("train", f"reproduce={run_id}", f"logger.tracking_uri={store}"))
