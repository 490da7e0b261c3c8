"""What the image and the compose file promise, read from the files: nothing is built."""

import re

import yaml

from tests.docker import dockerfile
from tests.docker.dockerfile import COMPOSE, ROOT


def test_every_stage_starts_from_a_pinned_image():
    arguments, stages = dockerfile.read()
    assert [stage.name for stage in stages] == ["wheel", "dependencies", "runtime"]
    for stage in stages:
        image = stage.image.replace("${PYTHON_IMAGE}", arguments["PYTHON_IMAGE"])
        assert re.fullmatch(r"python:3\.\d+-slim-\w+", image)


def test_everything_that_is_copied_exists_and_reaches_the_build():
    _, stages = dockerfile.read()
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    made = {stage.name: " ".join(rest for _, rest in stage.steps) for stage in stages}
    copies = [rest.split() for stage in stages for word, rest in stage.steps if word == "COPY"]
    for *sources, _ in copies:
        if sources[0].startswith("--from="):
            origin = sources.pop(0).removeprefix("--from=")
            assert all(source in made[origin] for source in sources), sources
        else:
            assert all((ROOT / source).exists() for source in sources)
            assert {f"!{source}" for source in sources} <= set(ignored)
    assert any("conf" in sources for *sources, _ in copies)


def test_what_is_installed_is_pinned():
    _, stages = dockerfile.read()
    installs = [
        command
        for stage in stages
        for word, rest in stage.steps
        if word == "RUN"
        for command in rest.split("&&")
        if "pip install" in command
    ]
    assert len(installs) == 4
    for command in installs:
        assert "--constraint constraints.txt" in command or "/app/wheels/*.whl" in command


def test_it_runs_as_a_user_and_knows_when_it_is_healthy():
    _, stages = dockerfile.read()
    runtime = stages[-1]
    assert runtime.last("USER") == "1000"
    assert any("useradd --uid 1000" in rest for _, rest in runtime.steps)
    assert dockerfile.words(runtime.last("ENTRYPOINT")) == ["python", "-m"]
    assert dockerfile.words(runtime.last("HEALTHCHECK"))[0] == "python"


def test_no_secret_is_in_a_file():
    _, stages = dockerfile.read()
    for stage in stages:
        for word, rest in stage.steps:
            assert word != "ADD"
            assert not re.search(r"password|secret|token|api_?key", rest, re.IGNORECASE), rest
    for file in ROOT.glob("docker/*.yaml"):
        for line in file.read_text().splitlines():
            if re.search(r"^\s*\w*(PASSWORD|SECRET|TOKEN|KEY)\w*:", line):
                assert re.search(r": \$\{POSTGRES_PASSWORD:\?.+\}$", line), line
    assert "/docker/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_services_are_for_this_machine_only_and_wait_for_each_other():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert services.keys() == {"postgres", "mlflow", "trainer"}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:5000:5000"]
    assert services["trainer"]["depends_on"] == {"mlflow": {"condition": "service_healthy"}}
    assert services["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert all("healthcheck" in services[name] for name in ("postgres", "mlflow"))  # the trainer has its image's
    assert re.fullmatch(r"postgres:\d+-\w+", services["postgres"]["image"])
    assert "artifacts:/work/artifacts" in services["mlflow"]["volumes"]
