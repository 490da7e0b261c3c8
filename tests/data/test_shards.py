import copy
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import lightning
import numpy as np
import psutil
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from PIL import Image

from arniqa_pl.data import shards as shards_module
from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.loading import EpochSampler
from arniqa_pl.data.pristine import PhotoFiles, find_photos
from arniqa_pl.data.shards import PhotoShards, write_shards
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.errors import InputError
from tests.faults.commands import WITHOUT_OVERRIDE


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> PhotoFiles:
    """Ten small photographs in three formats; the fourth is cut short."""
    folder = tmp_path_factory.mktemp("photos")
    noise = np.random.default_rng(0)
    for number in range(10):
        image = Image.fromarray(noise.integers(0, 256, (60, 80, 3), np.uint8)).resize((160, 120))
        file = folder / f"{number}.{('png', 'jpg', 'webp')[number % 3]}"
        image.save(file)
        if number == 3:
            file.write_bytes(file.read_bytes()[:2000])
    return find_photos(str(folder))


@pytest.fixture(scope="module")
def shards(photos, tmp_path_factory) -> Path:
    """The photographs in three shards or more, packed without a network."""
    output = tmp_path_factory.mktemp("packed") / "shards"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", offline)
        patch.setattr(socket, "create_connection", offline)
        patch.setenv("WORLD_SIZE", "2")  # as in the shell of a cluster: litdata would wait for a second writer
        write_shards(photos, str(output), shard_bytes=60_000)
    assert len(list(output.glob("*.bin"))) >= 3
    return output


def offline(*args: object, **kwargs: object) -> None:
    raise AssertionError("litdata reached for the network")


def make_data(photos, **changes) -> PretrainingData:
    settings = {
        "degradation": DegradationModel(),
        "databases": {},
        "crop_size": 32,
        "padding": "zeros",
        "batch_size": 2,
        "samples_per_epoch": 12,
        "partner": "other",
        "half_scale": "independent",
        "num_workers": 0,
        "unreadable": "replace",
        "cache_images": 0,
        "validation_crop_size": 32,
        "validation_crops": 1,
        "validation_pairs": 0,
        "seed": 27,
    }
    return PretrainingData(photos=photos, **settings | changes)


