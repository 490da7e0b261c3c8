"""The project's commands as processes that are watched, killed, and given what no command should be given."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import open_memmap

from arniqa_pl.quality.features import unfinished_rows

SECONDS = 600  # that a command may take, on a machine with other work
TINY = (
    "experiment=demo",
    "hydra.run.dir=run",
    "data.samples_per_epoch=32",
    "data.batch_size=4",
    "data.crop_size=32",
    "data.validation_pairs=4",
    "features.crop_size=32",
    "ridge.num_splits=2",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "trainer.precision=32-true",
    "callbacks.restart.every_n_steps=2",
    "callbacks.pair_grid=null",
)
"""Of a training of 16 steps, with a checkpoint every second one."""
# Root reads everything but for these.
WITHOUT_OVERRIDE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--")


def start(folder: Path, *command: str, before: Sequence[str] = (), **environment: str) -> subprocess.Popen:
    """Start a command; what it prints goes into the file printed beside its folder."""
    with folder.with_name(f"{folder.name}.printed").open("ab") as printed:
        return subprocess.Popen(
            [*before, sys.executable, "-m", f"arniqa_pl.{command[0]}", *command[1:]],
            cwd=folder,
            env=os.environ | environment,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )


def run(folder: Path, *command: str, code: int = 0, before: Sequence[str] = (), **environment: str) -> str:
    """Run a command to its end; return what it printed."""
    log = folder.with_name(f"{folder.name}.printed")
    there = log.stat().st_size if log.exists() else 0
    process = start(folder, *command, before=before, **environment)
    return finished(process, log, there, code)


def finished(process: subprocess.Popen, log: Path, there: int = 0, code: int = 0) -> str:
    """Wait for a command's end; return what it printed behind a position in its log."""
    try:
        found = process.wait(SECONDS)
    finally:
        process.kill()
    printed = log.read_bytes()[there:].decode(errors="replace")
    assert found == code, printed
    return printed


def kill_when(process: subprocess.Popen, ready: Callable[[], bool], seconds: float) -> bool:
    """Kill a command so many seconds after something was the case; return False if it ended before."""
    deadline = time.monotonic() + SECONDS
    while process.poll() is None and not ready():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    return process.wait() == -signal.SIGKILL


def lines(file: Path) -> int:
    """How many whole lines a file has; 0 without a file."""
    return file.read_bytes().count(b"\n") if file.exists() else 0


def rows_done(cache: Path) -> int:
    """How many images have features in the newest file of a feature cache."""
    files = sorted(cache.glob("*.npy"), key=lambda file: file.stat().st_mtime)
    try:
        features = open_memmap(files[-1], mode="r")
    except (IndexError, ValueError):  # not there, or being made
        return 0
    return len(features) - len(unfinished_rows(np.asarray(features)))


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own, such as "4m", in a folder; skips the test where it cannot be mounted."""
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    """Change a small disk: "size=9m", "ro" or "rw"."""
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a disk up to some bytes; return the file to remove."""
    file = folder / "full"
    with file.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(folder).free - leave)
    return file
