"""A run is a folder and an MLflow run of the same contents: how it is recorded, and how it is found and continued."""

import hashlib
import logging
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl import jobs
from arniqa_pl.composition import check_targets
from arniqa_pl.errors import InputError
from arniqa_pl.models.restart import LAST, newest_checkpoint
from arniqa_pl.pages.run import write_page
from arniqa_pl.provenance import machine, origin, versions
from arniqa_pl.tracking import Journal, RunLogger
from arniqa_pl.tracking.privacy import anonymous, personal

log = logging.getLogger(__name__)


@contextmanager
def tracked_run(cfg: DictConfig, encoder: str | None = None) -> Iterator[RunLogger]:
    """Open the tracked run of this command and record what it takes to repeat it; end it with a page of its results.

    Args:
        cfg: of the command.
        encoder: whose features this is about, for people who look for runs by it.

    Yields:
        The logger. The run ends FINISHED, or FAILED if an exception leaves the block.

    """
    logger = instantiate(cfg.logger, resume=bool(cfg.get("resume")), **jobs.membership(Path(cfg.paths.run_dir)))
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
        yield logger
        return
    with logger.recording():
        if not logger.resumed:
            settings = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
            logger.log_hyperparams(_comparable(settings, str(cfg.paths.run_dir)))
            # As it was composed, with what refers to other settings or to the run's folder: it can be run again.
            composed = anonymous(OmegaConf.to_container(cfg))
            logger.log_text(OmegaConf.to_yaml(OmegaConf.create(composed)), "config.yaml")
            logger.set_tags(origin(cfg) | ({"encoder": encoder} if encoder else {}))
        logger.set_tags({f"version.{name}": version for name, version in versions().items()})
        logger.set_tags({f"machine.{name}": fact for name, fact in machine().items()})
        started = time.monotonic()
        yield logger
        logger.log_metrics({"minutes": (time.monotonic() - started) / 60})
        logger.log_artifact(write_page(logger.folder))


def _comparable(settings: Any, run_dir: str) -> Any:
    """Return settings without those that lie in the run's folder, in which every run differs from every other."""
    if not isinstance(settings, dict):
        return settings
    return {
        name: _comparable(value, run_dir)
        for name, value in settings.items()
        if name != "_partial_" and not f"{value}/".startswith(f"{run_dir}/")
    }


@rank_zero_only
def log_dataset(logger: RunLogger, name: str, table: pd.DataFrame, root: Path | str, context: str) -> None:
    """Record which rows a run saw: a digest of every path, file size and further column.

    Args:
        logger: of the run.
        name: what the data set is called.
        table: a row for each image; the column image holds paths relative to root, bytes (if there) their sizes.
        root: folder of the images, or another source with sizes in the table.
        context: what they were used for.

    """
    from mlflow.data.pandas_dataset import from_pandas

    source = str(root.resolve()) if isinstance(root, Path) else root
    logger.log_dataset(from_pandas(table.astype(str), source=source, name=name, digest=digest(table, root)), context)


def digest(table: pd.DataFrame, root: Path | str) -> str:
    """Return what tells data sets apart: a hash of every path, file size and further column of `log_dataset`."""
    if "bytes" not in table:
        table = table.assign(bytes=[(Path(root) / image).stat().st_size for image in table["image"]])
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()[:16]


def session_dir(resume: str | None, fresh: str, now: str, tracking_uri: str) -> str:
    """Return where Hydra writes: a fresh run's folder, or one for this session inside the run that is continued."""
    if resume is None:
        return fresh
    folder = run_folder(resume, tracking_uri)
    if not os.access(folder, os.W_OK):  # Hydra would fail with a traceback
        raise InputError(f"Wanted to continue {folder}, nothing can be written there: copy it to where it can.")
    return str(folder / "resumed" / now)


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
        folder = Path(personal(mlflow.MlflowClient(tracking_uri).get_run(run).data.tags["run_dir"]))
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
        InputError: there is no such run; an option of this command line is not one of its own; its config calls what
            no config of ours needs; or a fresh run would write over another one's checkpoints.

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
    overrides = cast(list[str], OmegaConf.to_container(OmegaConf.load(started / "overrides.yaml")))
    change(saved, cfg, known=overrides, run=f"run {folder}")
    check_targets(saved)  # the folder may be anybody's
    with open_dict(saved):
        saved.resume = str(cfg.resume)
        saved.paths.run_dir = str(folder)
    return saved


def change(saved: DictConfig, cfg: DictConfig, known: Collection[str], run: str) -> None:
    """Put single values of this command line on top of the config of another run.

    Args:
        saved: the other run's config, which is changed.
        cfg: of this command line.
        known: options that the other run was started with.
        run: what to call it.

    Raises:
        InputError: an option is not a single value of the other config.

    """
    for override in OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task)):
        key, line = override.key_or_group, override.input_line
        if key in ("resume", "reproduce"):
            continue
        if OmegaConf.select(saved, key) is None or isinstance(OmegaConf.select(saved, key), DictConfig):
            if line in known:
                continue
            raise InputError(
                f"Wanted single values to change in the {run}, found {line}, with which it was not started: "
                "leave it out, or start a new run."
            )
        OmegaConf.update(saved, key, OmegaConf.select(cfg, key))


def mlflow_run_id(folder: Path) -> str | None:
    """Return the id of the MLflow run that a run's folder belongs to; None: no server has heard of it yet."""
    sent = Journal(folder).sent()
    return sent.run_id if sent else None


def checkpoint_to_continue(cfg: DictConfig) -> Path | None:
    """Return the checkpoint that a resumed run continues from; None: it starts at the beginning."""
    if cfg.resume is None:
        return None
    checkpoint = newest_checkpoint(Path(cfg.paths.run_dir) / "checkpoints")
    log.info("Continuing %s from %s", cfg.paths.run_dir, checkpoint or "its beginning: it has no checkpoint yet")
    return checkpoint
