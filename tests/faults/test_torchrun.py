"""Two processes that torchrun starts: one dies, one is asked to leave, and both stages work."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

from arniqa_pl.tracking.journal import Journal
from tests.faults.hosts import end
from tests.faults.test_two_hosts import TRAINING

pytestmark = pytest.mark.faults


def start(folder: Path, verb: str, *overrides: str) -> subprocess.Popen:
    """Start a command on two processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    both = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"]
    return subprocess.Popen(
        [*torchrun, "-m", f"arniqa_pl.{verb}", *both, *overrides],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def start_training(folder: Path, data: Path) -> tuple[subprocess.Popen, list[psutil.Process]]:
    """Start a training; return once it has taken a step, with its ranks."""
    process = start(folder, "train", *TRAINING, "data.batch_size=8", f"paths.data_dir={data}", "hydra.run.dir=runs/run")
    lines = folder / "runs/run/metrics.jsonl"
    while process.poll() is None and not (lines.exists() and "train/loss" in lines.read_text()):
        time.sleep(0.05)
    ranks = [each for each in psutil.Process(process.pid).children() if "arniqa_pl.train" in each.cmdline()]
    return process, sorted(ranks, key=lambda each: int(each.environ()["RANK"]))


def test_a_rank_that_dies_ends_the_job_within_a_minute(small_data, tmp_path):
    process, (_, second) = start_training(tmp_path, small_data)
    second.kill()
    ((code, output),) = end([process], 60)
    assert code != 0
    assert "rank      : 1 (local_rank: 1)\n  exitcode  : -9" in output


def test_ranks_that_are_asked_to_leave_at_different_times_leave_after_the_same_step(small_data, tmp_path):
    process, (first, second) = start_training(tmp_path, small_data)
    second.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # as from the hosts of a cluster
    first.send_signal(signal.SIGTERM)
    ((code, output),) = end([process], 60)
    assert code != 0
    assert f"Continue with resume={tmp_path}/runs/run" in output
    assert "exitcode  : 143" in output  # of those that left
    assert "SIGABRT" not in output
    ((code, output),) = end([start(tmp_path, "train", "resume=runs/run")], 240)
    assert code == 0, output
    assert f"Continuing {tmp_path}/runs/run from {tmp_path}/runs/run/checkpoints/last.ckpt" in output
    assert len(dict(Journal(tmp_path / "runs/run").story().metrics["train/loss"])) == 12


def test_two_processes_regress(small_data, small_checkpoints, tmp_path):
    settings = ("features.crop_size=64", "features.num_workers=0", "ridge.num_splits=3", "hydra.run.dir=runs/run")
    data = f"paths.data_dir={small_data}"
    ((code, output),) = end([start(tmp_path, "regress", f"checkpoint={small_checkpoints[0]}", data, *settings)], 240)
    assert code == 0, output
    assert pd.read_csv(tmp_path / "runs/run/results.csv")["database"].tolist() == ["kadid10k"]
    assert output.count("Features of 60 images") == 1  # of two processes, one speaks
