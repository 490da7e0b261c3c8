"""A job of a sweep: its record, whether it has to run at all, and a process of its own where it starts others."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)

SWEEP, JOB = "sweep.json", "job.json"
"""Files that make a folder a sweep's, and a folder in it one of a job."""


def resumes(cfg: DictConfig) -> bool:
    """Return whether the command continues a sweep: resume=true, where a single run has a folder or an id."""
    return cfg.get("resume") is True


def searches(sweeper: DictConfig) -> bool:
    """Return whether a sweeper asks for a job by what came of those before it, as Optuna's does."""
    return "n_trials" in sweeper


def continued(arguments: Sequence[str]) -> list[str]:
    """Return the command line of a sweep that continues: as it was started, but for what this one says otherwise.

    Raises:
        InputError: the command line does not say which sweep, or there is none.

    """
    if "resume=true" not in map(str.lower, arguments):
        return list(arguments)
    folders = [each.partition("=")[2].strip("'\"") for each in arguments if each.startswith("hydra.sweep.dir=")]
    if not folders or not (Path(folders[-1]) / SWEEP).is_file():
        raise InputError(
            f"Wanted the folder of a sweep to continue, found {f'no {SWEEP} in {folders[-1]}' if folders else 'none'}: "
            "say -m hydra.sweep.dir=<folder> resume=true (a single run continues with resume=<its folder>)."
        )
    flags = [each for each in arguments if each.startswith("-")]  # which have to come first
    added = {each.partition("=")[0]: each for each in arguments if each not in flags}
    started = read(Path(folders[-1]) / SWEEP)["arguments"]
    return flags + [each for each in started if each.partition("=")[0] not in added] + list(added.values())


def run_job(cfg: DictConfig, run: Callable[[DictConfig], Any]) -> Any:
    """Run a command; as a job of a sweep, with a record, not again if it is finished, and where it was left.

    Args:
        cfg: of the command.
        run: the command.

    Returns:
        What the command returns.

    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    if folder == Path.cwd() or not (folder.parent / SWEEP).exists():  # commands without a folder are where the user is
        return run(cfg)
    swept = read(folder.parent / SWEEP)["swept"]
    overrides = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    values = {each.key_or_group: each.get_value_element_as_str() for each in overrides if each.key_or_group in swept}
    record = read(folder / JOB) if (folder / JOB).exists() else {}
    if resumes(cfg):
        if record.get("values", values) != values:
            # This ends the sweep: a failure of the job would be written over what it was before.
            raise SystemExit(
                f"Wanted job {folder.name} of the sweep with {record['values']} as before, found {values}."
            )
        if record.get("status") == "finished":
            log.info("Job %s is finished: %s", folder.name, record["objective"])
            return record["objective"]
        if record.get("status") == "failed" and searches(HydraConfig.get().sweeper):
            # Another answer now, and the search would ask for other jobs than those that are there.
            log.info("Job %s failed, and the search went on without it: %s", folder.name, record["error"])
            return None
        cfg.resume = str(folder)
    if not getattr(rank_zero_only, "rank", 0):  # which Lightning sets, if it is imported
        write(folder / JOB, {"values": values, "started": time.time(), "status": "unfinished"})
    return _in_own_process(cfg, folder) if _starts_processes(cfg) else finite(run(cfg))


def membership(folder: Path) -> dict[str, str]:
    """Return the name of the MLflow run of this folder, and the sweep that it belongs to."""
    if not (folder.parent / SWEEP).exists():
        return {"run_name": folder.name}
    values = read(folder / JOB)["values"]
    name = ",".join(f"{key}={value}" for key, value in values.items())
    return {"run_name": name or folder.name, "parent": str(folder.parent)}


def _starts_processes(cfg: DictConfig) -> bool:
    """Return whether Lightning would start this process's command again, which is the whole sweep, on each device."""
    if HydraConfig.get().mode != RunMode.MULTIRUN or "trainer" not in cfg:
        return False
    from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher  # takes seconds

    launcher = instantiate(cfg.trainer)(logger=False, enable_checkpointing=False).strategy.launcher
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return False
    return not launcher.cluster_environment.creates_processes_externally


def _in_own_process(cfg: DictConfig, folder: Path) -> float | None:
    """Run a job as a command of its own, which may start others for its devices.

    Raises:
        InputError: it failed; what it said is told.

    """
    task = [each for each in HydraConfig.get().overrides.task if not each.startswith("resume=")]
    if cfg.get("resume"):
        task.append(f'resume="{folder}"')
    words = [f"arniqa_pl.{HydraConfig.get().job.name}", "hydra.mode=RUN", f'hydra.run.dir="{folder}"', *task]
    process = subprocess.Popen([sys.executable, "-m", *words])
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        if process.poll() is None:
            process.terminate()
            process.wait()
    if code == 128 + signal.SIGTERM:
        raise SystemExit(code)
    record = read(folder / JOB)
    if code:
        raise InputError(record.get("error") or f"Its process ended with exit code {code}; see {folder}.")
    return record["objective"]


def finite(value: Any) -> float | None:
    """Return an objective as JSON and sweepers know it: a number, or None if there is none."""
    return None if value is None or value != value else float(value)


def read(file: Path) -> dict[str, Any]:
    """Read facts from a JSON file."""
    return json.loads(file.read_text())


def write(file: Path, facts: dict[str, Any]) -> None:
    """Write facts into a JSON file, in one move, as other processes may be reading."""
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps(facts))
    unfinished.replace(file)
