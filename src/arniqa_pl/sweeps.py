"""A sweep is a folder of runs, and an MLflow run with a child for each: recorded, continued, compared."""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from arniqa_pl.errors import InputError
from arniqa_pl.jobs import JOB, SWEEP, finite, read, resumes, searches, write
from arniqa_pl.overrides import check_sweep, swept
from arniqa_pl.provenance import command
from arniqa_pl.tracking.journal import Journal

log = logging.getLogger(__name__)


class SweepRecord(Callback):
    """Hydra's callback that keeps a sweep: its MLflow run, what became of each job, and the comparison at the end.

    A job that raises is a line of the comparison, and the sweep goes on; the command's exit code is then 1.
    """

    def on_multirun_start(self, config: DictConfig, **call: Any) -> None:
        """Write down what is swept, and open the sweep's run, unless it continues."""
        with _told():
            check_sweep(config, call["config_name"])
            folder = Path(config.hydra.sweep.dir)
            direction = config.hydra.sweeper.get("direction")
            if getattr(direction, "name", direction) == "minimize":
                raise InputError(
                    "Wanted a sweeper that maximises the SRCC, found hydra.sweeper.direction=minimize: say "
                    "hydra/sweeper=tune, which is Optuna's with the right settings."
                )
            if resumes(config):
                return
            if (folder / SWEEP).exists():
                raise InputError(
                    f"Wanted a new folder for a new sweep, {folder} holds one: continue it with -m "
                    f"hydra.sweep.dir={folder} resume=true, or name another folder."
                )
            task, own = list(config.hydra.overrides.task), list(config.hydra.overrides.hydra)
            folder.mkdir(parents=True, exist_ok=True)
            arguments = [each for each in own + task if not each.startswith("hydra.sweep.dir=")]
            write(folder / SWEEP, {"arguments": arguments, "swept": list(swept(config))})
            logger = instantiate(config.logger, folder=str(folder), run_name=f"sweep {folder.name}")
            job = config.hydra.job.name
            words = command([f"arniqa_pl.{job}", "-m", *task])
            logger.set_tags({"stage": f"{job} sweep", "command": words, "run_dir": str(folder.resolve())})
            logger.set_tags({"mlflow.source.name": f"arniqa_pl.{job}", "mlflow.source.type": "LOCAL"})
            logger.log_hyperparams({"swept": ", ".join(swept(config))})

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """Write down what became of a job; in a sweep, what it raised ends here."""
        folder = Path(config.hydra.runtime.output_dir)
        if not (folder.parent / SWEEP).exists() or rank_zero_only.rank:  # type: ignore[attr-defined]
            return
        with _told():
            record = read(folder / JOB)
            if record["status"] == "unfinished":  # not one that was left alone
                record["minutes"] = (time.time() - record["started"]) / 60
            if job_return.status == JobStatus.FAILED:
                error = job_return._return_value
                write(folder / JOB, record | {"status": "failed", "error": str(error) or type(error).__name__})
                if config.hydra.mode == RunMode.MULTIRUN:
                    known = isinstance(error.__cause__, InputError)
                    log.error("Job %s failed: %s", folder.name, error, exc_info=None if known else error)
                    job_return.status, job_return.return_value = JobStatus.COMPLETED, None
            elif record["status"] == "unfinished":
                write(folder / JOB, record | {"status": "finished", "objective": finite(job_return.return_value)})
            if job_return.status == JobStatus.COMPLETED and finite(job_return.return_value) is None:
                job_return.return_value = -math.inf  # Optuna cannot end a search in which no trial has a value

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Compare the jobs, and say how to continue if one of them has no result."""
        with _told():
            folder = Path(config.hydra.sweep.dir)
            missing = compare(folder, config)
            if missing:
                again = f"python -m arniqa_pl.{config.hydra.job.name} -m hydra.sweep.dir={folder} resume=true"
                log.error(
                    "Jobs without a result: %s. %s",
                    ", ".join(missing),
                    f"Look further with: {again} hydra.sweeper.n_trials=<more than {config.hydra.sweeper.n_trials}>"
                    if searches(config.hydra.sweeper)
                    else f"Run these again with: {again}",
                )
                raise SystemExit(1)


@contextmanager
def _told() -> Iterator[None]:
    """End the command over what goes wrong in a callback, of which Hydra would make a warning."""
    try:
        yield
    except InputError as error:
        raise SystemExit(str(error)) from error
    except Exception as error:
        log.exception("The sweep could not be recorded.")
        raise SystemExit(1) from error


def compare(folder: Path, config: DictConfig) -> list[str]:
    """Write the comparison of a sweep's jobs into its folder and its MLflow run, and print it.

    Args:
        folder: of the sweep.
        config: with a `logger`, and the `hydra` of the sweep.

    Returns:
        The names of the jobs that have no result.

    """
    from arniqa_pl.quality import comparison, report  # Matplotlib: jobs that start in a moment do without

    facts = read(folder / SWEEP)
    keys = facts["swept"]
    files = sorted(folder.glob(f"*/{JOB}"), key=lambda file: (len(file.parent.name), file.parent.name))
    jobs = comparison.jobs_frame([_job(file) for file in files], keys)
    missing = jobs.loc[jobs["status"] != "finished", "job"].tolist()
    best = "None: no job has finished."
    if len(missing) < len(jobs):
        values = comparison.best_values(jobs[jobs["status"] == "finished"], keys)
        best = _command_of(config, facts["arguments"], values)
    means = comparison.seeds_frame(jobs, keys)
    text = comparison.comparison_text(jobs, keys, best)
    logger = instantiate(config.logger, folder=str(folder), resume=True)
    with logger.recording():
        for file in report.write_tables(folder, {"overall": means, "jobs": jobs}, text):
            logger.log_artifact(file)
        logger.log_table(jobs, "jobs.json")
        logger.log_figure(comparison.comparison_figure(jobs, keys), "figures/comparison.png")
        # The page has a title, and shows the first lines only.
        logger.set_tags({"mlflow.note.content": text.partition("\n\n")[2], "best": best})
        if len(missing) < len(jobs):
            logger.log_metrics({"best/objective": means["objective_mean"][0]})
    Console().print(
        report.terminal_table(comparison.terminal_frame(means), "Sweep: mean ± standard deviation over seeds")
    )
    log.info("Best: %s", best)
    log.info("Comparison: %s", folder)
    return missing


def _job(file: Path) -> dict[str, Any]:
    """Return a job's record, with the last values of its test metrics."""
    record = {"objective": None, "minutes": None, "error": None} | read(file)
    journal = Journal(file.parent)
    metrics = journal.story().metrics if journal.file.exists() else {}
    tests = {name: history[-1][1] for name, history in metrics.items() if name.startswith("test/")}
    shown = {name: value for name, value in tests.items() if name.endswith(("/srcc", "/plcc"))}
    return record | {"job": file.parent.name, "metrics": shown}


def _command_of(config: DictConfig, arguments: Sequence[str], values: dict[str, str]) -> str:
    """Return the command of a single run with these values of what the sweep changes, and all that it held fixed."""
    parsed = OverridesParser.create().parse_overrides([each for each in arguments if not each.startswith("hydra")])
    changed = {*swept(config), "resume"}
    fixed = [str(each.input_line) for each in parsed if each.key_or_group not in changed]
    from_yaml = "hydra.mode=MULTIRUN" not in arguments
    chosen = [f"{key}={value}" for key, value in values.items()]
    return command([f"arniqa_pl.{config.hydra.job.name}", *fixed, *chosen, *(["hydra.mode=RUN"] if from_yaml else [])])
