"""A run again: from the config that it logged, with what differs between then and now said first."""

import logging
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from arniqa_pl.composition import check_targets
from arniqa_pl.errors import InputError
from arniqa_pl.provenance import machine, origin, versions
from arniqa_pl.runs import change
from arniqa_pl.tracking.privacy import personal

log = logging.getLogger(__name__)


def reproduced(cfg: DictConfig) -> DictConfig:
    """Return the config of the MLflow run that `reproduce` names, for a new run; cfg itself where it names none.

    The new run has a folder and a tracking server of its own; single values of this command line go on top. The config
    is written into the new run's folder, from which that can be continued.

    Raises:
        InputError: there is no such run, it has no config, its config calls what no config of ours needs, or an option
            of this command line is not one of its own.

    """
    if cfg.reproduce is None or cfg.resume is not None:  # a reproduction that continues has its config
        return cfg
    saved = _logged_config(cfg.reproduce, cfg.logger.tracking_uri)
    change(saved, cfg, known=(), run=f"run {cfg.reproduce}")
    check_targets(saved)
    with open_dict(saved):
        saved.resume, saved.reproduce = None, cfg.reproduce
        saved.paths.run_dir, saved.logger = cfg.paths.run_dir, cfg.logger
    if rank_zero_only.rank == 0:  # type: ignore[attr-defined]
        OmegaConf.save(saved, Path(cfg.paths.run_dir) / ".hydra" / "config.yaml")
    return saved


def _logged_config(run: str, tracking_uri: str) -> DictConfig:
    import mlflow  # takes seconds

    with TemporaryDirectory() as folder:
        try:
            file = mlflow.MlflowClient(tracking_uri).download_artifacts(run, "config.yaml", folder)
        except (mlflow.MlflowException, OSError) as error:
            raise InputError(
                f"Wanted an MLflow run with its config.yaml on {tracking_uri}, found none for {run}: "
                "copy the id from the run's page, and name the server as logger.tracking_uri."
            ) from error
        config = OmegaConf.create(personal(Path(file).read_text()))
    if not isinstance(config, DictConfig) or "photos" not in config:
        raise InputError(f"Wanted a run of arniqa_pl.train to reproduce, found another one: {run}.")
    return config


@rank_zero_only
def tell_differences(cfg: DictConfig, digests: Mapping[str, str]) -> None:
    """Say what differs from the run that is reproduced: source, versions, machine, data.

    Args:
        cfg: of the new run.
        digests: of the data that it is about to see, by their names.

    """
    import mlflow

    run = mlflow.MlflowClient(cfg.logger.tracking_uri).get_run(cfg.reproduce)
    then = {each.dataset.name: each.dataset.digest for each in (run.inputs.dataset_inputs if run.inputs else [])}
    found = _differences(run.data.tags, _tags(cfg)) + _differences(then, digests)
    log.info("Reproducing %s (%s)", run.info.run_name, cfg.reproduce)
    for each in found:
        log.warning("Differs: %s", each)
    if not found:
        log.info("Source, versions, machine and data are as they were: on a CPU, expect the same digits.")


def _tags(cfg: DictConfig) -> dict[str, str]:
    """Return the tags of the new run that may matter for its numbers."""
    commit = {name: tag for name, tag in origin(cfg).items() if name == "mlflow.source.git.commit"}
    return (
        commit
        | {f"version.{name}": version for name, version in versions().items()}
        | {f"machine.{name}": fact for name, fact in machine().items()}
    )


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name.removeprefix('mlflow.source.')}, {then.get(name, 'not recorded')} then, {value} now"
        for name, value in now.items()
        if then.get(name) != value
    ]
