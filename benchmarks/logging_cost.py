"""python benchmarks/logging_cost.py: what tracking adds to the time of a step. Under 3 minutes.

A step is 50 ms of matrix products, as short as on a fast GPU, on all cores; the demo's take twenty times as long. At
every tenth, 20 metrics are logged, as the trainer does. Stretches with and without a logger take turns. With it runs
everything that a real run has: the journal, its delivery into MLflow's SQLite file, and the system's metrics, which are
taken every 3 s instead of 10, to be in every stretch. Exits with 1 above 2 %.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console

from arniqa_pl.tracking import RunLogger, system

STEP, STEPS, TURNS = 0.05, 120, 9  # s, steps of a stretch, stretches of each kind
EVERY, METRICS = 10, 20
CEILING = 0.02


def main() -> int:
    system.INTERVAL = 3.0
    matrix = torch.rand(512, 512)
    products = _products_for(STEP, matrix)
    with tempfile.TemporaryDirectory() as folder:
        _stretch(matrix, products, _logger(Path(folder), "warm up"))
        ratios, calls = [], []
        for turn in range(TURNS):
            without, _ = _stretch(matrix, products, None)
            tracked, call = _stretch(matrix, products, _logger(Path(folder), str(turn)))
            ratios.append(tracked / without - 1)
            calls.append(call)
    low, middle, high = statistics.quantiles(ratios, n=4)
    Console().print(
        f"{torch.get_num_threads()} threads, steps of {1000 * without:.0f} ms, {METRICS} metrics every {EVERY} steps: "
        f"tracking adds {middle:+.2%} to the time of a step (quartiles of {TURNS} comparisons: {low:+.2%}, "
        f"{high:+.2%}); the step that logs waits {1e6 * statistics.median(calls):.0f} µs for it."
    )
    return 0 if middle <= CEILING else 1


def _logger(folder: Path, name: str) -> RunLogger:
    store = {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "artifact_location": str(folder / "artifacts")}
    return RunLogger(folder=str(folder / name), experiment_name="cost", patience=30, **store)


def _products_for(seconds: float, matrix: torch.Tensor) -> int:
    """Return how many products of a matrix with itself take so long."""
    products = 1
    while True:
        started = time.perf_counter()
        _work(matrix, products)
        if (took := time.perf_counter() - started) > 20 * seconds:
            return max(round(products * seconds / took), 1)
        products *= 2


def _work(matrix: torch.Tensor, products: int) -> None:
    for _ in range(products):
        torch.mm(matrix, matrix)


def _stretch(matrix: torch.Tensor, products: int, logger: RunLogger | None) -> tuple[float, float]:
    """Take the steps; return the mean time of one, and the median time of a call to log, in seconds."""
    if logger is None:
        return _steps(matrix, products, None)
    with logger.recording():
        return _steps(matrix, products, logger)


def _steps(matrix: torch.Tensor, products: int, logger: RunLogger | None) -> tuple[float, float]:
    calls = [0.0]
    started = time.perf_counter()
    for step in range(STEPS):
        _work(matrix, products)
        if logger is not None and step % EVERY == 0:
            called = time.perf_counter()
            logger.log_metrics({f"train/metric_{number}": float(step) for number in range(METRICS)}, step)
            calls.append(time.perf_counter() - called)
    return (time.perf_counter() - started) / STEPS, statistics.median(calls)


if __name__ == "__main__":
    sys.exit(main())
