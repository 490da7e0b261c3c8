import json
import logging
import math
import re
import socket
import subprocess
import sys
import time

import mlflow
import pandas as pd
import pytest
from matplotlib.figure import Figure
from mlflow.data.pandas_dataset import from_pandas

from arniqa_pl.errors import InputError
from arniqa_pl.tracking import Journal, RunLogger
from arniqa_pl.tracking.delivery import deliver
from arniqa_pl.tracking.store import read_experiment, read_run


def tell(logger: RunLogger) -> None:
    """Log one of everything."""
    logger.log_hyperparams({"data": {"size": 3}, "levels": [1, 2]})
    logger.set_tags({"stage": "train", "mlflow.note.content": "a line\n" * 2000})
    for step in range(3):
        logger.log_metrics({"train/loss": 3.0 - step, "val/srcc@1": math.nan}, step)
    logger.log_text("| a |\n", "results.md")
    logger.log_figure(Figure(), "figures/empty.png")
    logger.log_table(pd.DataFrame({"srcc": [0.5]}), "results.json")
    logger.log_table(pd.DataFrame({"plcc": [0.25]}), "more.json")
    logger.log_dataset(from_pandas(pd.DataFrame({"image": ["a"]}), name="photos", digest="abc"), "train")


def only_run(store: str, experiment: str) -> mlflow.entities.Run:
    client = mlflow.MlflowClient(store)
    (run,) = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return run


def test_everything_arrives_and_sending_it_again_changes_nothing(new_logger, store, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)  # where load_table looks for runs, whatever its client was told
    logger = new_logger()
    with logger.recording():
        tell(logger)
    client = mlflow.MlflowClient(store)
    for _ in range(2):
        run = only_run(store, tmp_path.name)
        assert logger.journal.unsent() == 0
        assert (run.info.status, run.info.run_name) == ("FINISHED", "run")
        assert run.data.params == {"data/size": "3", "levels": "[1, 2]"}
        assert len(run.data.tags["mlflow.note.content"]) == 7 * 1142 - 1  # whole lines, below 8000
        assert [each.value for each in client.get_metric_history(run.info.run_id, "train/loss")] == [3, 2, 1]
        assert math.isnan(run.data.metrics["val/srcc1"])
        assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
            "results.md",
            "results.json",
            "more.json",
            "figures",
        }
        assert client.load_table(run.info.experiment_id, "results.json")["srcc"].tolist() == [0.5]
        assert client.load_table(run.info.experiment_id, "more.json")["plcc"].tolist() == [0.25]
        (data,) = run.inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.digest, data.tags[0].value) == ("photos", "abc", "train")
        (tmp_path / "run/tracking.sent").unlink()  # as if the process had been killed before it could note anything
        deliver(logger.journal, store)


def test_runs_are_read_back_as_they_were_told(new_logger, store, tmp_path):
    logger = new_logger()
    with logger.recording():
        tell(logger)
    told = logger.journal.story()
    (read,) = read_experiment(tmp_path.name, store)
    assert str(read) == str(read_run(logger.journal.sent().run_id, store))  # nan is not equal to itself
    assert (read.name, read.experiment, read.status) == (told.name, told.experiment, told.status)
    assert read.params == told.params
    assert read.tags.items() >= told.tags.items()
    assert read.metrics["train/loss"][-1][1] == told.metrics["train/loss"][-1][1]
    with pytest.raises(InputError, match=rf"found none: name another one of .*{tmp_path.name}"):
        read_experiment("gone", store)
    with pytest.raises(InputError, match=r"or the id of an MLflow run on .*, got gone"):
        read_run("gone", store)


def test_a_run_that_fails_is_marked_as_failed(new_logger, store, tmp_path):
    logger = new_logger()
    try:
        with logger.recording():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert only_run(store, tmp_path.name).info.status == "FAILED"


