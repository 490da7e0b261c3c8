"""The logger of a run: everything goes into its folder at once, and from there to MLflow when that answers."""

import json
import logging
import math
import re
import uuid
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.fabric.utilities.logger import _convert_params, _flatten_dict
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from matplotlib.figure import Figure

from arniqa_pl.tracking.delivery import Courier, prepare_client
from arniqa_pl.tracking.journal import Journal
from arniqa_pl.tracking.privacy import anonymous
from arniqa_pl.tracking.system import SystemMetrics

log = logging.getLogger(__name__)

LONGEST_PARAM, LONGEST_TAG, PARAMS_AT_ONCE = 6000, 8000, 100  # what MLflow takes


class RunLogger(Logger):
    """Writes what a run has to tell into its folder, and has it sent to an MLflow server or into a SQLite file.

    In the folder: `tracking.jsonl`, the journal of everything; `metrics.jsonl`, a line for each time that metrics are
    logged; and the figures and tables themselves. No method waits for a server. Only rank 0 writes.

    A run that continues from its last checkpoint takes some steps again; what they logged already is not logged twice.

    Args:
        folder: of the run.
        run_name: in MLflow.
        experiment_name: that the run belongs to.
        tracking_uri: of the server, `http://…`, or of a database, `sqlite:///…` or `postgresql://…`.
        artifact_location: where the experiment keeps artifacts; None: where the server says.
        parent: folder of the run that this one is a part of, as a job is of a sweep.
        resume: continue the journal that the folder holds, if there is one.
        patience: seconds without progress, at the end of the run, after which the rest is left to a later `send`.

    """

    def __init__(
        self,
        *,
        folder: str,
        run_name: str | None = None,
        experiment_name: str,
        tracking_uri: str,
        artifact_location: str | None = None,
        parent: str | None = None,
        resume: bool = False,
        patience: float,
    ) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.journal = Journal(self.folder)
        self.experiment_name = experiment_name
        self.tracking_uri = _absolute(tracking_uri)
        self.patience = patience
        self._last_step: dict[str, int] = {}
        self._tables: list[str] = []
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            return
        self.resumed = resume and self.journal.begun()
        if self.resumed:
            self._recall()
        else:
            self.journal.start(
                key=uuid.uuid4().hex,
                run_name=run_name or self.folder.name,
                experiment=experiment_name,
                tracking_uri=self.tracking_uri,
                artifact_location=_absolute(artifact_location),
                parent=_absolute(parent),
            )
            (self.folder / "metrics.jsonl").write_text("")

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.experiment_name

    @property
    def version(self) -> None:
        """None: a run's folder needs no number within it."""
        return None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Have everything sent while the block runs. The run ends FINISHED, or FAILED if an exception leaves it."""
        if self.resumed:
            self.journal.add(status="RUNNING")
        prepare_client()
        courier = Courier(self.journal, self.tracking_uri)
        last = max((step for name, step in self._last_step.items() if name.startswith("system/")), default=-1)
        system = SystemMetrics(self.log_metrics, last + 1)
        courier.start()
        system.start()
        status = "FAILED"
        try:
            yield
            status = "FINISHED"
        finally:
            system.close()
            self.journal.add(status=status)
            courier.close(self.patience)
            if left := self.journal.unsent():
                log.warning(
                    "%d records of the run are not on the tracking server. They are kept in %s; send them later with: "
                    "python -m arniqa_pl.report send runs=%s",
                    left,
                    self.journal.file,
                    self.folder,
                )

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log settings, flattened with slashes."""
        flat = _flatten_dict(anonymous(_convert_params(params)))
        pairs = [(name, str(value)[:LONGEST_PARAM]) for name, value in flat.items()]
        for start in range(0, len(pairs), PARAMS_AT_ONCE):
            self.journal.add(params=dict(pairs[start : start + PARAMS_AT_ONCE]))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what was not logged at this step before; of names, keep what MLflow takes."""
        named = {re.sub(r"[^\w/. :-]+", "", name): float(value) for name, value in metrics.items()}
        new = {name: value for name, value in named.items() if step is None or step > self._last_step.get(name, -1)}
        if new:
            self._last_step |= dict.fromkeys(new, step or 0)
            self.journal.add(metrics=new, step=step or 0)
            if not all(name.startswith("system/") for name in new):
                with (self.folder / "metrics.jsonl").open("a") as stream:
                    stream.write(_json_line({"step": step or 0, **new}))

    @rank_zero_only
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; of one that is too long for MLflow, keep the whole lines that fit."""
        self.journal.add(tags={name: _cut(anonymous(str(value))) for name, value in tags.items()})

    @rank_zero_only
    def log_artifact(self, file: Path, folder: str = "") -> None:
        """Log a file inside the run's folder, which is to stay there until it is sent.

        Args:
            file: to send.
            folder: among the run's artifacts.

        """
        self.journal.add(artifact=str(file.resolve().relative_to(self.folder.resolve())), folder=folder)

    @rank_zero_only
    def log_figure(self, figure: Figure, path: str) -> None:
        """Write a figure to this path in the run's folder, and log it under the same."""
        file = self._place(path)
        figure.savefig(file)
        self.log_artifact(file, _parent(path))

    @rank_zero_only
    def log_text(self, text: str, path: str) -> None:
        """Write text to this path in the run's folder, and log it under the same."""
        file = self._place(path)
        file.write_text(text)
        self.log_artifact(file, _parent(path))

    @rank_zero_only
    def log_table(self, table: pd.DataFrame, path: str) -> None:
        """Log a table as JSON, as MLflow shows tables on a run's page and beside those of other runs."""
        self.log_text(table.to_json(orient="split", index=False), path)
        self._tables.append(path)
        self.set_tags(
            {"mlflow.loggedArtifacts": json.dumps([{"path": each, "type": "table"} for each in self._tables])}
        )

    @rank_zero_only
    def log_dataset(self, dataset: Any, context: str) -> None:
        """Log which data the run saw.

        Args:
            dataset: of `mlflow.data`.
            context: what the data were used for.

        """
        facts = {"schema": None, "profile": None} | dataset.to_dict()
        self.journal.add(dataset=anonymous(facts), context=context)

    def _place(self, path: str) -> Path:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _recall(self) -> None:
        """Read what was logged by a run that continues, and write the lines of `metrics.jsonl` anew."""
        self.journal.mend()
        lines = []
        for _, record in self.journal.read():
            if "metrics" in record:
                self._last_step |= dict.fromkeys(record["metrics"], record["step"])
                told = {name: value for name, value in record["metrics"].items() if not name.startswith("system/")}
                lines += [_json_line({"step": record["step"], **told})] if told else []
        (self.folder / "metrics.jsonl").write_text("".join(lines))


def _json_line(row: Mapping[str, float]) -> str:
    """Return a row as one line; JSON has no word for nan."""
    return json.dumps({key: value if math.isfinite(value) else None for key, value in row.items()}) + "\n"


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TAG else text[:LONGEST_TAG].rpartition("\n")[0]


def _absolute(place: str | None) -> Any:
    """Return a path, or the path of a SQLite file, so that it holds in every working directory."""
    if place is None or ("://" in place and not place.startswith("sqlite:///")):
        return place
    scheme, path = ("sqlite:///", place[len("sqlite:///") :]) if "://" in place else ("", place)
    return f"{scheme}{Path(path).resolve()}"
