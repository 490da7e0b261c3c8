"""The regression of a whole database against scikit-learn's Ridge, one fit at a time, in one run.

TID2013's size: 3,000 images × 5 crops × 4,096 features, 10 splits by 25 references, 100 penalties: a thousand fits on
10,800 rows. Ours is `regress` as the command calls it, with the choice of the penalty, the predictions and the final
refit; of scikit-learn's thousand, some are timed and the others extrapolated. Exits with 1 below 60 times, or if
predictions differ by more than 1e-6 of the scores' standard deviation.

Command: python benchmarks/ridge.py (2 CPU cores, about 2 minutes).
"""

import sys
import time

import numpy as np
from rich.console import Console
from sklearn.linear_model import Ridge

from arniqa_pl.data.splits import draw_splits
from arniqa_pl.quality.regression import regress

IMAGES, CROPS, DIM, REFERENCES = 3000, 5, 4096, 25
TIMED = (0, 50, 99)
FLOOR, TOLERANCE = 60, 1e-6


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return strongly correlated features of unit-length halves, as an encoder gives them, and scores."""
    rng = np.random.default_rng(0)
    hidden = np.abs(rng.standard_normal((IMAGES, 1, 64))) + 0.3 * rng.standard_normal((IMAGES, CROPS, 64))
    features = np.abs(hidden @ np.abs(rng.standard_normal((64, DIM))))
    features += 0.3 * np.abs(rng.standard_normal(features.shape))
    halves = features.reshape(IMAGES, CROPS, 2, DIM // 2)
    features = (halves / np.linalg.norm(halves, axis=3, keepdims=True)).reshape(features.shape).astype(np.float32)
    scores = features.mean(axis=1) @ rng.standard_normal(DIM)
    return features, scores + 0.2 * scores.std() * rng.standard_normal(IMAGES)


def main() -> int:
    features, scores = problem()
    splits = draw_splits(np.arange(IMAGES) % REFERENCES, count=10)
    alphas = np.geomspace(1e-3, 1e3, 100).tolist()

    start = time.perf_counter()
    found = regress(features, scores, splits, alphas, label="Ridge, splits")
    ours = time.perf_counter() - start

    train = splits[0].train
    rows, targets = features[train].reshape(-1, DIM).astype(np.float64), scores[train].repeat(CROPS)
    means = features[splits[0].test].mean(axis=1, dtype=np.float64)
    start = time.perf_counter()
    for index in TIMED:
        Ridge(alpha=alphas[index]).fit(rows, targets)
    theirs = (time.perf_counter() - start) / len(TIMED) * len(alphas) * len(splits)

    chosen = Ridge(alpha=found.alpha).fit(rows, targets)
    error = np.abs(chosen.predict(means) - found.tests[0].prediction).max() / scores.std()
    Console().print(
        f"{len(splits)} splits × {len(alphas)} penalties, {len(rows)} × {DIM}: {ours:.0f} s against {theirs:.0f} s, "
        f"{theirs / ours:.0f} times faster (floor {FLOOR}), predictions differ by {error:.1e} (at most {TOLERANCE:.0e})"
    )
    return 0 if theirs / ours >= FLOOR and error <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
