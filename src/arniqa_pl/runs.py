"""A run is a folder and an MLflow run of the same contents: how it is recorded, and how it is found and continued."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import MLFlowLogger
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl.errors import InputError
from arniqa_pl.models.restart import LAST, newest_checkpoint

log = logging.getLogger(__name__)

_RUN_ID = "mlflow_run_id"


class RunLogger(MLFlowLogger):
    """Lightning's MLFlowLogger, with `metrics.jsonl` beside the run: a line of JSON for each time it logs.

    A run that continues from its last checkpoint takes some steps again; what they logged already is not logged
    twice. The JSON lines are then written anew from MLflow, which is the truth, should the two have been parted.

    Args:
        folder: of the run; it also keeps the MLflow run's id there.
        run_id: of the MLflow run that is continued; None: a new one.
        settings: of MLFlowLogger.

    """

    def __init__(self, *, folder: str, run_id: str | None = None, **settings: Any) -> None:
        super().__init__(run_id=run_id, **settings)
        self.folder = Path(folder)
        self._logged: dict[str, int] = {}
        if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / _RUN_ID).write_text(str(self.run_id))
            (self.folder / "metrics.jsonl").write_text("".join(map(_json_line, self._recall() if run_id else [])))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log what was not logged at this step before."""
        new = {key: value for key, value in metrics.items() if step is None or step > self._logged.get(key, -1)}
        if new:
            self._logged |= dict.fromkeys(new, step or 0)
            super().log_metrics(new, step)
            with (self.folder / "metrics.jsonl").open("a") as stream:
                stream.write(_json_line({"step": step or 0, **new}))

    def _recall(self) -> list[dict[str, float]]:
        """Read back what the MLflow run holds: a row for each step."""
        rows: dict[int, dict[str, float]] = {}
        client = self.experiment
        for key in client.get_run(self.run_id).data.metrics:
            if not key.startswith("system/"):
                for metric in client.get_metric_history(self.run_id, key):
                    rows.setdefault(metric.step, {"step": metric.step})[key] = metric.value
                    self._logged[key] = max(metric.step, self._logged.get(key, -1))
        return [rows[step] for step in sorted(rows)]


def _json_line(row: Mapping[str, float]) -> str:
    """Return a row as one line; JSON has no word for nan."""
    return json.dumps({key: value if math.isfinite(value) else None for key, value in row.items()}) + "\n"


def session_dir(resume: str | None, fresh: str, now: str, tracking_uri: str) -> str:
    """Return where Hydra writes: a fresh run's folder, or one for this session inside the run that is continued."""
    return fresh if resume is None else str(run_folder(resume, tracking_uri) / "resumed" / now)


def run_folder(run: str, tracking_uri: str) -> Path:
    """Find the folder of a run.

    Args:
        run: the folder itself, or the id of the MLflow run.
        tracking_uri: where to ask for an id.

    Raises:
        InputError: neither exists.

    """
    if Path(run).is_dir():
        return Path(run)
    import mlflow  # takes seconds

    try:
        folder = Path(mlflow.MlflowClient(tracking_uri).get_run(run).data.tags["run_dir"])
    except (mlflow.MlflowException, KeyError) as error:
        raise InputError(
            f"Wanted a run's folder, or the id of an MLflow run on {tracking_uri}, found no {run}: look for the folder "
            "that holds the run's checkpoints."
        ) from error
    if not folder.is_dir():
        raise InputError(f"Wanted the folder of the MLflow run {run}, {folder} is gone: give the place it moved to.")
    return folder


def resumed(cfg: DictConfig) -> DictConfig:
    """Return the config of the run that `resume` names, or cfg itself for a fresh run.

    What the run was started with holds; single values of this command line go on top of it (a number of loader
    workers, a longer schedule), and options that the run was not started with are refused.

    Raises:
        InputError: there is no such run; an option of this command line is not one of its own; or a fresh run would
            write over another one's checkpoints.

    """
    if cfg.resume is None:
        folder = Path(cfg.paths.run_dir)
        if (folder / "checkpoints" / LAST).exists():
            raise InputError(
                f"Wanted a new folder for a new run, {folder} holds a run's checkpoints: continue it with "
                f"resume={folder}, or name another folder as hydra.run.dir."
            )
        return cfg
    folder = run_folder(cfg.resume, cfg.logger.tracking_uri).resolve()
    started = folder / ".hydra"
    if not (started / "config.yaml").is_file():
        raise InputError(f"Wanted a run of arniqa_pl.train in {folder}, found no .hydra/config.yaml in it.")
    saved = cast(DictConfig, OmegaConf.load(started / "config.yaml"))
    overrides = set(cast(list[str], OmegaConf.to_container(OmegaConf.load(started / "overrides.yaml"))))
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key, line = override.key_or_group, override.input_line
        if key == "resume" or line in overrides:
            continue
        if OmegaConf.select(saved, key) is None or isinstance(OmegaConf.select(saved, key), DictConfig):
            raise InputError(
                f"Wanted single values to change in the run {folder}, found {line}, with which it was not started: "
                "leave it out, or start a new run."
            )
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))
    with open_dict(saved):
        saved.resume = str(cfg.resume)
        saved.paths.run_dir = str(folder)
    return saved


def mlflow_run_id(folder: Path) -> str | None:
    """Return the id of the MLflow run that a run's folder belongs to, if it got that far."""
    file = folder / _RUN_ID
    return file.read_text().strip() if file.is_file() else None


def checkpoint_to_continue(cfg: DictConfig) -> Path | None:
    """Return the checkpoint that a resumed run continues from; None: it starts at the beginning."""
    if cfg.resume is None:
        return None
    checkpoint = newest_checkpoint(Path(cfg.paths.run_dir) / "checkpoints")
    log.info("Continuing %s from %s", cfg.paths.run_dir, checkpoint or "its beginning: it has no checkpoint yet")
    return checkpoint
