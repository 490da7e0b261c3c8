"""python -m arniqa_pl.report runs=<run>,<run>, or name=<MLflow experiment>: runs side by side, as Markdown and HTML.

python -m arniqa_pl.report send [runs=<folder>,<folder>]: send what a tracking server has not got yet.
"""

import logging
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from arniqa_pl import launch
from arniqa_pl.errors import InputError
from arniqa_pl.pages.comparison import comparison_tables, write_comparison
from arniqa_pl.quality import report
from arniqa_pl.tracking.delivery import brief, deliver, prepare_client
from arniqa_pl.tracking.journal import JOURNAL, Journal
from arniqa_pl.tracking.store import read_experiment, read_run

log = logging.getLogger(__name__)


@launch.entry("report", lists=("runs",))
def compare(cfg: DictConfig) -> None:
    """Tabulate some runs, or all of an experiment."""
    if bool(cfg.runs) == bool(cfg.name):
        raise InputError("Wanted runs to compare, or all of an experiment: give runs=<folder or id>,… or name=<name>.")
    uri = cfg.logger.tracking_uri
    if cfg.name:
        title, stories = f"Runs of {cfg.name}", read_experiment(cfg.name, uri)
    else:
        given = [cfg.runs] if isinstance(cfg.runs, str) else cfg.runs
        title = "Runs side by side"
        stories = [Journal(Path(run)).story() if Path(run).is_dir() else read_run(run, uri) for run in given]
    tables = comparison_tables(stories)
    for file in write_comparison(tables, title, Path(cfg.output)):
        log.info("%s", file)
    Console().print(report.terminal_table(tables["Results"], title))


@launch.entry("report_send", lists=("runs",))
def send(cfg: DictConfig) -> None:
    """Send runs, or whatever is not sent below the runs' folder."""
    given = [cfg.runs] if isinstance(cfg.runs, str) else cfg.runs or []
    folders = [Path(run) for run in given] or sorted(file.parent for file in Path(cfg.paths.runs_dir).rglob(JOURNAL))
    servers = {journal: cfg.tracking_uri or journal.facts()["tracking_uri"] for journal in map(Journal, folders)}
    left = [journal for journal in servers if cfg.tracking_uri or journal.unsent()]
    prepare_client()
    failed = []
    for journal in left:
        try:
            deliver(journal, servers[journal])
            log.info("Sent %s", journal.folder)
        except Exception as error:  # of whichever client library
            failed.append(f"{journal.folder}: {brief(error)}")
    if failed:
        raise InputError(f"Wanted to send {len(left)} runs, {len(failed)} did not arrive:\n" + "\n".join(failed))
    if not left:
        log.info("Everything was sent before.")


VERBS = {"compare": compare, "send": send}
"""Each has a root config of its own: conf/report.yaml, conf/report_send.yaml."""


def main() -> None:
    """Run the verb that the command line names."""
    launch.run_verb(VERBS)


if __name__ == "__main__":
    main()
