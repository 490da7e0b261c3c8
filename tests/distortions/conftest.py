from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from arniqa_pl.data.databases import kadid10k

GOLDEN = Path(__file__).parent / "golden"
# Name to group of what the published system has: of KADID-10k's 25 types not three, and two in place of the last.
PUBLISHED = {
    name: group
    for name, group in kadid10k.DISTORTIONS.items()
    if name not in ("color_quantization", "denoise", "contrast_change")
} | dict.fromkeys(("linear_contrast_change", "non_linear_contrast_change"), "sharpness_contrast")


@pytest.fixture(scope="session")
def golden_images() -> dict[str, np.ndarray]:
    """The measured bytes of the published system, `(H, W, 3)` each."""
    with np.load(GOLDEN / "deterministic.npz") as file:
        return {key: file[key] for key in file.files}


@pytest.fixture(scope="session")
def crop(golden_images) -> Tensor:
    """A 128×128 crop of a photograph, `(1, 3, 128, 128)` in [0, 1]."""
    return torch.from_numpy(golden_images["input"]).permute(2, 0, 1)[None].float() / 255


@pytest.fixture
def crops(crop) -> Tensor:
    """Five different parts of the photograph, higher than wide, `(5, 3, 80, 64)`."""
    corners = [(0, 0), (48, 0), (0, 64), (48, 64), (24, 32)]
    return torch.cat([crop[..., y : y + 80, x : x + 64] for y, x in corners])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(11)
