"""The model that `export mlflow` logs and registers: served over HTTP by MLflow's own command, and in a DataFrame."""

import base64
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.quality import Scorer
from arniqa_pl.serving.mlflow_model import REQUIREMENTS, SIGNATURE
from tests.serving.servers import free_port, stop, wait_for
from tests.test_entries import run

LIMITS = {"max_images": 3, "max_bytes": 150_000, "max_pixels": 90_000}


@pytest.fixture(scope="module")
def store(scorer_file, tmp_path_factory) -> Path:
    """A folder with an MLflow store, in whose registry the scorer is quality, version 1, and an image folder."""
    folder = tmp_path_factory.mktemp("mlflow")
    output = run(folder, "export", "mlflow", f"scorer={scorer_file}", "register=quality")
    assert "Registered: models:/quality/1" in output
    (folder / "images").mkdir()
    Image.effect_noise((200, 150), 60).convert("RGB").save(folder / "images" / "noise.png")
    (folder / "secret.png").write_bytes((folder / "images" / "noise.png").read_bytes())
    return folder


@pytest.fixture(scope="module")
def served(store):
    """The address of `mlflow models serve`, with limits and an image folder that its environment names."""
    port = free_port()
    settings = {**LIMITS, "image_root": str(store / "images")}
    command = ["mlflow", "models", "serve", "-m", "models:/quality/1", "--env-manager", "local"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
        cwd=store,
        env=os.environ
        | {"MLFLOW_TRACKING_URI": tracking(store), "SERVING_MODEL_CONFIG": json.dumps(settings)}
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # where MLflow looks for uvicorn
        stdout=(store / "serve.log").open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", process, store / "serve.log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        stop(process)


def tracking(store: Path) -> str:
    return f"sqlite:///{store}/runs/mlflow.db"


@pytest.fixture(scope="module")
def loaded(store):
    before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None
    mlflow.set_tracking_uri(tracking(store))
    yield mlflow.pyfunc.load_model("models:/quality/1", model_config={"max_images": 50})
    mlflow.set_tracking_uri(before)


def ask(address: str, records: list[dict[str, str]]) -> tuple[int, str]:
    """Return the status and the text that MLflow's server answers with."""
    body = json.dumps({"dataframe_records": records}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def in_base64(content: bytes) -> dict[str, str]:
    return {"image": base64.b64encode(content).decode()}


def test_the_server_scores_bytes_and_paths(served, store, scorer_file):
    content = (store / "images" / "noise.png").read_bytes()
    wanted = float(Scorer.load(scorer_file).score(store / "images" / "noise.png"))
    for records in ([in_base64(content)] * 2, [{"path": "noise.png"}] * 2):
        status, text = ask(served, records)
        assert status == 200, text
        rows = json.loads(text)["predictions"]
        assert [set(row) for row in rows] == [{"score", "quality", "error"}] * 2
        assert [row["score"] for row in rows] == pytest.approx([wanted] * 2, abs=1e-3)
        assert [row["error"] for row in rows] == ["", ""]
        assert all(0 <= row["quality"] <= 1 for row in rows)


def test_a_bad_or_oversized_image_costs_its_own_row(served, store, tmp_path):
    good = (store / "images" / "noise.png").read_bytes()
    Image.new("RGB", (301, 300)).save(tmp_path / "wide.png")
    status, text = ask(
        served, [in_base64(b"no image"), in_base64(good), in_base64((tmp_path / "wide.png").read_bytes())]
    )
    assert status == 200, text
    assert "NaN" not in text
    bad, fine, wide = json.loads(text)["predictions"]
    assert (bad["score"], wide["quality"]) == (None, None)
    assert fine["score"] is not None
    assert "could not decode 8 bytes" in bad["error"]
    assert "at most 90,000 pixels, got 301 × 300" in wide["error"]
    status, text = ask(served, [in_base64(good + bytes(LIMITS["max_bytes"]))])
    assert status == 200, text
    assert "at most 150,000 bytes" in json.loads(text)["predictions"][0]["error"]


def test_paths_do_not_leave_their_folder(served, store):
    (store / "images" / "link.png").symlink_to(store / "secret.png")
    status, text = ask(served, [{"path": path} for path in ("../secret.png", str(store / "secret.png"), "link.png")])
    assert status == 200, text
    assert ["found no" in row["error"] for row in json.loads(text)["predictions"]] == [True] * 3


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([{"path": "noise.png"}] * 4, "Wanted at most 3 images at a time, got 4"),
        ([{"picture": "noise.png"}], "Wanted the column image or path"),
        ([{"image": "a"}], "image"),
    ],
)
def test_a_wrong_request_is_refused_as_a_whole(served, records, told):
    status, text = ask(served, records)
    assert status == 400, text
    assert told in text
    assert "Traceback" not in json.loads(text)["message"]


def test_a_dataframe_is_scored_in_this_process(loaded, store, scorer_file):
    content = (store / "images" / "noise.png").read_bytes()
    scorer = Scorer.load(scorer_file)
    wanted = scorer.score(store / "images" / "noise.png")
    clean = loaded.predict(pd.DataFrame({"image": [content] * 11}))
    assert clean["score"].to_numpy() == pytest.approx([float(wanted)] * 11, abs=1e-3)
    assert clean["quality"].to_numpy() == pytest.approx([float(scorer.to_quality(wanted))] * 11, abs=1e-4)
    mixed = loaded.predict(pd.DataFrame({"image": [content, b"none"]}, index=["a", "b"]))
    assert list(mixed.index) == ["a", "b"]
    assert mixed["score"].isna().tolist() == [False, True]
    paths = loaded.predict(pd.DataFrame({"path": ["noise.png"]}))
    assert "got a path: this model reads no files unless" in paths["error"][0]


def test_the_model_says_what_it_takes_and_needs(loaded, store):
    info = mlflow.models.get_model_info("models:/quality/1")
    assert info.signature == SIGNATURE
    assert info.flavors["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    folder = Path(mlflow.artifacts.download_artifacts("models:/quality/1"))
    assert not [file for file in folder.rglob("*") if file.suffix in (".pkl", ".pyc", ".jpg")]
    lines = (folder / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in lines} == set(REQUIREMENTS)
    assert all("==" in line for line in lines)
    example = info.saved_input_example_info
    assert example is not None
    assert loaded.predict(loaded.input_example)["error"].tolist() == [""]


def test_the_requirements_are_what_scoring_imports(scorer_file):
    """Of the packages that this project depends on, beyond what MLflow imports, and what PyTorch can do without."""
    code = """
import importlib.metadata, re, sys
import mlflow.models, mlflow.pyfunc, mlflow.types
before = set(sys.modules)
from PIL import Image
from arniqa_pl.serving import mlflow_model
mlflow_model.Scorer.load(sys.argv[1]).score(Image.new("RGB", (80, 80)))
owners = importlib.metadata.packages_distributions()
used = {owner.lower() for name in set(sys.modules) - before for owner in owners.get(name.split(".")[0], [])}
lines = [line for line in importlib.metadata.requires("arniqa_pl") if "extra" not in line]
ours = {re.split(r"[^\\w-]", line)[0].lower() for line in lines}
sys.stdout.write(",".join(sorted(used & ours - {"nvidia-ml-py"})))
"""
    done = subprocess.run([sys.executable, "-c", code, scorer_file], capture_output=True, text=True, check=True)
    assert {*done.stdout.split(","), "mlflow", "numpy", "pandas"} == set(REQUIREMENTS)
