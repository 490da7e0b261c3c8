"""The second stage: ridge regressions from frozen features to opinion scores (ARNIQA, sections 3.3 and 4.2)."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

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


class HeldOut(NamedTuple):
    """The test side of a split: row numbers, predictions and scores (rows,), in the database's scale."""

    rows: Rows
    prediction: Array
    score: Array

    def within(self, chosen: NDArray[np.bool_]) -> "HeldOut":
        """Return the rows for which chosen (N,), a mask of the whole database, is true."""
        return HeldOut(*(each[chosen[self.rows]] for each in self))


@dataclass(frozen=True)
class Regression:
    """What the regression stage finds for one database; everything that is reported follows from it.

    Attributes:
        alpha: the penalty with the highest median of validation SRCC over the splits.
        tests: the test side of each split, as predicted from its training side.
        weight: (2·D,) of the ridge refit on all rows.
        bias: its intercept.

    """

    alpha: float
    tests: tuple[HeldOut, ...]
    weight: Tensor
    bias: float

    @property
    def srcc(self) -> Array:
        """(splits,) Spearman correlation on the test sides."""
        return self.measure(srcc)

    @property
    def plcc(self) -> Array:
        """(splits,) Pearson correlation on the test sides, without a logistic fit."""
        return self.measure(plcc)

    def measure(self, function: Callable[[Array, Array], float]) -> Array:
        """Return (splits,) what a function of predictions and scores gives on the test sides."""
        return np.array([function(test.prediction, test.score) for test in self.tests])


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
        HeldOut(split.test, prediction[best][split.test], scores[split.test])
        for prediction, split in zip(predictions, splits, strict=True)
    ]
    return Regression(alpha=float(alphas[best]), tests=tuple(tests), weight=weights[0], bias=float(intercepts[0]))


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

    A training side's moments are those of all rows minus the others', where that is less work.
    """
    penalties = torch.tensor(alphas, dtype=torch.float64)
    means = torch.from_numpy(features.mean(axis=1, dtype=np.float64))  # linear: the mean crop predicts the mean
    everything = _moments(features, scores, np.arange(len(scores)))
    predictions = []
    quiet = rank_zero_only.rank != 0  # type: ignore[attr-defined]
    for split in tqdm(splits, desc=label, unit="split", disable=quiet):
        others = np.setdiff1d(np.arange(len(scores)), split.train)
        if len(others) < len(split.train):
            training = everything - _moments(features, scores, others)
        else:
            training = _moments(features, scores, split.train)
        weights, intercepts = fit_ridge_moments(training, penalties)
        predictions.append((weights @ means.T + intercepts[:, None]).numpy())
    return everything, predictions


def _moments(features: Array, scores: Array, rows: Rows) -> Moments:
    """Sum over all crops of some images."""
    crops = features[rows]
    return Moments.of(
        torch.from_numpy(crops.reshape(-1, crops.shape[2])),
        torch.from_numpy(np.repeat(scores[rows], crops.shape[1])),
    )


def thin_splits(
    splits: Sequence[Split], groups: Sequence[object], fraction: float, repeats: int, seed: int
) -> list[Split]:
    """Keep a share of the references on the training sides; validation and test sides stay.

    Args:
        splits: of the rows.
        groups: (N,) the reference of each row.
        fraction: share in (0, 1] of a training side's references, at least one. What a smaller share keeps, a
            larger one keeps too.
        repeats: draws for each split.
        seed: draw r of split k depends on (seed, k, r) alone.

    Returns:
        (splits · repeats,) splits, those of the first split first.

    Raises:
        InputError: a fraction outside (0, 1].

    """
    if not 0 < fraction <= 1:
        raise InputError(f"Wanted shares of the training references above 0 and up to 1, got {fraction}.")
    member = np.asarray(groups, dtype=str)
    thinned = []
    for number, split in enumerate(splits):
        names = np.unique(member[split.train])
        count = max(round(fraction * len(names)), 1)
        for repeat in range(repeats):
            kept = np.random.default_rng((seed, number, repeat)).permutation(names)[:count]
            thinned.append(Split(split.train[np.isin(member[split.train], kept)], split.val, split.test))
    return thinned


def reference_differences(features: Array, references: Array, of_row: Rows, folder: Path) -> Array:
    """Return |reference - image| feature by feature, for full-reference regression.

    Args:
        features: (N, K, 2·D) of images.
        references: (R, K, 2·D) of their references.
        of_row: (N,) which reference each image has.
        folder: holds the result while it is in use; the file has no name there, and is gone with the array.

    Returns:
        (N, K, 2·D) float32.

    """
    with tempfile.TemporaryFile(dir=folder) as file:
        differences = np.memmap(file, np.float32, "w+", shape=features.shape)
    for rows in np.array_split(np.arange(len(features)), -(-len(features) // 256)):
        differences[rows] = np.abs(references[of_row[rows]] - features[rows])
    return differences
