import kornia
import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort

LEVELS = torch.arange(1, 6)


def _parabola(x: torch.Tensor, middle: float) -> torch.Tensor:
    """Through (0, 0), (0.5, middle) and (1, 1), by three points."""
    curve = np.polynomial.Polynomial.fit([0, 0.5, 1], [0, middle, 1], 2)
    return torch.from_numpy(curve(x.double().numpy())).float().clamp(0, 1)


@pytest.mark.parametrize("level", range(1, 6))
def test_brighten_mixes_rgb_and_lightness_two_to_one(level, crops):
    middle = 0.5 + CATALOG["brighten"].levels[level - 1] / 2
    lab = kornia.color.rgb_to_lab(crops.flip(1))
    lab[:, :1] = _parabola(lab[:, :1] / 100, middle) * 100
    want = (2 * _parabola(crops, middle) + kornia.color.lab_to_rgb(lab).flip(1)) / 3
    torch.testing.assert_close(distort(crops, "brighten", level), want, atol=1e-4, rtol=0)


@pytest.mark.parametrize("level", range(1, 6))
def test_darken_is_a_parabola(level, crops):
    want = _parabola(crops, 0.5 - CATALOG["darken"].levels[level - 1] / 2)
    torch.testing.assert_close(distort(crops, "darken", level), want, atol=1e-5, rtol=0)


def test_mean_shift_adds_and_clips(crops):
    offsets = torch.tensor(CATALOG["mean_shift"].levels)[:, None, None, None]
    torch.testing.assert_close(distort(crops, "mean_shift", LEVELS), (crops + offsets).clamp(0, 1))
