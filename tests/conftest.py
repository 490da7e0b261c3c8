import os
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: the tests run in parallel, and two processes
# with two threads each on two cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from PIL import Image

from arniqa_pl.demo import write_demo
from arniqa_pl.models import Encoder
from tests.replicas import write_replicas

pytest_plugins = ["tests.left_behind"]

# The same examples in every run; none is kept between two, and a busy machine fails no test.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("repeatable")

PHOTOS = Path(__file__).parents[1] / "src" / "arniqa_pl" / "data" / "photos"


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """The demo data as `arniqa_pl.prepare` writes them, with four photographs as references."""
    folder = tmp_path_factory.mktemp("data")
    write_demo(folder, pristine=20, seed=27)
    return folder


@pytest.fixture(scope="session")
def small_data(demo_data, tmp_path_factory) -> Path:
    """The demo's photographs; a KADID10K/ of 4 references × 3 types × 5 levels in 96×96 pixels; own.csv: -scores."""
    root = tmp_path_factory.mktemp("small")
    (root / "KADIS700").symlink_to(demo_data / "KADIS700")
    folder, source = root / "KADID10K", demo_data / "KADID10K"
    (folder / "images").mkdir(parents=True)
    table = pd.read_csv(source / "dmos.csv")
    table = table[table["dist_img"].str.contains("_01_|_10_|_16_")]
    for name in {*table["dist_img"], *table["ref_img"]}:
        with Image.open(source / "images" / name) as image:
            image.crop((200, 150, 296, 246)).save(folder / "images" / name)
    table.to_csv(folder / "dmos.csv", index=False)
    own = {"image": "images/" + table["dist_img"], "score": -table["dmos"], "group": table["ref_img"]}
    pd.DataFrame(own).to_csv(folder / "own.csv", index=False)
    return root


@pytest.fixture(scope="session")
def small_checkpoints(tmp_path_factory) -> list[Path]:
    """Two checkpoints of untrained encoders, as pre-training would keep them in the runs of a sweep."""
    sweep = tmp_path_factory.mktemp("sweep")
    files = [sweep / str(seed) / "checkpoints" / "best.ckpt" for seed in (0, 1)]
    for seed, file in enumerate(files):
        file.parent.mkdir(parents=True)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            state = Encoder("mobilenet_v2").state_dict()
        weights = {f"encoder.{name}": value for name, value in state.items()}
        torch.save({"encoder": "mobilenet_v2", "state_dict": weights}, file)
    return files


@pytest.fixture(scope="session")
def replicas(tmp_path_factory) -> Path:
    """Every published database in miniature, below the folder that `paths.data_dir` is to name."""
    folder = tmp_path_factory.mktemp("replicas")
    write_replicas(folder)
    return folder


@pytest.fixture
def photo() -> Image.Image:
    with Image.open(PHOTOS / "owl.jpg") as image:
        return image.convert("RGB")


@pytest.fixture
def numbered() -> Image.Image:
    """A 60×40 image in which every pixel names its place: red is its column, green its row, blue 255."""
    columns, rows = np.meshgrid(np.arange(60), np.arange(40))
    return Image.fromarray(np.stack([columns, rows, np.full_like(rows, 255)], axis=2).astype(np.uint8))
