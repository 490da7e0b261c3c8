"""The whole ridge path against scikit-learn's Ridge, one penalty at a time, in one run.

Command: python benchmarks/ridge.py (2 CPU cores, about 10 seconds).
"""

import time

import numpy as np
import torch
from rich.console import Console
from sklearn.linear_model import Ridge

from arniqa_pl.quality import fit_ridge

ROWS, DIM, TIMED = 6000, 2048, (0, 20, 50, 99)


def main() -> None:
    rng = np.random.default_rng(0)
    features = np.abs(rng.standard_normal((ROWS, 64))) @ np.abs(rng.standard_normal((64, DIM)))
    features += 0.3 * np.abs(rng.standard_normal((ROWS, DIM)))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    targets = features @ rng.standard_normal(DIM) * 5 + 0.05 * rng.standard_normal(ROWS)
    alphas = np.geomspace(1e-3, 1e3, 100)

    start = time.perf_counter()
    weights, intercepts = fit_ridge(*map(torch.from_numpy, (features, targets, alphas)))
    ours = time.perf_counter() - start

    theirs, error = 0.0, 0.0
    for index in TIMED:
        start = time.perf_counter()
        ridge = Ridge(alpha=alphas[index]).fit(features, targets)
        theirs += time.perf_counter() - start
        difference = features @ weights[index].numpy() + float(intercepts[index]) - ridge.predict(features)
        error = max(error, float(np.abs(difference).max() / targets.std()))
    ratio = theirs / len(TIMED) * len(alphas) / ours
    Console().print(f"{len(alphas)} penalties, {ROWS} × {DIM}: {ratio:.0f} times faster, error {error:.1e}")


if __name__ == "__main__":
    main()
