"""A pytest plugin: a run in which a test left a file, a process or an open port behind fails, and says which.

What is looked at is this run's own: files that git sees new in the repository, processes that carry the run's mark in
their environment, ports on which the processes that ran the tests still listen.
"""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import psutil
import pytest

MARK = "ARNIQA_TEST_RUN"
CACHES = ("__pycache__/", ".pytest_cache/", ".hypothesis/", ".ruff_cache/", ".mypy_cache/")
PATIENCE = 5  # seconds for what is ending already
BEFORE = pytest.StashKey[set[str]]()
LEFT = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEFT] = []
    if not is_worker(config):  # workers inherit the mark
        os.environ[MARK] = uuid.uuid4().hex
        config.stash[BEFORE] = new_files(config.rootpath)


@pytest.hookimpl(trylast=True)  # after xdist has ended its workers
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if is_worker(config):
        config.workeroutput["left_behind"] = open_ports()
        return
    left = config.stash[LEFT] + open_ports() + processes()
    left += [f"file {line}" for line in sorted(new_files(config.rootpath) - config.stash[BEFORE])]
    config.stash[LEFT] = left
    if left and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    node.config.stash[LEFT] += getattr(node, "workeroutput", {}).get("left_behind", [])


def pytest_terminal_summary(terminalreporter, config: pytest.Config) -> None:
    for line in config.stash[LEFT]:
        terminalreporter.write_line(f"LEFT BEHIND: {line}", red=True)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def new_files(root: Path) -> set[str]:
    """What git sees new in a repository, ignored folders too, caches not; nothing where there is no repository."""
    if shutil.which("git") is None:
        return set()
    status = subprocess.run(["git", "status", "--porcelain", "--ignored"], cwd=root, capture_output=True, text=True)
    lines = status.stdout.splitlines()
    names = {line[3:] for line in lines if line.startswith(("??", "!!"))}
    return {name for name in names if not name.endswith(CACHES) and not Path(name).name.startswith(".coverage")}


def processes() -> list[str]:
    """Of this run, but this one and multiprocessing's tracker and fork server, which end with their parent."""
    mine = [process for process in psutil.process_iter() if process.pid != os.getpid() and is_marked(process)]
    return [f"process {process}" for process in psutil.wait_procs(mine, timeout=PATIENCE)[1]]


def is_marked(process: psutil.Process) -> bool:
    try:
        words = " ".join(process.cmdline())
        serves = "multiprocessing.resource_tracker" in words or "multiprocessing.forkserver" in words
        return process.environ().get(MARK) == os.environ[MARK] and not serves
    except psutil.Error:  # it has ended, or is somebody else's
        return False


def open_ports() -> list[str]:
    """On which this process still listens."""
    connections = psutil.Process().net_connections("inet")
    return [f"port {each.laddr.port}" for each in connections if each.status == psutil.CONN_LISTEN]
