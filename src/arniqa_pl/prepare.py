"""python -m arniqa_pl.prepare: write the demo data in the databases' own layouts."""

import logging
from pathlib import Path

from omegaconf import DictConfig

from arniqa_pl import launch
from arniqa_pl.demo import write_demo

log = logging.getLogger(__name__)


@launch.entry("prepare")
def main(cfg: DictConfig) -> None:
    """Write the demo data."""
    write_demo(Path(cfg.output), pristine=cfg.pristine, seed=cfg.seed)
    log.info("Demo data: %s", cfg.output)


if __name__ == "__main__":
    main()
