"""python -m arniqa_pl.prepare [demo]: write the demo data in the databases' own layouts.

python -m arniqa_pl.prepare photos input=<folder> output=photos.txt: list the photographs fit for pre-training.
python -m arniqa_pl.prepare shards input=<folder or list> output=<folder or URI>: pack photographs for streaming.
"""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.data.screening import PROBLEMS, report_file, screen_photos, write_screening
from arniqa_pl.data.shards import write_shards
from arniqa_pl.demo import write_demo

log = logging.getLogger(__name__)


@launch.entry("prepare")
def demo(cfg: DictConfig) -> None:
    """Write the demo data."""
    write_demo(Path(cfg.output), pristine=cfg.pristine, seed=cfg.seed)
    log.info("Demo data: %s", cfg.output)


@launch.entry("prepare_photos")
def photos(cfg: DictConfig) -> None:
    """Measure photographs, report on all of them, and list those to learn from."""
    found = launch.build({"photos": cfg.photos})["photos"]
    table = screen_photos(found, **cfg.screening)
    for problem in PROBLEMS:
        count = table["problems"].str.contains(problem).sum()
        log.info("%s: %d%s", problem, count, ", left out" if count and problem in cfg.leave_out else "")
    kept = write_screening(table, found, Path(cfg.output), cfg.leave_out)
    log.info("%d of %d photographs: %s; what they measure: %s", kept, len(found), cfg.output, report_file(cfg.output))


@launch.entry("prepare_shards")
def shards(cfg: DictConfig) -> None:
    """Pack photographs into shards."""
    found = launch.build({"photos": cfg.photos})["photos"]
    write_shards(found, str(cfg.output), shard_bytes=cfg.shard_bytes, num_workers=cfg.num_workers)
    log.info("%d photographs in shards: %s", len(found), cfg.output)


VERBS = {"demo": demo, "photos": photos, "shards": shards}
"""Each has a root config of its own: conf/prepare.yaml, or conf/prepare_<verb>.yaml."""


def main() -> None:
    """Run the verb named by the first word, demo if there is none: Hydra knows overrides and flags only."""
    verb = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1].isidentifier() else "demo"
    if verb not in VERBS:
        sys.exit(f"Wanted python -m arniqa_pl.prepare {' | '.join(VERBS)}, got {verb!r}.")
    VERBS[verb]()


if __name__ == "__main__":
    main()
