"""The clock jumps by a day and by years while a training runs: it saves, counts and tells as if nothing had happened.

The real thing: libfaketime hands every process of the run the time that a file says.
"""

import contextlib
import time
from pathlib import Path

import pandas as pd
import pytest

from arniqa_pl.models.restart import LAST, PREVIOUS
from arniqa_pl.tracking import Journal
from tests.faults.commands import TINY, finished, run, start
from tests.faults.test_kills import equal, losses

pytestmark = pytest.mark.faults
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
JUMPS = ("-1d", "+3y", "-20y", "+0")


def saved_at(checkpoints: Path) -> int:
    """When the newest checkpoint was saved; one that is being replaced lies under its other name."""
    times = [0]
    for name in (LAST, PREVIOUS):
        with contextlib.suppress(FileNotFoundError):
            times.append((checkpoints / name).stat().st_mtime_ns)
    return max(times)


@pytest.mark.skipif(LIBRARY is None, reason="the clock is moved by libfaketime: apt-get install libfaketime")
def test_a_training_does_not_care_what_time_it_is(trained, small_data, tmp_path):
    work, clock = tmp_path / "work", tmp_path / "clock"
    work.mkdir()
    clock.write_text("+0")
    faked = {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the kernel's own does not jump either
        "FAKETIME_DONT_RESET": "1",
    }
    # every step is due by the clock, none by its number
    by_clock = ("callbacks.restart.every_n_steps=null", "callbacks.restart.every_n_minutes=0.001")
    process = start(work, "train", *TINY, *by_clock, f"paths.data_dir={small_data}", **faked)
    metrics, checkpoint = work / "run/metrics.jsonl", work / "run/checkpoints/last.ckpt"
    saved = []
    for number, jump in enumerate(JUMPS):
        while process.poll() is None and not (metrics.exists() and metrics.read_text().count("loss") > 3 * number + 1):
            time.sleep(0.005)
        clock.write_text(jump)
        saved.append(saved_at(checkpoint.parent))
    printed = finished(process, work.with_name("work.printed"))
    assert "Traceback" not in printed
    assert len(set(saved)) == len(JUMPS)  # a checkpoint was saved between any two jumps
    assert equal(trained / "run/checkpoints/last.ckpt", checkpoint)
    assert losses(work) == losses(trained)

    told = [record["time"] for _, record in Journal(work / "run").read()]
    assert max(told) - min(told) > 20 * 365 * 86_400_000  # milliseconds: the clock did jump
    story = Journal(work / "run").story()
    assert story.status == "FINISHED"
    assert [step for step, _ in story.metrics["train/loss"]] == list(range(16))
    frame = pd.DataFrame({name: dict(story.metrics[name]) for name in ("train/minutes_left", "train/crops_per_second")})
    assert (frame["train/minutes_left"].between(0, 10) & (frame["train/crops_per_second"] > 0)).all()
    assert 0 < story.metrics["minutes"][-1][1] < 10
    assert "run" in run(work, "report", "runs=run")
