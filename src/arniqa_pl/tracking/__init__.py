from arniqa_pl.tracking.journal import Journal
from arniqa_pl.tracking.logger import RunLogger

__all__ = ["Journal", "RunLogger"]
