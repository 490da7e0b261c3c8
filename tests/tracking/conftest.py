from collections.abc import Callable

import pytest

from arniqa_pl.tracking import RunLogger
from arniqa_pl.tracking.delivery import prepare_client


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> str:
    """The URI of MLflow's SQLite file."""
    prepare_client()
    return f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db"


@pytest.fixture
def new_logger(store, tmp_path) -> Callable[..., RunLogger]:
    """Makes loggers of a run in tmp_path/run, in an experiment of this test's own."""

    def make(**settings) -> RunLogger:
        usual = {"experiment_name": tmp_path.name, "tracking_uri": store, "patience": 30}
        place = {"folder": str(tmp_path / "run"), "artifact_location": str(tmp_path / "artifacts")}
        return RunLogger(**(place | usual | settings))

    return make
