"""PostgreSQL behind the server, and as a store of its own. Opt-in: it needs Debian's postgresql, not run by root.

ARNIQA_POSTGRESQL=/usr/lib/postgresql/15/bin python -m pytest tests/tracking/test_postgresql.py
"""

import os
from collections.abc import Iterator

import mlflow
import pytest

from tests.tracking.servers import Server, postgresql
from tests.tracking.test_logger import tell

BIN = os.environ.get("ARNIQA_POSTGRESQL")
pytestmark = pytest.mark.skipif(BIN is None, reason="opt-in: ARNIQA_POSTGRESQL=<folder of initdb and postgres>")


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """The URI of a database on a real server, with a user name and a password in it."""
    with postgresql(str(BIN), user="jane") as address:
        yield f"postgresql+psycopg://jane:s3cret@{address}/postgres"


@pytest.mark.parametrize("through_server", [False, True])
def test_everything_arrives(through_server, database, new_logger, tmp_path):
    server = Server(tmp_path, backend=database)
    uri = server.uri if through_server else database
    try:
        if through_server:
            server.start()
        logger = new_logger(tracking_uri=uri, artifact_location=None if through_server else str(tmp_path / "artifacts"))
        with logger.recording():
            tell(logger)
        assert logger.journal.unsent() == 0
        assert "s3cret" not in (tmp_path / "run/tracking.sent").read_text()
        client = mlflow.MlflowClient(uri)
        (run,) = client.search_runs([client.get_experiment_by_name(tmp_path.name).experiment_id])
        assert run.info.status == "FINISHED"
        assert [each.value for each in client.get_metric_history(run.info.run_id, "train/loss")] == [3, 2, 1]
        assert run.data.params == {"data/size": "3", "levels": "[1, 2]"}
    finally:
        server.kill()
