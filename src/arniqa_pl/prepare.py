"""python -m arniqa_pl.prepare [demo]: write the demo data in the databases' own layouts."""

import logging
import sys
from pathlib import Path

from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.demo import write_demo

log = logging.getLogger(__name__)


@launch.entry("prepare")
def demo(cfg: DictConfig) -> None:
    """Write the demo data."""
    write_demo(Path(cfg.output), pristine=cfg.pristine, seed=cfg.seed)
    log.info("Demo data: %s", cfg.output)


VERBS = {"demo": demo}
"""Each has a root config of its own: conf/prepare.yaml, or conf/prepare_<verb>.yaml."""


def main() -> None:
    """Run the verb named by the first word, demo if there is none: Hydra knows overrides and flags only."""
    verb = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1].isidentifier() else "demo"
    if verb not in VERBS:
        sys.exit(f"Wanted python -m arniqa_pl.prepare {' | '.join(VERBS)}, got {verb!r}.")
    VERBS[verb]()


if __name__ == "__main__":
    main()
