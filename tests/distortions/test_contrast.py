import kornia
import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort
from tests.distortions import oracles


@pytest.mark.parametrize("level", range(1, 6))
def test_linear_contrast_is_the_not_a_knot_spline(level, crops):
    amount = CATALOG["linear_contrast_change"].levels[level - 1]
    points = [(0, 0), (0.3, 0.25 - amount / 4), (0.5, 0.5), (0.7, 0.75 + amount / 4), (1, 1)]
    want = oracles.spline(points, crops.double().numpy()).clip(0, 1)
    np.testing.assert_allclose(distort(crops, "linear_contrast_change", level).numpy(), want, atol=1e-5)


def test_non_linear_contrast_is_affine(crops):
    offset = torch.tensor(CATALOG["non_linear_contrast_change"].levels)[:, None, None, None]
    got = distort(crops, "non_linear_contrast_change", torch.arange(1, 6))
    torch.testing.assert_close(got, 0.5 + (2 * crops - 1) * offset)


@pytest.mark.parametrize("level", range(1, 6))
def test_sharpen_filters_the_lightness_with_one_kernel(level, crops):
    """`delta + amount·(delta - G)`, as a whole 13×13 kernel through kornia."""
    amount = CATALOG["high_sharpen"].levels[level - 1]
    delta = torch.zeros(1, 13, 13)
    delta[0, 6, 6] = 1
    kernel = delta + amount * (delta - kornia.filters.get_gaussian_kernel2d((13, 13), (6.0, 6.0)))
    lab = kornia.color.rgb_to_lab(crops.flip(1))
    lab[:, :1] = kornia.filters.filter2d(lab[:, :1], kernel, border_type="replicate")
    want = kornia.color.lab_to_rgb(lab).flip(1)
    torch.testing.assert_close(distort(crops, "high_sharpen", level), want, atol=2e-3, rtol=0)
