"""How well predictions agree with scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

Scores = Sequence[float] | NDArray[np.floating]


def srcc(prediction: Scores, target: Scores) -> float:
    """Spearman's rank correlation of two sequences (N,), ties sharing their mean rank; NaN if either is constant."""
    return _correlation(stats.rankdata(np.asarray(prediction)), stats.rankdata(np.asarray(target)))


def plcc(prediction: Scores, target: Scores) -> float:
    """Pearson's linear correlation of two sequences (N,), without a logistic fit; NaN if either is constant."""
    return _correlation(np.asarray(prediction, np.float64), np.asarray(target, np.float64))


def krcc(prediction: Scores, target: Scores) -> float:
    """Kendall's rank correlation τ-b of two sequences (N,); NaN if either is constant."""
    first, second = _pair(prediction, target)
    return float(stats.kendalltau(first, second).statistic)


def rmse(prediction: Scores, target: Scores) -> float:
    """Root mean square error of predictions (N,), in the unit of the scores."""
    first, second = _pair(prediction, target)
    return float(np.sqrt(np.mean((first - second) ** 2)))


def plcc_logistic(prediction: Scores, target: Scores) -> float:
    """Pearson's correlation after `fit_logistic`; NaN if the fit does not converge, or either is constant."""
    return plcc(fit_logistic(prediction, target), target)


def fit_logistic(prediction: Scores, target: Scores) -> NDArray[np.float64]:
    """Map predictions (N,) to scores (N,) by the monotone logistic that fits them best.

    The curve with four parameters of VQEG's final report (phase II, 2003):
    (β₁ - β₂) / (1 + exp(-(x - β₃) / |β₄|)) + β₂, least squares.

    Returns:
        (N,) float64; NaN in every place if the fit does not converge, or fewer than five predictions differ.

    """
    first, second = _pair(prediction, target)
    if len(np.unique(first)) < 5 or np.ptp(second) == 0:
        return np.full(len(first), np.nan)

    x = (first - first.mean()) / first.std()
    falls = x @ (second - second.mean()) < 0
    ends = (second.min(), second.max()) if falls else (second.max(), second.min())

    def curve(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        top, bottom, centre, width = parameters
        return (top - bottom) * special.expit((x - centre) / (abs(width) + 1e-12)) + bottom

    fit = optimize.least_squares(lambda parameters: curve(parameters) - second, (*ends, 0.0, 0.5), method="lm")
    return curve(fit.x) if fit.success else np.full(len(first), np.nan)


MEASURES = {"srcc": srcc, "plcc": plcc, "krcc": krcc, "rmse": rmse, "plcc_logistic": plcc_logistic}
"""What is reported of predictions and scores; the names are columns of the tables."""


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    first, second = _pair(first, second)
    if np.isnan(first).any() or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(stats.pearsonr(first, second).statistic)


def _pair(first: Scores, second: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape or one.ndim != 1 or len(one) < 2:
        raise ValueError(f"wanted two sequences of one length (N,), N ≥ 2, got {one.shape} and {other.shape}")
    return one, other
