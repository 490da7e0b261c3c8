"""Whatever comes from elsewhere, a file, a config, a request, is read and never obeyed."""

import importlib.metadata
import io
import json
import os
import pickle
import re
import socket
import tarfile
import threading
import time
import tomllib
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import save_file

from arniqa_pl.data import sources
from arniqa_pl.data.sources import find_source, read_content
from arniqa_pl.data.splits import SIDES, read_splits
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.models.encoder import load_encoder
from arniqa_pl.models.restart import AtomicCheckpointIO
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.checkpoints import read_encoder, read_regressor
from arniqa_pl.runs import resumed
from arniqa_pl.serve import listen
from arniqa_pl.serving.app import create_app
from tests.conftest import PHOTOS
from tests.quality.test_features import extract
from tests.quality.test_scorer import make_scorer
from tests.test_configs import composed

ROOT = Path(__file__).parents[1]


class Order:
    """Tells who unpickles it to write a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return Path.write_text, (self.file, "done")


@pytest.fixture
def written(tmp_path) -> Path:
    """The file that an `Order` of it would write, which the test must not find afterwards."""
    return tmp_path / "written"


def in_torchs_zip(order: Order, file: Path) -> None:
    torch.save({"encoder": "resnet18", "state_dict": {"encoder.fc": order}}, file)


def as_a_bare_pickle(order: Order, file: Path) -> None:
    file.write_bytes(pickle.dumps({"model.0.weight": order}))


def in_torchscripts_zip(order: Order, file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("regressor/data.pkl", pickle.dumps(order))


TRAPS: dict[str, tuple[Callable[[Order, Path], None], Callable[[Path], object]]] = {
    "checkpoint": (in_torchs_zip, load_encoder),
    "run's folder": (in_torchs_zip, lambda file: AtomicCheckpointIO().load_checkpoint(file)),
    "run's folder, told not to care": (
        in_torchs_zip,
        lambda file: AtomicCheckpointIO().load_checkpoint(file, weights_only=False),
    ),
    "encoder weights": (as_a_bare_pickle, lambda file: Encoder("resnet18", str(file))),
    "scorer": (as_a_bare_pickle, Scorer.load),
    "scorer in torch's zip": (in_torchs_zip, Scorer.load),
    "published encoder": (as_a_bare_pickle, read_encoder),
    "published regressor": (in_torchscripts_zip, lambda file: read_regressor(file, 4096)),
}


@pytest.mark.parametrize("kind", TRAPS)
def test_a_files_orders_are_refused(kind, written, tmp_path):
    write, read = TRAPS[kind]
    file = tmp_path / "trap.ckpt"
    write(Order(written), file)
    with pytest.raises(InputError, match=rf"Wanted .*{file}"):
        read(file)
    assert not written.exists()


def test_the_trap_does_work(written):
    pickle.loads(pickle.dumps(Order(written)))
    assert written.read_text() == "done"


def test_an_order_in_a_split_table_is_refused(written, tmp_path):
    for side in SIDES:
        np.save(tmp_path / f"{side}.npy", np.array([[1, 2]]))
    np.save(tmp_path / "test.npy", np.array([[Order(written), 1]], dtype=object))
    with pytest.raises(InputError, match=r"Wanted a split table in .*test\.npy, could not read it"):
        read_splits(tmp_path, list("abcdef"))
    assert not written.exists()


def test_an_order_in_a_feature_cache_is_written_over(written, tmp_path):
    encoder, paths = Encoder("resnet18"), [PHOTOS / "owl.jpg", PHOTOS / "crab.jpg"]
    wanted = np.array(extract(encoder, paths, tmp_path / "cache"))
    (file,) = (tmp_path / "cache").iterdir()
    np.save(file, np.array([Order(written)] * 2, dtype=object))
    np.testing.assert_array_equal(extract(encoder, paths, tmp_path / "cache"), wanted)
    assert not written.exists()


def test_a_scorers_facts_are_plain_json(written, tmp_path):
    facts = {"format": "arniqa_pl scorer 2", "encoder": "os.system", "scale": {}, "crops": 1, "crop_size": 64}
    save_file(
        {"ridge.weight": torch.ones(1, 4), "ridge.bias": torch.ones(1)},
        tmp_path / "scorer.safetensors",
        {"arniqa_pl": json.dumps(facts | {"short_side": None})},
    )
    with pytest.raises(InputError, match=r"Wanted the name of a torchvision classifier .* found 'os\.system'"):
        Scorer.load(tmp_path / "scorer.safetensors")


def test_archives_write_nothing_and_lead_nowhere(tmp_path):
    """Names that climb out, absolute ones, links to files elsewhere, a device: only plain members are read."""
    secret, picture = tmp_path / "secret.png", io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(secret)
    Image.new("RGB", (8, 8), "blue").save(picture, "PNG")
    names = ["../../out.png", f"{tmp_path}/absolute.png", "in/../../out.png"]
    with tarfile.open(tmp_path / "a.tar", "w") as archive, zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(picture.getvalue())
            archive.addfile(info, io.BytesIO(picture.getvalue()))
            zipped.writestr(name, picture.getvalue())
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            info = tarfile.TarInfo("link.png")
            info.type, info.linkname = kind, str(secret)
            archive.addfile(info)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16  # a symbolic link, as unzip would make it
        zipped.writestr(link, str(secret))
    before = sorted(tmp_path.rglob("*"))
    for file in ("a.tar", "a.zip"):
        colours = []
        for entry in find_source(str(tmp_path / file), column="", every=1).entries():
            if entry.name.endswith("link.png"):
                with pytest.raises(InputError, match="Wanted an image, could not decode"):
                    read_content(entry.name, entry.fetch())
            else:
                colours.append(read_content(entry.name, entry.fetch()).getpixel((0, 0)))
        assert colours == [(0, 0, 255)] * 3
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_do_not_explode(tmp_path, monkeypatch):
    """A member of 32 MB that packs to 32 KB is read up to the limit; of 2000 members, one at a time is remembered."""
    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 2**20)
    with zipfile.ZipFile(tmp_path / "ratio.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2**25))
    with tarfile.open(tmp_path / "ratio.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("a.png")
        info.size = 2**25
        archive.addfile(info, io.BytesIO(bytes(2**25)))
    with tarfile.open(tmp_path / "count.tar", "w") as archive:
        for number in range(2000):
            archive.addfile(tarfile.TarInfo(f"{number}.png"))
    assert (tmp_path / "ratio.zip").stat().st_size < 2**17
    tracemalloc.start()
    for name in ("ratio.zip", "ratio.tar.gz"):
        for entry in find_source(str(tmp_path / name), column="", every=1).entries():
            with pytest.raises(InputError, match="Wanted an image of up to 1048576 bytes"):
                entry.fetch()
    assert sum(1 for _ in find_source(str(tmp_path / "count.tar"), column="", every=1).entries()) == 2000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


HOSTILE = {
    "optimizer": {"_target_": "os.system"},
    "callbacks.extra": {"_target_": "subprocess.Popen", "args": "touch written"},
    "model": {"_target_": "builtins.eval", "_args_": ["1"]},
    "schedule": {"_target_": "functools.partial", "_args_": ["${optimizer}"]},
    "encoder": {"_target_": "torch.optim.sgd.torch.load", "f": "written"},
    "photos": {"_target_": "arniqa_pl.jobs.write", "file": "written", "facts": {}},  # ours, but no config's
    "data": {"_target_": "${name}"},
    "trainer.plugins.0": {"_target_": "os.system"},
    "logger.folder": "${oc.env:HOME}",
    "name": "${hydra:${oc.env:HOME}}",
    "seed": "${oc.decode:${oc.env:HOME}}",
    "degradation": "${oc.create:{_target_:os.system}}",
}


@pytest.fixture(scope="module")
def composed_once() -> tuple[DictConfig, DictConfig]:
    """The config of the command that continues the run in run/, and Hydra's own of it."""
    return composed("train", "resume=run"), HydraConfig.instance().cfg


