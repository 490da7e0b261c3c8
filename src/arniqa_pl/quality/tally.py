from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np


class Tally:
    """Counts rows of scores, and remembers of several scorers what it takes to compare them: 8 bytes a score.

    Args:
        names: of the scorers.

    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.count = 0
        self.errors = 0
        self._qualities = {name: array("d") for name in self.names}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take a row of `score_entries` in."""
        self.count += 1
        self.errors += bool(row["error"])
        if len(self.names) > 1 and not row["error"]:
            for name, values in self._qualities.items():
                values.append(row[f"quality_{name}"])

    def agreement(self) -> Iterator[str]:
        """Yield a sentence for each pair of scorers: the rank correlation of their qualities."""
        if len(self.names) < 2 or self.count - self.errors < 2:
            return
        from arniqa_pl.quality.correlation import srcc  # SciPy takes a second

        for first, second in combinations(self.names, 2):
            one, other = (np.asarray(self._qualities[name]) for name in (first, second))
            yield f"SRCC of {first} and {second} over {len(one)} images: {srcc(one, other):.3f}"
