"""The way of a journal to an MLflow server, or into MLflow's SQLite file."""

import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from arniqa_pl.tracking.journal import Journal, Sent
from arniqa_pl.tracking.privacy import anonymous

log = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 5.0, 60.0  # s between deliveries, and between attempts while the server is away
RUN_KEY = "run_key"
_TOGETHER = {"metrics": 1000, "params": 100, "tags": 100}  # of one kind, what MLflow takes in one request
# What an experiment is, for pages that begin with what such runs have.
_TRAINING = {"mlflow.experimentKind": "custom_model_development"}
_REFUSED = (400, 413)  # what the server will never take; everything else may be a matter of time


def prepare_client() -> None:
    """Import MLflow, which takes seconds, with a client that leaves it to the journal to try again.

    By itself it would wait two minutes for an answer, eight times in a row. Variables that are set already hold.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401

    for library in ("mlflow", "urllib3.connectionpool"):  # the courier says in a sentence what they say in pages
        logging.getLogger(library).setLevel(logging.CRITICAL)


def connect(tracking_uri: str) -> Any:
    """Return a client of a server or a SQLite file.

    Of several processes that find no SQLite file, one creates it and the others wait: MLflow lets them all create it,
    and leaves a file that nobody can open. So it does where it is killed meanwhile: the file gets its name when it is
    whole.
    """
    from mlflow import MlflowClient

    if not tracking_uri.startswith("sqlite:///"):
        return MlflowClient(tracking_uri)
    file = Path(tracking_uri.removeprefix("sqlite:///"))
    file.parent.mkdir(parents=True, exist_ok=True)
    with Path(f"{file}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            unfinished = Path(f"{file}.unfinished")
            for left in (unfinished, Path(f"{unfinished}-journal")):
                left.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{unfinished}")
            unfinished.replace(file)
        return MlflowClient(tracking_uri)


def deliver(journal: Journal, tracking_uri: str) -> None:
    """Send what the server has not got yet; what it has got is noted as it goes.

    Sending twice does no harm: the run is found again by its key, and MLflow keeps equal metrics once. Another
    process that sends the same journal is waited for.

    Raises:
        Exception: the server is away, or had no answer; which one depends on the client library.

    """
    client = connect(tracking_uri)
    with journal.sole_sender():
        sent = _run_on_server(client, journal, anonymous(tracking_uri))
        for position, records in _portions(journal.read(sent.position)):
            _send(client, sent.run_id, records, journal)
            journal.note(replace(sent, position=position))


def _run_on_server(client: Any, journal: Journal, server: str) -> Sent:
    """Return which run of the server this is, created if need be, and how much of the journal it has."""
    sent = journal.sent()
    if sent is None or sent.server != server:
        sent = Sent(server, _find_run(client, journal) or _create_run(client, journal, server), 0)
        journal.note(sent)
    return sent


def _find_run(client: Any, journal: Journal) -> str | None:
    """Return the id of the run that an earlier attempt may have created without hearing of it."""
    facts = journal.facts()
    experiment = client.get_experiment_by_name(facts["experiment"])
    if experiment is None:
        return None
    found = client.search_runs([experiment.experiment_id], f"tags.{RUN_KEY} = '{facts['key']}'")
    return found[0].info.run_id if found else None


def _create_run(client: Any, journal: Journal, server: str) -> str:
    facts = journal.facts()
    tags = {RUN_KEY: facts["key"]}
    if facts["parent"] and (parent := Journal(Path(facts["parent"]))).file.exists():
        with parent.sole_sender():
            tags["mlflow.parentRunId"] = _run_on_server(client, parent, server).run_id
    experiment = client.get_experiment_by_name(facts["experiment"])
    number = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(facts["experiment"], facts["artifact_location"], _TRAINING)
    )
    return client.create_run(number, facts["time"], tags, facts["run_name"]).info.run_id


def _portions(records: Iterator[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Join neighbouring records of a kind, as many as go into one request; yield them with the position after them."""
    portion: list[dict[str, Any]] = []
    end, kind, count = 0, None, 0
    for position, record in records:
        found = next((name for name in _TOGETHER if name in record), None)
        size = len(record[found]) if found else 0
        if portion and (found is None or found != kind or count + size > _TOGETHER[found]):
            yield end, portion
            portion, count = [], 0
        portion.append(record)
        end, kind, count = position, found, count + size
    if portion:
        yield end, portion


