"""python -m arniqa_pl.prepare [demo]: write the demo data in the databases' own layouts.

python -m arniqa_pl.prepare check database=kadid10k [decode=true]: say what a database's folder holds and lacks.
python -m arniqa_pl.prepare photos input=<folder> output=photos.txt: list the photographs fit for pre-training.
python -m arniqa_pl.prepare shards input=<folder or list> output=<folder or URI>: pack photographs for streaming.
"""

import logging
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from arniqa_pl import launch
from arniqa_pl.data.check import check_database, findings_table
from arniqa_pl.data.screening import PROBLEMS, report_file, require_listable, screen_photos, write_screening
from arniqa_pl.data.shards import write_shards
from arniqa_pl.demo import NOTE, write_demo
from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)


@launch.entry("prepare")
def demo(cfg: DictConfig) -> None:
    """Write the demo data."""
    write_demo(Path(cfg.output), pristine=cfg.pristine, seed=cfg.seed)
    log.info("Demo data: %s", cfg.output)


@launch.entry("prepare_check")
def check(cfg: DictConfig) -> None:
    """Print a table for each database, then what is wrong; fail if anything is."""
    launch.require_databases(cfg)
    console, faults = Console(), 0
    for name, config in cfg.databases.items():
        try:
            database = launch.read_input(config)
        except InputError as error:
            console.print(f"{name}: {error}\n", soft_wrap=True, highlight=False)
            faults += 1
            continue
        excerpt = (database.root.parent / NOTE).is_file()
        findings = check_database(database, decode=cfg.decode, excerpt=excerpt)
        title = f"{database.name} in {database.root}" + (
            ": written by the demo, an excerpt on purpose" if excerpt else ""
        )
        console.print(findings_table(title, findings))
        told = [finding.fault for finding in findings if finding.fault] or ["Nothing is wrong."]
        console.print(*told, "", sep="\n", soft_wrap=True, highlight=False)
        faults += sum(bool(finding.fault) and not finding.excused for finding in findings)
    if faults:
        raise InputError(f"Wanted {', '.join(cfg.databases)} without a fault, found {faults}: see above.")


@launch.entry("prepare_photos")
def photos(cfg: DictConfig) -> None:
    """Measure photographs, report on all of them, and list those to learn from."""
    require_listable(Path(cfg.output), cfg.leave_out)
    found = launch.read_input(cfg.photos)
    table = screen_photos(found, **cfg.screening)
    for problem in PROBLEMS:
        count = table["problems"].str.contains(problem).sum()
        log.info("%s: %d%s", problem, count, ", left out" if count and problem in cfg.leave_out else "")
    kept = write_screening(table, found, Path(cfg.output), cfg.leave_out)
    log.info("%d of %d photographs: %s; what they measure: %s", kept, len(found), cfg.output, report_file(cfg.output))


@launch.entry("prepare_shards")
def shards(cfg: DictConfig) -> None:
    """Pack photographs into shards."""
    found = launch.read_input(cfg.photos)
    write_shards(found, str(cfg.output), shard_bytes=cfg.shard_bytes)
    log.info("%d photographs in shards: %s", len(found), cfg.output)


VERBS = {"demo": demo, "check": check, "photos": photos, "shards": shards}
"""Each has a root config of its own: conf/prepare.yaml, or conf/prepare_<verb>.yaml."""


def main() -> None:
    """Run the verb that the command line names."""
    launch.run_verb(VERBS)


if __name__ == "__main__":
    main()