def test_a_logger_that_continues_logs_nothing_twice(new_logger, store, tmp_path):
    first = new_logger()
    with first.recording():
        first.log_metrics({"loss": 3.0, "lr": 0.1}, 0)
        first.log_metrics({"loss": 2.0}, 1)
    for name in ("tracking.jsonl", "metrics.jsonl"):
        with (tmp_path / "run" / name).open("a") as stream:
            stream.write('{"metrics": {"lo')  # and then the machine stopped

    second = new_logger(resume=True)
    with second.recording():
        second.log_metrics({"loss": 2.0, "lr": 0.2}, 1)  # the step is taken again
        second.log_metrics({"loss": float("nan"), "lr": 0.3}, 2)
    client, run = mlflow.MlflowClient(store), only_run(store, tmp_path.name)
    assert [each.step for each in client.get_metric_history(run.info.run_id, "loss")] == [0, 1, 2]
    assert [each.value for each in client.get_metric_history(run.info.run_id, "lr")] == [0.1, 0.2, 0.3]
    assert run.info.status == "FINISHED"
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert rows == [
        {"step": 0, "loss": 3.0, "lr": 0.1},
        {"step": 1, "loss": 2.0},
        {"step": 1, "lr": 0.2},
        {"step": 2, "loss": None, "lr": 0.3},
    ]


def test_a_fresh_run_in_an_old_folder_is_another_run(new_logger, store, tmp_path):
    for _ in range(2):
        with new_logger().recording():
            pass
    client = mlflow.MlflowClient(store)
    assert len(client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])) == 2


def test_what_the_server_refuses_does_not_hold_up_the_rest(new_logger, store, tmp_path, caplog):
    logger = new_logger()
    with caplog.at_level(logging.WARNING), logger.recording():
        logger.log_metrics({"before": 1.0}, 0)
        logger.log_metrics({"x" * 300: 1.0}, 0)
        logger.log_metrics({"after": 1.0}, 0)
    assert set(only_run(store, tmp_path.name).data.metrics) == {"before", "after"}
    (warning,) = caplog.messages
    assert "refused a record, which stays in" in warning


def test_a_job_belongs_to_its_sweep_whichever_is_sent_first(new_logger, store, tmp_path):
    sweep = new_logger(folder=str(tmp_path / "sweep"))
    job = new_logger(folder=str(tmp_path / "sweep/0"), parent=str(tmp_path / "sweep"))
    deliver(job.journal, store)
    deliver(sweep.journal, store)
    run = mlflow.MlflowClient(store).get_run(job.journal.sent().run_id)
    assert run.data.tags["mlflow.parentRunId"] == sweep.journal.sent().run_id


def test_a_server_that_never_answers_keeps_nobody_waiting(new_logger, store, tmp_path, caplog):
    with socket.create_server(("127.0.0.1", 0)) as server:
        logger = new_logger(tracking_uri=f"http://127.0.0.1:{server.getsockname()[1]}", patience=0.5)
        started = time.monotonic()
        with logger.recording():
            tell(logger)
            told = time.monotonic() - started
        waited = time.monotonic() - started - told
    assert told < 30  # a patience of half a second; MLflow's own is two minutes
    assert waited < 30
    assert re.search(rf"records of the run are not on the tracking server.* send runs={tmp_path}/run", caplog.text)
    deliver(Journal(tmp_path / "run"), store)
    run = only_run(store, tmp_path.name)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/loss"] == 1
    assert run.info.end_time - run.info.start_time < 10_000  # when it was, not when it was sent


_SCRIPT = """
import sys
from pathlib import Path
from arniqa_pl.tracking import RunLogger
folder = Path(sys.argv[1])
store = f"sqlite:///{folder}/new.db"
logger = RunLogger(folder=str(folder / sys.argv[2]), experiment_name="both", tracking_uri=store, patience=30)
with logger.recording():
    for step in range(300):
        logger.log_metrics({"train/loss": float(step)}, step)
assert not logger.journal.unsent()
"""


def test_two_runs_at_once_fill_one_new_sqlite_file(tmp_path):
    running = [subprocess.Popen([sys.executable, "-c", _SCRIPT, str(tmp_path), name], cwd=tmp_path) for name in "ab"]
    assert [process.wait(120) for process in running] == [0, 0]
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/new.db")
    runs = client.search_runs([client.get_experiment_by_name("both").experiment_id])
    assert {run.info.run_name for run in runs} == {"a", "b"}
    for run in runs:
        assert [each.step for each in client.get_metric_history(run.info.run_id, "train/loss")] == list(range(300))
        assert run.info.status == "FINISHED"
