import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort, kernels
from arniqa_pl.distortions.kernels import MOTION_ANGLES
from tests.distortions import oracles


@pytest.mark.parametrize(("name", "kernel"), [("gaussian_blur", kernels.gaussian), ("lens_blur", kernels.disk)])
def test_blurs_are_correlations(name, kernel, crops):
    images = crops[:1, :1].expand(-1, 3, -1, -1)
    for level in (2, 4):
        weights = kernel(CATALOG[name].levels[level - 1]).numpy()
        weights = np.outer(weights, weights) if weights.ndim == 1 else weights
        want = oracles.correlated(images[0, 0].numpy(), weights).clip(0, 1)
        np.testing.assert_allclose(distort(images, name, level)[0, 0].numpy(), want, atol=1e-5)


def test_motion_blur_draws_whole_angles_over_the_half_circle(generator):
    """A single bright pixel shows the kernel, and the kernel its angle."""
    spot = torch.zeros(400, 3, 33, 33)
    spot[..., 16, 16] = 1
    seen = distort(spot, "motion_blur", 5, generator)[:, 0, 11:22, 11:22].flip(1, 2)
    bank = kernels.motion_bank(10, torch.device("cpu"))
    distances = torch.cdist(seen.flatten(1), bank.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")
    angles = distances.argmin(1)
    assert distances.amin(1).max() < 1e-5
    assert angles.unique().numel() > 120
    counts = angles.remainder(180).float().histc(6, 0, 180)
    assert ((counts - 400 / 6) ** 2 / (400 / 6)).sum() < 20.5  # chi-square, 5 degrees of freedom, p = 0.001
    assert MOTION_ANGLES == 181


def test_a_pinned_angle_draws_nothing(crops):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    distort(crops, "motion_blur", 3, generator, angle=30)
    assert torch.equal(generator.get_state(), before)