class Witness(BoringModel):
    """Writes down which crops it is shown, by rank, epoch and step."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def training_step(self, batch, batch_idx):
        line = [self.current_epoch, batch_idx, self.global_rank, *batch.key, digest(batch.crops)]
        with (self.folder / f"{self.global_rank}.jsonl").open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        return self.layer(batch.crops.flatten()[:32]).sum()

    def val_dataloader(self):
        return []


def digest(crops: torch.Tensor) -> str:
    return hashlib.sha256(crops.contiguous().numpy().tobytes()).hexdigest()


def fit(data: PretrainingData, folder: Path, resume: Path | None = None, **trainer) -> None:
    """Fit a tiny model, which writes down what it is shown: degraded and normalised crops."""
    settings = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": "callbacks" in trainer}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    lightning.Trainer(**settings | quiet | trainer).fit(Witness(folder), data, ckpt_path=resume)


def fit_interrupted(shards: Path, folder: Path, step: int, *, num_workers: int = 0, **trainer) -> None:
    """Fit up to a step in the middle of an epoch, then from its checkpoint to the end, as the next command would."""
    first, second = (make_data(PhotoShards(str(shards)), num_workers=num_workers) for _ in range(2))
    fit(
        first,
        folder,
        max_steps=step,
        callbacks=[ModelCheckpoint(folder, "stopped", every_n_train_steps=step)],
        **trainer,
    )
    fit(second, folder, folder / "stopped.ckpt", **trainer)


def fit_as_rank(rank: int, port: int, shards: Path, folder: Path) -> None:
    """One of two processes that train together; Lightning starts none where these variables are set."""
    os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    fit_interrupted(shards, folder, 4, devices=2, strategy="ddp")  # 3 steps are an epoch


def witnessed(folder: Path) -> list:
    lines = [line for file in sorted(folder.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return sorted(json.loads(line) for line in lines)


def wanted(photos: PhotoFiles, ranks: int) -> list:
    """What two epochs show to each rank, from the files and without any trainer."""
    lines = []
    for rank in range(ranks):
        data = make_data(photos)
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)
        loader = data.train_dataloader()
        for epoch in (0, 1):
            loader.sampler.set_epoch(epoch)
            for step, batch in enumerate(loader):
                lines.append([epoch, step, rank, *batch.key, digest(data.degrade(batch).crops)])
    return sorted(lines)


def test_shards_hold_the_files_as_they_are(photos, shards):
    packed = PhotoShards(str(shards))
    assert len(packed) == len(photos) == 10
    for index in (9, 0, 4, 5, 1):  # in any order
        assert packed[index].tobytes() == photos[index].tobytes()
    with pytest.raises(InputError, match=r"could not decode 3\.png in .*shards"):
        packed[3]
    assert packed.table()["photos"].sum() == 10
    assert list(packed.table()["bytes"]) == [(shards / name).stat().st_size for name in packed.table()["image"]]


def test_a_run_from_shards_sees_what_a_run_from_files_sees(photos, shards, tmp_path):
    for folder in ("files", "shards"):
        (tmp_path / folder).mkdir()
    fit(make_data(photos), tmp_path / "files")
    fit_interrupted(shards, tmp_path / "shards", step=4, num_workers=2)  # 6 steps are an epoch
    assert witnessed(tmp_path / "files") == witnessed(tmp_path / "shards") == wanted(photos, ranks=1)
    assert len(wanted(photos, ranks=1)) == 12


def test_two_ranks_see_their_shares_of_it_across_an_interruption(photos, shards, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(fit_as_rank, (port, shards, tmp_path), nprocs=2)
    seen = witnessed(tmp_path)
    assert seen == wanted(photos, ranks=2)
    assert [line[2] for line in seen] == [0, 1] * 6
    # The same samples as one process sees, each once.
    alone = [tuple(key) for key in EpochSampler(range(12), num_replicas=1, rank=0, seed=27)]
    assert {tuple(line[3:5]) for line in seen if line[0] == 0} <= set(alone)


def test_other_items_are_not_unpickled(shards, tmp_path):
    index = json.loads((shards / "index.json").read_text())
    foreign = copy.deepcopy(index)
    foreign["config"]["data_format"] = ["pickle", "bytes"]
    (tmp_path / "index.json").write_text(json.dumps(foreign))
    with pytest.raises(InputError, match=r"found items of \['pickle', 'bytes'\]"):
        PhotoShards(str(tmp_path))


def start(folder: Path, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    """Start the command in a session of its own; what it prints goes into the file printed."""
    with (folder / "printed").open("wb") as printed:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "arniqa_pl.prepare", "shards", *words],
            cwd=folder,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def failed(process: subprocess.Popen, folder: Path) -> str:
    """Wait for the end of a command that cannot succeed; return what it printed."""
    try:
        assert process.wait(120) != 0
        assert [each for each in psutil.pids() if session(each) == process.pid] == []  # it left no process behind
    finally:
        process.kill()
    return (folder / "printed").read_text()


def session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_packing_fails_leaves_nothing_to_read_and_starts_afresh(photos, tmp_path, stop):
    many = tmp_path / "many.txt"
    many.write_text(f"{photos.path(1)}\n" * 100_000)  # seconds of work
    process = start(tmp_path, "input=many.txt", "output=packed", "shard_bytes=200000")
    while not list(tmp_path.glob("packed/*.bin")):
        assert process.poll() is None
        time.sleep(0.01)
    assert psutil.Process(process.pid).children(recursive=True) == []
    os.killpg(process.pid, stop)
    printed = failed(process, tmp_path)
    assert ("Stopped before the end" in printed) == (stop == signal.SIGINT)
    assert re.search(r"\dphoto/s", printed)  # progress has a rate
    with pytest.raises(InputError, match=r"found no index\.json there"):
        PhotoShards(str(tmp_path / "packed"))

    write_shards(photos, str(tmp_path / "packed"), shard_bytes=60_000)
    packed = PhotoShards(str(tmp_path / "packed"))
    assert packed[9].tobytes() == photos[9].tobytes()
    wanted = {"index.json", *packed.table()["image"]}
    assert {path.name for path in (tmp_path / "packed").iterdir()} == wanted  # of the first packing nothing is left
    with pytest.raises(InputError, match="Wanted a new or empty folder for shards"):
        write_shards(photos, str(tmp_path / "packed"), shard_bytes=60_000)


def test_files_that_cannot_be_read_are_told_before_packing(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in (0, 1, 2):
        shutil.copy(photos.path(number), folder)
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "2.webp").chmod(0)
    printed = failed(start(tmp_path, "input=photos", "output=packed", before=WITHOUT_OVERRIDE), tmp_path)
    assert "Wanted 4 photographs, 2 cannot be read, the first is photos/2.webp: Permission denied." in printed
    assert "Traceback" not in printed
    assert not list((tmp_path / "packed").iterdir())


def test_a_file_that_is_gone_in_the_middle_is_named(photos, tmp_path, monkeypatch):
    shutil.copytree(photos.path(0).parent, tmp_path / "photos")
    fewer = find_photos(str(tmp_path / "photos"))
    monkeypatch.setattr(shards_module, "_require_readable", lambda photos: photos.path(7).unlink())
    with pytest.raises(InputError, match=r"Wanted the photograph .*7\.jpg, could not read it any more: No such file"):
        write_shards(fewer, str(tmp_path / "packed"), shard_bytes=60_000)
    with pytest.raises(InputError, match=r"found no index\.json there"):
        PhotoShards(str(tmp_path / "packed"))


@pytest.mark.parametrize("theirs", ["chunk-0-0.bin", "weights.bin", "index.json"])
def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(photos, tmp_path, theirs):
    (tmp_path / theirs).write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"holds 1 files or folders: name another one, output=<folder>, or empty it"):
        write_shards(photos, str(tmp_path), shard_bytes=60_000)
    assert [path.name for path in tmp_path.iterdir()] == [theirs]
    assert (tmp_path / theirs).read_bytes() == b"theirs"


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("file", "could not use .*file: File exists"),
        ("file/below", "could not use .*below: Not a directory"),
        ("/proc/shards", "could not use /proc/shards: No such file or directory"),
        ("s3://bucket", "Wanted a folder within the store, got s3://bucket: add its name, output=s3://bucket/<folder>"),
        ("ftp://host/shards", "could not use ftp://host/shards: Unsupported scheme: ftp"),
    ],
)
def test_an_output_that_cannot_be_is_told(photos, tmp_path, monkeypatch, output, told):
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(InputError, match=told):
        write_shards(photos, output, shard_bytes=60_000)


def test_what_cannot_be_written_is_told(photos, tmp_path):
    (tmp_path / "packed").mkdir(mode=0o555)
    words = (f"input={photos.path(0).parent}", "output=packed")
    printed = failed(start(tmp_path, *words, before=WITHOUT_OVERRIDE), tmp_path)
    assert re.search(r"Wanted to write .*packed.*, could not: Permission denied", printed)
    assert "Traceback" not in printed


@pytest.mark.parametrize("damage", ["missing", "cut", "emptied", "longer"])
def test_shards_that_are_not_whole_are_named_when_they_are_opened(shards, tmp_path, damage):
    shutil.copytree(shards, tmp_path / "shards")
    shard = sorted((tmp_path / "shards").glob("*.bin"))[1]
    content = shard.read_bytes()
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes({"cut": content[:-1], "emptied": b"", "longer": content + b"0"}[damage])
    found = "No such file" if damage == "missing" else rf"{shard.stat().st_size} of {len(content)} bytes"
    with pytest.raises(InputError, match=rf"whole shards in .*, 1 are not, the first is {shard.name}: {found}.*: copy"):
        PhotoShards(str(tmp_path / "shards"))


@pytest.mark.parametrize(
    "index", ["", "{", "{}", "[]", "null", '{"config": {"data_format": ["bytes", "bytes"]}, "chunks": [{}]}']
)
def test_an_index_that_is_damaged_is_told(tmp_path, index):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(InputError, match=r"could not read their index\.json .*: copy them again from where"):
        PhotoShards(str(tmp_path))


class Bucket(BaseHTTPRequestHandler):
    """As much of an object store as an upload asks for."""

    objects: dict[str, bytes]

    def do_PUT(self) -> None:
        coded = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "aws-chunked":  # a length in a line of its own, the bytes, a sum
            length, _, rest = coded.partition(b"\r\n")
            coded = rest[: int(length, 16)]
        self.objects[self.path] = coded
        self.answer(b"")

    def do_GET(self) -> None:  # the list of what is there
        self.answer(f"<ListBucketResult><KeyCount>{len(self.objects)}</KeyCount></ListBucketResult>".encode())

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_shards_are_uploaded_the_index_last(photos, shards, monkeypatch):
    Bucket.objects = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {
            "ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
            "ACCESS_KEY_ID": "x",
            "SECRET_ACCESS_KEY": "x",
            "DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        write_shards(photos, "s3://bucket/kadis/", shard_bytes=60_000)
        with pytest.raises(InputError, match="s3://bucket/kadis holds something: name another one"):
            write_shards(photos, "s3://bucket/kadis", shard_bytes=60_000)
        server.shutdown()
    assert list(Bucket.objects)[-1] == "/bucket/kadis/index.json"
    uploaded = {key.removeprefix("/bucket/kadis/"): content for key, content in Bucket.objects.items()}
    assert json.loads(uploaded.pop("index.json"))["chunks"] == json.loads((shards / "index.json").read_text())["chunks"]
    assert uploaded == {path.name: path.read_bytes() for path in shards.glob("*.bin")}


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(InputError, match=r"found no index\.json there: .*prepare shards"):
        PhotoShards(str(tmp_path))
