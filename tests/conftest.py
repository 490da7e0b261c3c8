import os
from pathlib import Path

# Before torch is imported, here and in every process that a test starts: the tests run in parallel, and two processes
# with two threads each on two cores wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from PIL import Image

from arniqa_pl.demo import write_demo

PHOTOS = Path(__file__).parents[1] / "src" / "arniqa_pl" / "data" / "photos"


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """The demo data as `arniqa_pl.prepare` writes them, with four photographs as references."""
    folder = tmp_path_factory.mktemp("data")
    write_demo(folder, pristine=20, seed=27)
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
