"""The second stage: ridge regressions from frozen features to opinion scores (ARNIQA, sections 3.3 and 4.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from arniqa_pl.data.splits import Rows, Split
from arniqa_pl.errors import InputError
from arniqa_pl.quality.correlation import plcc, srcc
from arniqa_pl.quality.ridge import Moments, fit_ridge_moments

Array = NDArray[np.floating]


@dataclass(frozen=True)
class Regression:
    """What the regression stage finds for one database.

    Attributes:
        alpha: the penalty with the highest median of validation SRCC over the splits.
        srcc: (splits,) Spearman correlation on the test sides.
        plcc: (splits,) Pearson correlation on the test sides.
        prediction: (test rows of the first split,) in the database's scale.
        rows: (test rows of the first split,) their row numbers.
        weight: (2·D,) of the ridge refit on all rows.
        bias: its intercept.

    """

    alpha: float
    srcc: Array
    plcc: Array
    prediction: Array
    rows: Rows
    weight: Tensor
    bias: float


def regress(
    features: Array, scores: Array, splits: Sequence[Split], alphas: Sequence[float], *, label: str
) -> Regression:
    """Choose alpha on the validation sides, report on the test sides, refit on everything.

    Every crop is a row with its image's score; an image's prediction is the mean over its crops.

    Args:
        features: (N, K, 2·D) of N images.
        scores: (N,) in the database's scale.
        splits: of the N rows.
        alphas: (A,) penalties to choose from.
        label: what the progress bar calls this.

    Raises:
        InputError: a feature is NaN or infinite.

    """
    broken = np.flatnonzero(~np.isfinite(features).all(axis=(1, 2)))
    if len(broken):
        raise InputError(f"Wanted finite features, found NaN in {len(broken)} images, the first in row {broken[0]}.")
    everything, predictions = _fit_splits(features, scores, splits, alphas, label)
    validation = [
        [srcc(row[split.val], scores[split.val]) for row in prediction]
        for prediction, split in zip(predictions, splits, strict=True)
    ]
    best = int(np.argmax(np.median(np.nan_to_num(validation, nan=-1.0), axis=0)))
    weights, intercepts = fit_ridge_moments(everything, torch.tensor(alphas[best : best + 1], dtype=torch.float64))
    tests = [
        (prediction[best][split.test], scores[split.test])
        for prediction, split in zip(predictions, splits, strict=True)
    ]
    return Regression(
        alpha=float(alphas[best]),
        srcc=np.array([srcc(*test) for test in tests]),
        plcc=np.array([plcc(*test) for test in tests]),
        prediction=tests[0][0],
        rows=splits[0].test,
        weight=weights[0],
        bias=float(intercepts[0]),
    )


def validate(features: Array, scores: Array, splits: Sequence[Split], alpha: float) -> tuple[float, float]:
    """Return the median over splits of SRCC and PLCC on the validation sides, at a fixed penalty.

    Args:
        features: (N, K, 2·D).
        scores: (N,).
        splits: of the N rows; the ridge is fitted on their training sides.
        alpha: the penalty.

    """
    _, predictions = _fit_splits(features, scores, splits, [alpha], "Validation, splits")
    sides = [
        (prediction[0][split.val], scores[split.val]) for prediction, split in zip(predictions, splits, strict=True)
    ]
    return float(np.median([srcc(*side) for side in sides])), float(np.median([plcc(*side) for side in sides]))


def _fit_splits(
    features: Array, scores: Array, splits: Sequence[Split], alphas: Sequence[float], label: str
) -> tuple[Moments, list[Array]]:
    """Fit every split's ridge path; return the moments of all rows, and each split's predictions (A, N).

    A training side's moments are those of all rows minus the held-out ones: less than a third of the work.
    """
    penalties = torch.tensor(alphas, dtype=torch.float64)
    means = torch.from_numpy(features.mean(axis=1, dtype=np.float64))  # linear: the mean crop predicts the mean
    everything = _moments(features, scores, np.arange(len(scores)))
    predictions = []
    quiet = rank_zero_only.rank != 0  # type: ignore[attr-defined]
    for split in tqdm(splits, desc=label, unit="split", disable=quiet):
        held_out = _moments(features, scores, np.concatenate([split.val, split.test]))
        weights, intercepts = fit_ridge_moments(everything - held_out, penalties)
        predictions.append((weights @ means.T + intercepts[:, None]).numpy())
    return everything, predictions


def _moments(features: Array, scores: Array, rows: Rows) -> Moments:
    """Sum over all crops of some images."""
    crops = features[rows]
    return Moments.of(
        torch.from_numpy(crops.reshape(-1, crops.shape[2])),
        torch.from_numpy(np.repeat(scores[rows], crops.shape[1])),
    )
