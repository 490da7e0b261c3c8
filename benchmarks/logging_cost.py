"""python benchmarks/logging_cost.py: what tracking adds to the time of a step. About 2 minutes.

A step is 50 ms, as short as on a fast GPU; the demo's take twenty times as long. At every tenth, 20 metrics are logged,
as the trainer does, with everything that a real run has: the journal, its delivery into MLflow's SQLite file, and the
system's metrics, which are taken every 3 s instead of 10.

Twice measured. First as a bound: the steps only sleep, so what the process computes meanwhile is the tracking, and a
step cannot lose more than that and the time of its own call, even with every core at work. Then directly, with steps of
matrix products on all cores: stretches with and without a logger take turns. That is as noisy as the machine, which
stretches without a logger say when they are held against each other. Exits with 1 if the bound is above 2 %, or if the
direct measure says so beyond its noise.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console

from arniqa_pl.tracking import RunLogger, system

STEP = 0.05  # s
EVERY, METRICS = 10, 20
CEILING = 0.02
LONG, STRETCH, TURNS = 600, 100, 4  # steps for the bound; of a stretch; rounds of without, with, without, with


def main() -> int:
    system.INTERVAL = 3.0
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        _stretch(lambda: time.sleep(STEP), STRETCH, _logger(store, "warm up"))
        bound, call = _bound(_logger(store, "bound"))
        work = _work_of(STEP)
        times: dict[bool, list[float]] = {False: [], True: []}
        for turn in range(2 * TURNS):
            times[False].append(_stretch(work, STRETCH, None))
            times[True].append(_stretch(work, STRETCH, _logger(store, str(turn))))
    plain, tracked = statistics.median(times[False]), statistics.median(times[True])
    pairs = zip(times[False][::2], times[False][1::2], strict=True)
    noise = statistics.median(abs(second / first - 1) for first, second in pairs)
    direct = tracked / plain - 1
    Console().print(
        f"{METRICS} metrics every {EVERY} steps of {1000 * STEP:.0f} ms: tracking takes at most {bound:.2%} of a step; "
        f"the step that logs waits {1e6 * call:.0f} µs for it. Directly, {torch.get_num_threads()} threads at work on "
        f"steps of {1000 * plain:.0f} ms: {direct:+.2%}, where stretches without tracking differ by {noise:.2%} among "
        "themselves."
    )
    return 0 if bound <= CEILING and direct - noise <= CEILING else 1


def _logger(folder: Path, name: str) -> RunLogger:
    store = {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "artifact_location": str(folder / "artifacts")}
    return RunLogger(folder=str(folder / name), experiment_name="cost", patience=30, **store)


def _work_of(seconds: float) -> Callable[[], None]:
    """Return something that takes about so long on all cores."""
    matrix = torch.rand(512, 512)
    products, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < 5:
        torch.mm(matrix, matrix)
        products += 1

    def work() -> None:
        for _ in range(round(products * seconds / took)):
            torch.mm(matrix, matrix)

    return work


def _bound(logger: RunLogger) -> tuple[float, float]:
    """Return the share of a step that tracking takes at most, and the median time of a call to log, in seconds."""
    calls = []
    with logger.recording():
        computed, started = time.process_time(), time.perf_counter()
        for step in range(LONG):
            time.sleep(STEP)
            if step % EVERY == 0:
                called, own = time.perf_counter(), time.thread_time()
                _log(logger, step)
                calls.append((time.perf_counter() - called, time.thread_time() - own))
        elapsed = time.perf_counter() - started
        beside = time.process_time() - computed - sum(own for _, own in calls)
    waits = [wait for wait, _ in calls]
    return (beside + sum(waits)) / elapsed, statistics.median(waits)


def _stretch(work: Callable[[], None], steps: int, logger: RunLogger | None) -> float:
    """Take steps; return the mean time of one, in seconds."""
    if logger is None:
        return _steps(work, steps, None)
    with logger.recording():
        return _steps(work, steps, logger)


def _steps(work: Callable[[], None], steps: int, logger: RunLogger | None) -> float:
    started = time.perf_counter()
    for step in range(steps):
        work()
        if logger is not None and step % EVERY == 0:
            _log(logger, step)
    return (time.perf_counter() - started) / steps


def _log(logger: RunLogger, step: int) -> None:
    logger.log_metrics({f"train/metric_{number}": float(step) for number in range(METRICS)}, step)


if __name__ == "__main__":
    sys.exit(main())
