"""A real training run, whose real server is killed in the middle of it and comes back later."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.runs import run_folder
from arniqa_pl.tracking import Journal
from arniqa_pl.tracking.delivery import prepare_client
from tests.test_entries import TINY, run
from tests.tracking.servers import Server, wait_for_first_delivery


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """The home folder of Jane, who works in a folder inside it."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "work").mkdir()
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def jane(home) -> dict[str, str]:
    return {"HOME": str(home), "LOGNAME": "jane_doe", "USER": "jane_doe"}


@pytest.fixture(scope="module")
def data(home) -> Path:
    """A folder of 24 images, six of each of four photographs, and their scores in own.csv."""
    folder, random = home / "data", np.random.default_rng(0)
    folder.mkdir()
    rows = []
    for number in range(24):
        pixels = random.integers(0, 255, (80, 80, 3)) * (number % 6 + 1) // 6
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number:02}.png")
        rows.append({"image": f"{number:02}.png", "score": number % 6, "group": number // 6})
    pd.DataFrame(rows).to_csv(folder / "own.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def outage(home, server, jane, data) -> tuple[str, int]:
    """What a training run printed during which the server was killed, and what is unsent; it is running again now."""
    with_password = server.uri.replace("://", "://jane_doe:s3cret_word@")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "arniqa_pl.train", "experiment=demo", "hydra.run.dir=runs/first", *TINY),
            *("logger=mlflow_server", f"logger.tracking_uri={with_password}", "logger.patience=5"),
            *("trainer.max_epochs=1", "encoder.weights=none", "database=csv", f"databases.csv.path={data}/own.csv"),
            *(f"paths.data_dir={data}", f"photos.source={data}"),
        ],
        cwd=home / "work",
        env=os.environ | jane,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    journal = Journal(home / "work/runs/first")
    wait_for_first_delivery(process, journal)
    server.kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    server.start()
    return output, journal.unsent()


def test_the_run_ends_well_and_says_what_is_missing(home, outage):
    printed, unsent = outage
    assert "Tracking fails, the run goes on without it" in printed
    left = re.search(r"(\d+) records of the run are not on the tracking server", printed)
    assert int(left[1]) == unsent
    assert f"python -m arniqa_pl.report send runs={home}/work/runs/first" in printed
    assert "Traceback" not in printed
    assert (home / "work/runs/first/results.csv").exists()


@pytest.fixture(scope="module")
def tracked(home, server, jane, outage) -> mlflow.entities.Run:
    """The run on the server, after everything was sent with one command."""
    assert "Sent runs/first" in run(home / "work", "report", "send", **jane)
    prepare_client()
    client = mlflow.MlflowClient(server.uri)
    (found,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    return found


def test_afterwards_everything_is_on_the_server(home, server, tracked):
    client = mlflow.MlflowClient(server.uri)
    story = Journal(home / "work/runs/first").story()
    assert tracked.info.status == "FINISHED"
    assert tracked.data.params == story.params
    assert tracked.data.tags.items() >= story.tags.items()
    assert set(tracked.data.metrics) == set(story.metrics)
    for name in ("train/loss", "val/srcc", "test/csv/srcc"):
        assert [(each.step, each.value) for each in client.get_metric_history(tracked.info.run_id, name)] == [
            pytest.approx(point) for point in story.metrics[name]
        ]
    folders = ("", "figures", "scorers")
    there = {item.path for folder in folders for item in client.list_artifacts(tracked.info.run_id, folder)}
    assert {"report.html", "results.md", "figures/degraded_pairs.png", "scorers/csv.safetensors"} <= there
    assert {each.dataset.name for each in tracked.inputs.dataset_inputs} == {"pristine", "csv"}


def test_nothing_on_the_server_tells_who_ran_it_where(home, server, tracked, tmp_path):
    client = mlflow.MlflowClient(server.uri)
    texts = [json.dumps(tracked.to_dictionary())]
    for name in ("config.yaml", "report.html", "results.md"):
        texts.append(Path(client.download_artifacts(tracked.info.run_id, name, str(tmp_path))).read_text())
    for text in texts:
        assert not re.search(rf"{home}|jane_doe|s3cret_word", text)
    assert tracked.data.params["paths/data_dir"] == "$HOME/data"
    assert not [value for value in tracked.data.params.values() if "runs/first" in value]  # not where runs differ
    assert tracked.data.tags["run_dir"] == "$HOME/work/runs/first"


def test_a_runs_folder_is_found_by_its_id(home, server, tracked, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    assert run_folder(tracked.info.run_id, server.uri) == home / "work/runs/first"


def test_runs_are_found_by_their_tags(server, tracked):
    client = mlflow.MlflowClient(server.uri)
    for tag, value in {"stage": "train", "encoder": "mobilenet_v2", "database": "csv"}.items():
        (found,) = client.search_runs([tracked.info.experiment_id], f"tags.{tag} = '{value}'")
        assert found.info.run_id == tracked.info.run_id


def test_a_run_is_compared_by_its_folder_and_by_its_id(home, server, jane, tracked):
    work, name = home / "work", f"demo / {tracked.info.run_name}"
    both = f"runs=runs/first,{tracked.info.run_id}"
    output = run(work, "report", both, "output=both", f"logger.tracking_uri={server.uri}", **jane)
    assert "both.html" in output
    assert output.count(name) == 2
    result = f"{tracked.data.metrics['test/csv/srcc']:.3f}"
    lines = [line for line in (work / "both.md").read_text().splitlines() if line.startswith(f"| {name} |")]
    assert [result in line for line in lines[:2]] == [True, True]


def test_sending_fails_where_the_server_is_away(home, server, jane, tracked):
    server.kill()
    try:
        (home / "work/runs/first/tracking.sent").unlink()
        output = run(home / "work", "report", "send", "runs=runs/first", code=1, **jane)
    finally:
        server.start()  # for tests that come later in another order
    assert "Wanted to send 1 runs, 1 did not arrive" in output
    assert "Traceback" not in output