@pytest.fixture
def resuming(composed_once) -> DictConfig:
    """The same, as if it had just been composed."""
    cfg, HydraConfig.instance().cfg = composed_once
    return cfg


@pytest.fixture
def run_from(tmp_path, monkeypatch, resuming) -> Callable[..., None]:
    """Writes the folder run/ of a run in which a value was changed, as Hydra would."""
    monkeypatch.chdir(tmp_path)

    def write(key: str, value: object) -> None:
        cfg = resuming.copy()
        OmegaConf.set_struct(cfg, False)
        OmegaConf.update(cfg, key, value, merge=False)
        Path("run/.hydra").mkdir(parents=True)
        OmegaConf.save(cfg, "run/.hydra/config.yaml")
        OmegaConf.save([f"{key}={value}"], "run/.hydra/overrides.yaml")

    return write


@pytest.mark.parametrize("key", HOSTILE)
def test_a_run_from_elsewhere_that_would_call_or_tell_something_is_refused_by_the_key(key, run_from, resuming):
    """The same check stands before a run is reproduced: tests/test_sweeps.py."""
    run_from(key, HOSTILE[key])
    with pytest.raises(InputError, match=rf"found .* at {key.replace('.', '[.]')}, which is not (run|looked up)"):
        resumed(resuming)
    assert not Path("written").exists()


