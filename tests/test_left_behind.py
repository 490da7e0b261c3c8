import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

UNTIDY = """
import socket, subprocess, sys

def test_process():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)

def test_port():
    global server
    server = socket.create_server(("127.0.0.1", 0))

def test_file():
    open("stray.txt", "w").close()
"""


def inner_run(folder: Path, *options: str) -> tuple[int, str]:
    """Run the untidy tests in a repository of their own; return the exit status and what was printed."""
    (folder / "test_inner.py").write_text(UNTIDY)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.left_behind", "-p", "no:cacheprovider", *options]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=250)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("options", [(), ("-n", "1")], ids=["alone", "parallel"])
def test_a_run_that_leaves_something_behind_fails_and_says_what(tmp_path, options):
    code, output = inner_run(tmp_path, *options)
    if pid := re.search(r"LEFT BEHIND: process .*pid=(\d+)", output):
        psutil.Process(int(pid[1])).kill()
    assert pid, output
    assert "3 passed" in output
    assert re.search(r"LEFT BEHIND: port \d+", output), output
    assert "LEFT BEHIND: file stray.txt" in output
    assert output.count("LEFT BEHIND") == 3
    assert code == pytest.ExitCode.TESTS_FAILED
