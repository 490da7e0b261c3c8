"""What the test sides of several splits say together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arniqa_pl.quality.correlation import MEASURES
from arniqa_pl.quality.regression import HeldOut

BOOTSTRAP_DRAWS = 10_000


def summarize_tests(tests: Sequence[HeldOut]) -> dict[str, float]:
    """Summarize every measure of some test sides.

    Returns:
        Five columns for each of `MEASURES`: the median by its bare name, then `_mean`, `_std`, `_low` and `_high`; and
        logistic_fits, the number of test sides that a logistic curve was found for.

    """
    columns: dict[str, float] = {}
    for name, function in MEASURES.items():
        values = np.array([function(test.prediction, test.score) for test in tests])
        columns |= {_column(name, statistic): value for statistic, value in summarize(values).items()}
    return columns | {"logistic_fits": int(np.isfinite(values).sum())}  # of the last measure


def summarize(values: NDArray[np.floating]) -> dict[str, float]:
    """Summarize one measure (splits,): median, mean, standard deviation, and the bounds of an interval.

    The interval holds the middle 95 % of the medians of 10,000 resamplings of the splits with replacement
    (percentile bootstrap, seeded). Splits without a value (NaN) are left out; a single one has no spread (NaN).
    """
    found = values[np.isfinite(values)]
    summary = dict.fromkeys(("median", "mean", "std", "low", "high"), float("nan"))
    if len(found) < 2:
        return summary | dict.fromkeys(("median", "mean"), float(found[0]) if len(found) else float("nan"))
    draws = np.random.default_rng(0).choice(found, (BOOTSTRAP_DRAWS, len(found)))
    low, high = np.quantile(np.median(draws, axis=1), [0.025, 0.975])
    return {
        "median": float(np.median(found)),
        "mean": float(found.mean()),
        "std": float(found.std()),
        "low": float(low),
        "high": float(high),
    }


def _column(measure: str, statistic: str) -> str:
    return measure if statistic == "median" else f"{measure}_{statistic}"