def _send(client: Any, run_id: str, records: Sequence[dict[str, Any]], journal: Journal) -> None:
    """Send records of a kind; those that the server will not have stay in the journal alone."""
    try:
        _send_together(client, run_id, records, journal)
    except Exception as error:
        if _status(error) not in _REFUSED:
            raise
        if len(records) > 1:
            for record in records:
                _send(client, run_id, [record], journal)
        else:
            log.warning("The tracking server refused a record, which stays in %s: %s", journal.file, brief(error))


def _send_together(client: Any, run_id: str, records: Sequence[dict[str, Any]], journal: Journal) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    (first, *_) = records
    if "metrics" in first:
        metrics = [
            Metric(name, value, record["time"], record["step"])
            for record in records
            for name, value in record["metrics"].items()
        ]
        client.log_batch(run_id, metrics=metrics)
    elif "params" in first:
        pairs = chain.from_iterable(record["params"].items() for record in records)
        client.log_batch(run_id, params=[Param(*pair) for pair in pairs])
    elif "tags" in first:
        latest = dict(chain.from_iterable(record["tags"].items() for record in records))
        client.log_batch(run_id, tags=[RunTag(*pair) for pair in latest.items()])
    elif "artifact" in first:
        file = journal.folder / first["artifact"]
        if file.exists():
            client.log_artifact(run_id, str(file), first["folder"] or None)
        else:
            log.warning("%s is gone, and cannot be sent.", file)
    elif "dataset" in first:
        context = [InputTag("mlflow.data.context", first["context"])]
        client.log_inputs(run_id, [DatasetInput(Dataset(**first["dataset"]), context)])
    elif first.get("status") == "RUNNING":
        client.update_run(run_id, status="RUNNING")
    elif "status" in first:
        client.set_terminated(run_id, first["status"], first["time"])


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an answer, or what MLflow would have answered; None: there was no answer."""
    if hasattr(error, "get_http_status_code"):
        return error.get_http_status_code()
    return getattr(getattr(error, "response", None), "status_code", None)


def brief(error: Exception) -> str:
    """Return what is wrong in a line."""
    return anonymous(f"{type(error).__name__}: {error}".splitlines()[0][:300])


class Courier(threading.Thread):
    """Delivers a journal while it is being written, and comes back later where the server does not answer."""

    def __init__(self, journal: Journal, tracking_uri: str) -> None:
        super().__init__(name="Courier", daemon=True)
        self.journal = journal
        self.tracking_uri = tracking_uri
        self._closing = threading.Event()

    def run(self) -> None:
        """Deliver, rest, deliver; once more after `close`."""
        pause, last = PAUSE, False
        while not last:
            last = self._closing.is_set()  # before the delivery: it then includes all that was written till then
            try:
                deliver(self.journal, self.tracking_uri)
                pause = PAUSE
            except Exception as error:  # of whichever client library: no trouble with a server may stop a run
                if pause == PAUSE:
                    log.warning("Tracking fails, the run goes on without it: %s", brief(error))
                pause = min(2 * pause, LONGEST_PAUSE)
            self._closing.wait(pause)

    def close(self, patience: float) -> None:
        """Wait for the last delivery, while there is progress at least every so many seconds."""
        self._closing.set()
        while self.is_alive():
            before = self.journal.sent()
            self.join(patience)
            if self.journal.sent() == before:
                return