def test_what_the_user_says_again_is_the_users(run_from, resuming):
    """Who has a variable in a command gives it again when the run goes on; or any other value."""
    variable = "${oc.env:HOME}/data"
    run_from("paths.data_dir", variable)
    with pytest.raises(InputError, match=r"at paths\.data_dir, which is not looked up. .* give the value on this"):
        resumed(resuming)
    found = resumed(composed("train", "resume=run", f"paths.data_dir={variable}"))
    assert found.paths.data_dir == f"{os.environ['HOME']}/data"


@pytest.fixture
def slow_page(scorer_of_nothing):
    """The port of a page that takes one image at a time and waits half a second for it."""
    limits = {"max_images": 1, "max_bytes": 1000, "max_pixels": 1000, "max_seconds": 0.5}
    with listen("127.0.0.1", 0) as listener:
        app = create_app(scorer_of_nothing, lambda: None, hosts=["127.0.0.1"], **limits)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def scorer_of_nothing() -> Scorer:
    return make_scorer()


def ask(port: int, body: bytes, length: int) -> tuple[str, float]:
    """Send a part of a body; return the answer, and how many seconds it took."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        head = f"POST /score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    return answer.decode(), time.monotonic() - started


def test_a_request_that_does_not_end_makes_room_for_the_next(slow_page):
    answer, seconds = ask(slow_page, b"half an im", 20)
    assert answer.startswith("HTTP/1.1 408")
    assert "Wanted an image within 0.5 s" in answer
    assert 0.4 < seconds < 20
    assert ask(slow_page, b"no image", 8)[0].startswith("HTTP/1.1 422")  # not 503: there is room again
    assert ask(slow_page, bytes(1001), 10**12)[0].startswith("HTTP/1.1 413")


LICENCES = r"Apache|BSD|LGPL|AGPL|GPL|ISC|MIT|MPL|Python"


def direct_dependencies() -> dict[str, str]:
    """The extra of each package that pyproject.toml names; "" for those that are always there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    found = {re.match(r"[\w-]+", each)[0]: extra for extra, names in lists.items() for each in names}
    assert found.pop("arniqa_pl") == "dev"  # all the extras
    return found


def told_licences(package: str) -> set[str]:
    """The licences that an installed package's metadata name."""
    told = importlib.metadata.metadata(package)
    texts = [each[:300] for field in ("License-Expression", "License") for each in told.get_all(field) or ()]
    texts += [each for each in told.get_all("Classifier") or () if each.startswith("License")]
    return set(re.findall(LICENCES, " ".join(texts)))


def test_the_list_of_packages_is_that_of_the_project_with_the_licences_they_tell():
    text = (ROOT / "docs/security.md").read_text().partition("| package |")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    assert {name: extra for name, extra, _, _ in rows} == direct_dependencies()
    assert all(purpose for _, _, purpose, _ in rows)
    for name, _, _, licence in rows:
        named = set(re.findall(LICENCES, licence))
        told = told_licences(name)
        assert named, name
        assert named <= told, (name, licence, told)
        assert {each for each in told if "GPL" in each} == {each for each in named if "GPL" in each}, name
