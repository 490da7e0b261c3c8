import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from arniqa_pl.tracking import Journal


def wait_for_first_delivery(process: subprocess.Popen, journal: Journal) -> None:
    """Wait until a server has heard of a run, or the run's process has ended."""
    while process.poll() is None and not (journal.file.exists() and journal.sent() and journal.sent().position):
        time.sleep(0.05)


class Server:
    """A real MLflow server on 127.0.0.1, over a SQLite file or another database; can be killed and started again."""

    def __init__(self, folder: Path, backend: str | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.backend = backend or f"sqlite:///{folder}/server.db"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        place = ["--backend-store-uri", self.backend, "--artifacts-destination", str(self.folder / "artifacts")]
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *place, *address],
                env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # three processes less to start
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        for _ in range(1800):
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except OSError:
                time.sleep(0.1)
        raise TimeoutError((self.folder / "server.log").read_text())

    def kill(self) -> None:
        """Kill it and its workers at once, as a crash would."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@contextmanager
def postgresql(programs: Path | str, *, user: str, password: str | None = None) -> Iterator[str]:
    """A real PostgreSQL server on 127.0.0.1, with the database postgres.

    Args:
        programs: folder of initdb and pg_ctl.
        user: who may do everything.
        password: that is asked for; None: none is.

    Yields:
        host:port.

    """
    account = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []

    def call(*words: str, given: str | None = None) -> str:
        done = subprocess.run(
            [*account, *words], check=True, stdout=subprocess.PIPE, text=True, cwd="/", timeout=60, input=given
        )
        return done.stdout.strip()

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = call("mktemp", "-d")
    asked = ["-A", "trust"]
    if password is not None:
        call("tee", f"{folder}/password", given=password)
        asked = ["-A", "scram-sha-256", f"--pwfile={folder}/password"]
    call(f"{programs}/initdb", "-D", f"{folder}/data", "-U", user, *asked)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    control = f"{programs}/pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log"
    call(*control, "-o", options, "start")
    try:
        yield f"127.0.0.1:{port}"
    finally:
        call(*control, "-m", "immediate", "stop")
        call("rm", "-r", folder)
