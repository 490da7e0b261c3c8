"""The second stage: ridge regressions from frozen features to opinion scores (ARNIQA, sections 3.3 and 4.2)."""

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from arniqa_pl.data.splits import Rows, Split
from arniqa_pl.errors import InputError, writing
from arniqa_pl.quality.correlation import plcc, srcc
from arniqa_pl.quality.features import broken_rows
from arniqa_pl.quality.ridge import Moments, fit_ridge_moments

log = logging.getLogger(__name__)

Array = NDArray[np.floating]

_BLOCK_ROWS = 256


class HeldOut(NamedTuple):
    """The test side of a split: row numbers, predictions and scores (rows,), in the database's scale."""

    rows: Rows
    prediction: Array
    score: Array

    def within(self, chosen: NDArray[np.bool_]) -> "HeldOut":
        """Return the rows for which chosen (N,), a mask of the whole database, is true."""
        kept = chosen[self.rows]
        return HeldOut(self.rows[kept], self.prediction[kept], self.score[kept])


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
    features: Array,
    scores: Array,
    splits: Sequence[Split],
    alphas: Sequence[float],
    *,
    standardise: bool = False,
    per_crop: bool = True,
    label: str,
) -> Regression:
    """Choose alpha on the validation sides, report on the test sides, refit on everything.

    Features are read a block at a time: a memory-mapped file of any length costs no memory.

    Args:
        features: (N, K, 2·D) of N images; an image's prediction is the mean over its K crops.
        scores: (N,) in the database's scale.
        splits: of the N rows.
        alphas: (A,) penalties to choose from.
        standardise: fit on features of mean 0 and standard deviation 1 over the rows that are fitted to.
        per_crop: fit to every crop, with its image's score; False: to the mean crop of each image.
        label: what the progress bar calls this.

    Raises:
        InputError: a feature is NaN or infinite.

    """
    fit = partial(fit_ridge_moments, standardise=standardise)
    everything, held_out = _fit_splits(features, scores, splits, alphas, fit, per_crop, label)
    pairs = list(zip(held_out, splits, strict=True))
    validation = [[srcc(row, scores[split.val]) for row in val] for (val, _), split in pairs]
    best = int(np.argmax(np.median(np.nan_to_num(validation, nan=-1.0), axis=0)))
    weights, intercepts = fit(everything, torch.tensor(alphas[best : best + 1], dtype=torch.float64))
    tests = [HeldOut(split.test, test[best], scores[split.test]) for (_, test), split in pairs]
    return Regression(alpha=float(alphas[best]), tests=tuple(tests), weight=weights[0], bias=float(intercepts[0]))


def validate(features: Array, scores: Array, splits: Sequence[Split], alpha: float) -> tuple[float, float]:
    """Return the median over splits of SRCC and PLCC on the validation sides, at a fixed penalty.

    Args:
        features: (N, K, 2·D).
        scores: (N,).
        splits: of the N rows; the ridge is fitted on their training sides.
        alpha: the penalty.

    """
    _, held_out = _fit_splits(features, scores, splits, [alpha], fit_ridge_moments, True, "Validation, splits")
    sides = [(val[0], scores[split.val]) for (val, _), split in zip(held_out, splits, strict=True)]
    return float(np.median([srcc(*side) for side in sides])), float(np.median([plcc(*side) for side in sides]))


def predict_rows(features: Array, rows: Rows, weights: Tensor, intercepts: Tensor) -> Array:
    """Return the predictions (A, rows) of A fits: the mean over an image's crops, which is what its mean crop gives.

    Args:
        features: (N, K, 2·D); read a block at a time.
        rows: numbers of those to predict.
        weights: (A, 2·D) float64.
        intercepts: (A,).

    """
    means = (torch.from_numpy(features[chosen]).mean(dim=1, dtype=torch.float64) for chosen in _blocks(rows))
    return torch.cat([weights @ block.T + intercepts[:, None] for block in means], dim=1).numpy()


def _fit_splits(
    features: Array,
    scores: Array,
    splits: Sequence[Split],
    alphas: Sequence[float],
    fit: Callable[[Moments, Tensor], tuple[Tensor, Tensor]],
    per_crop: bool,
    label: str,
) -> tuple[Moments, list[tuple[Array, Array]]]:
    """Fit every split's ridge path; return the moments of all rows, and each split's predictions.

    Predicted are its validation side (A, val) and its test side (A, test). A training side's moments are those of all
    rows minus the others', where that is less work.
    """
    penalties = torch.tensor(alphas, dtype=torch.float64)
    everyone = np.arange(len(scores))
    everything = Moments.zero(features.shape[2])
    _add_rows(everything, features, scores, everyone, per_crop)
    if not everything.x.isfinite().all():
        broken = broken_rows(features)
        raise InputError(f"Wanted finite features, found NaN in {len(broken)} images, the first in row {broken[0]}.")
    held_out = []
    quiet = rank_zero_only.rank != 0  # type: ignore[attr-defined]
    for split in tqdm(splits, desc=label, unit="split", disable=quiet):
        others = np.setdiff1d(everyone, split.train)
        if len(others) < len(split.train):
            training = everything.clone()
            _add_rows(training, features, scores, others, per_crop, sign=-1)
        else:
            training = Moments.zero(features.shape[2])
            _add_rows(training, features, scores, split.train, per_crop)
        path = fit(training, penalties)
        held_out.append((predict_rows(features, split.val, *path), predict_rows(features, split.test, *path)))
    return everything, held_out


def _add_rows(moments: Moments, features: Array, scores: Array, rows: Rows, per_crop: bool, sign: int = 1) -> None:
    """Add some images to moments, or take them away: all their crops, or their mean crops."""
    for chosen in _blocks(rows):
        crops = torch.from_numpy(features[chosen])
        if not per_crop:
            crops = crops.mean(dim=1, keepdim=True, dtype=torch.float64)
        targets = torch.from_numpy(scores[chosen]).repeat_interleave(crops.shape[1])
        moments.add_(crops.flatten(0, 1), targets, sign)


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + _BLOCK_ROWS] for start in range(0, len(rows), _BLOCK_ROWS))


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
        if number == 0 and fraction * len(names) < 1:
            log.warning("A share of %g of %d references is less than one: one is kept", fraction, len(names))
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
    with writing(folder), tempfile.TemporaryFile(dir=folder) as file:
        # A disk that becomes full behind mapped memory would end the process without a word.
        os.posix_fallocate(file.fileno(), 0, features.size * np.dtype(np.float32).itemsize)
        differences = np.memmap(file, np.float32, "w+", shape=features.shape)
    for rows in _blocks(np.arange(len(features))):
        differences[rows] = np.abs(references[of_row[rows]] - features[rows])
    return differences
