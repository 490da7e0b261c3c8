import math

import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, kernels
from tests.distortions import oracles


@pytest.mark.parametrize("sigma", CATALOG["gaussian_blur"].levels)
def test_gaussian_is_the_density_at_whole_pixels(sigma):
    window = kernels.gaussian(sigma)
    assert len(window) == 2 * math.ceil(2 * sigma) + 1
    density = np.exp(-0.5 * (np.arange(len(window)) - len(window) // 2) ** 2 / sigma**2)
    np.testing.assert_allclose(window.numpy(), density / density.sum(), atol=1e-7)


def test_disk_of_radius_1_is_matlabs():
    corner, side, centre = 0.02506, 0.14534, 0.31831  # fspecial('disk', 1)
    want = [[corner, side, corner], [side, centre, side], [corner, side, corner]]
    np.testing.assert_allclose(kernels.disk(1).numpy(), want, atol=2e-5)


def test_disk_of_radius_2_is_as_measured():
    """By least squares on the published output; the weights below 0 tell it from MATLAB's."""
    want = [[0, -0.0019, 0.0384], [-0.0019, 0.1153, 0.0801], [0.0384, 0.0801, 0.0802]]
    quarter = kernels.disk(2)[:3, :3]
    np.testing.assert_allclose(quarter.numpy(), want, atol=1e-4)


@pytest.mark.parametrize("radius", CATALOG["lens_blur"].levels)
def test_disk_has_the_symmetries_of_the_square(radius):
    disk = kernels.disk(radius)
    assert disk.shape == (2 * radius + 1, 2 * radius + 1)
    assert float(disk.sum()) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(disk, disk.rot90())
    torch.testing.assert_close(disk, disk.T)


@pytest.mark.parametrize("length", CATALOG["motion_blur"].levels)
@pytest.mark.parametrize("angle", [0, 17, 45, 90, 133, 180])
def test_motion_is_a_line_through_its_own_reflection(length, angle):
    line = kernels.motion(length, angle)
    assert float(line.sum()) == pytest.approx(1, abs=1e-6)
    assert line.min() >= 0
    torch.testing.assert_close(line, line.flip(0, 1))
    turned = kernels.motion(length, (angle + 90) % 180)
    torch.testing.assert_close(kernels.centred(line.rot90(), 11), kernels.centred(turned, 11), atol=1e-6, rtol=0)


def test_motion_of_length_4_along_the_rows():
    """`fspecial('motion', 4, 0)`: three whole pixels and half a pixel at each end."""
    torch.testing.assert_close(kernels.motion(4, 0), torch.tensor([[0.5, 1, 1, 1, 0.5]]) / 4)


def test_motion_turns_counter_clockwise():
    line = kernels.motion_square(10, 45)
    assert line[2, -3] > 0.05  # right and up
    assert line[2, 2] == 0


def test_motion_bank_holds_every_angle():
    bank = kernels.motion_bank(6, torch.device("cpu"))
    assert bank.shape[0] == kernels.MOTION_ANGLES
    side = bank.shape[-1]
    for angle in (0, 30, 91, 180):
        torch.testing.assert_close(bank[angle], kernels.centred(kernels.motion(6, angle), side))


@pytest.mark.parametrize("height", [32, 37])
def test_correlate_gives_each_image_its_own_kernel(height, generator):
    images = torch.rand(2, 3, height, 21, generator=generator)
    weights = torch.rand(2, 5, 3, generator=generator)
    got = kernels.correlate(images, weights)
    for i in range(2):
        for channel in range(3):
            want = oracles.correlated(images[i, channel].numpy(), weights[i].numpy())
            np.testing.assert_allclose(got[i, channel].numpy(), want, atol=1e-5)


def test_separable_is_the_outer_product(generator):
    images = torch.rand(2, 3, 48, 33, generator=generator)
    windows = torch.rand(2, 7, generator=generator)
    whole = kernels.correlate(images, windows[:, :, None] * windows[:, None, :])
    torch.testing.assert_close(kernels.separable(images, windows), whole, atol=1e-4, rtol=1e-4)


def test_per_sample_centres_kernels_of_different_sides():
    value = torch.tensor([2.0, 0.5, 2.0], dtype=torch.float64)
    windows = kernels.per_sample(kernels.gaussian, value, torch.device("cpu"))
    assert windows.shape == (3, 9)
    assert torch.equal(windows[0], windows[2])
    torch.testing.assert_close(windows[1], torch.cat([torch.zeros(3), kernels.gaussian(0.5), torch.zeros(3)]))
