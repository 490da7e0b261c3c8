"""A run is a folder and an MLflow run of the same contents: how it is found and continued."""

import logging
from pathlib import Path
from typing import cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl.errors import InputError
from arniqa_pl.models.restart import LAST, newest_checkpoint
from arniqa_pl.tracking.journal import Journal
from arniqa_pl.tracking.privacy import personal

log = logging.getLogger(__name__)


def session_dir(resume: str | None, fresh: str, now: str, tracking_uri: str) -> str:
    """Return where Hydra writes: a fresh run's folder, or one for this session inside the run that is continued."""
    return fresh if resume is None else str(run_folder(resume, tracking_uri) / "resumed" / now)


OmegaConf.register_new_resolver("session_dir", session_dir, replace=True)


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
