"""A real server whose database and artifacts lie on a disk that is full: from the start, and in the middle of a run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
import pytest

from arniqa_pl.tracking import Journal
from arniqa_pl.tracking.delivery import prepare_client
from tests.test_entries import TINY, run
from tests.tracking.servers import Server, wait_for_first_delivery
from tests.tracking.test_logger import tell

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def disk(tmp_path_factory) -> Iterator[Path]:
    """A disk of 24 MB in memory."""
    folder = tmp_path_factory.mktemp("disk")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small disk takes root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(scope="module")
def server(disk):
    server = Server(disk)
    try:
        server.start()
        prepare_client()
        yield server
    finally:
        server.kill()


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill the disk to the last byte while the block runs."""
    filler = disk / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0
    try:
        yield
    finally:
        filler.unlink()


def all_of_it(server: Server, journal: Journal) -> bool:
    """Say whether the server has every setting, tag, figure and value of each metric of a run."""
    client, story = mlflow.MlflowClient(server.uri), journal.story()
    found = client.get_run(journal.sent().run_id)
    histories = {
        name: [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, name)]
        for name in story.metrics
        if not name.startswith("val/srcc1")  # nan, which equals nothing
    }
    there = {each.path for at in ("", "figures") for each in client.list_artifacts(found.info.run_id, at)}
    assert found.info.status == story.status == "FINISHED"
    assert found.data.params == story.params
    assert found.data.tags.items() >= story.tags.items()
    assert histories == {name: [pytest.approx(point) for point in story.metrics[name]] for name in histories}
    assert {path for path in story.artifacts if path.startswith("figures/")} <= there
    return bool(histories) and bool(there)


def test_full_from_the_start(disk, server, new_logger, caplog):
    with full(disk):
        logger = new_logger(tracking_uri=server.uri, artifact_location=None, patience=2)
        with logger.recording():
            tell(logger)
        assert logger.journal.unsent() > 3
    assert "Tracking fails, the run goes on without it" in caplog.text
    assert "records of the run are not on the tracking server" in caplog.text
    with logger.recording():  # as a run does that is resumed
        pass
    assert logger.journal.unsent() == 0
    assert all_of_it(server, logger.journal)


def test_full_in_the_middle_of_a_training_run(disk, server, small_data, tmp_path):
    places = ("hydra.run.dir=runs/first", f"paths.data_dir={small_data}", f"logger.tracking_uri={server.uri}")
    settings = ("logger=mlflow_server", "logger.patience=5", "encoder.weights=none", *TINY)
    process = subprocess.Popen(
        [sys.executable, "-m", "arniqa_pl.train", "experiment=demo", *settings, *places],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    journal = Journal(tmp_path / "runs/first")
    wait_for_first_delivery(process, journal)
    with full(disk):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert "Traceback" not in output
        assert "Tracking fails, the run goes on without it" in output
        assert f"python -m arniqa_pl.report send runs={journal.folder}" in output
        assert (journal.folder / "results.csv").exists()
        assert journal.unsent() > 0
        said = run(tmp_path, "report", "send", code=1)
        assert "Wanted to send 1 runs, 1 did not arrive" in said
    assert "Sent runs/first" in run(tmp_path, "report", "send")
    assert all_of_it(server, journal)
