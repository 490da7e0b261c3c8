import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder that holds what the wheel holds, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    root = Path(__file__).parents[1]
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder, root]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", folder / "site", wheel]
    subprocess.run(install, check=True, timeout=300)
    return folder


def test_an_installed_wheel_runs_without_the_checkout(installed):
    environment = os.environ | {"PYTHONPATH": str(installed / "site")}
    empty = installed / "empty"
    empty.mkdir()
    where = [sys.executable, "-c", "import arniqa_pl; print(arniqa_pl.__file__)"]
    found = subprocess.run(where, cwd=empty, env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.startswith(str(installed))
    prepare = [sys.executable, "-m", "arniqa_pl.prepare", "pristine=23"]
    subprocess.run(prepare, cwd=empty, env=environment, check=True, timeout=300)
    assert len(list((empty / "data/demo/KADIS700/ref_imgs").iterdir())) == 23
    assert len(list((empty / "data/demo/KADID10K/images").iterdir())) == 1 + 23 * 5


def test_the_wheel_carries_every_config_and_photograph(installed):
    package, root = installed / "site/arniqa_pl", Path(__file__).parents[1]
    configs = {path.relative_to(root / "conf") for path in (root / "conf").rglob("*.yaml")}
    assert {path.relative_to(package / "conf") for path in (package / "conf").rglob("*.yaml")} == configs
    assert len(list((package / "data/photos").glob("*.jpg"))) == 24
    assert (package / "data/photos/SOURCES.csv").is_file()
    assert (package / "serving/page.html").is_file()
