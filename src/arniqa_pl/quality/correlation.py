from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Scores = Sequence[float] | NDArray[np.floating]


def srcc(prediction: Scores, target: Scores) -> float:
    """Spearman's rank correlation of two sequences (N,), ties sharing their mean rank; NaN if either is constant."""
    return _correlation(stats.rankdata(np.asarray(prediction)), stats.rankdata(np.asarray(target)))


def plcc(prediction: Scores, target: Scores) -> float:
    """Pearson's linear correlation of two sequences (N,), without a logistic fit; NaN if either is constant."""
    return _correlation(np.asarray(prediction, np.float64), np.asarray(target, np.float64))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if first.shape != second.shape or first.ndim != 1 or len(first) < 2:
        raise ValueError(f"wanted two sequences of one length (N,), N ≥ 2, got {first.shape} and {second.shape}")
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.pearsonr(first, second).statistic)
