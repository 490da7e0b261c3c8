import kornia
import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, color, distort, kernels
from tests.distortions import oracles


@pytest.mark.parametrize("level", range(1, 6))
def test_saturation_1_scales_s_of_swapped_hsv(level, crops):
    hsv = kornia.color.rgb_to_hsv(crops.flip(1))
    hsv[:, 1] *= CATALOG["color_saturation_1"].levels[level - 1]
    want = kornia.color.hsv_to_rgb(hsv).flip(1).clamp(0, 1)
    torch.testing.assert_close(distort(crops, "color_saturation_1", level), want, atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", range(1, 6))
def test_saturation_2_scales_a_and_b_of_swapped_lab(level, crops):
    lab = kornia.color.rgb_to_lab(crops.flip(1))
    lab[:, 1:] *= CATALOG["color_saturation_2"].levels[level - 1]
    want = kornia.color.lab_to_rgb(lab).flip(1)
    error = want - distort(crops, "color_saturation_2", level)
    assert error.min() > -1e-3  # truncated, never rounded up
    assert error.max() < 1.1 / 255


@pytest.mark.parametrize("name", ["color_saturation_2", "color_diffusion"])
def test_ends_with_whole_bytes(name, crops):
    values = distort(crops, name, 4) * 255
    torch.testing.assert_close(values, values.round(), atol=1e-3, rtol=0)


def test_diffusion_keeps_a_gray_image(crops):
    gray = crops[:, :1].expand(-1, 3, -1, -1)
    assert (distort(gray, "color_diffusion", 5) - gray).abs().max() < 1.1 / 255


def test_shift_moves_green_only(crops, generator):
    shifted = distort(crops, "color_shift", 5, generator)
    assert torch.equal(shifted[:, 0], crops[:, 0])
    assert torch.equal(shifted[:, 2], crops[:, 2])
    assert not torch.equal(shifted[:, 1], crops[:, 1])


def test_shift_moves_down_and_right_by_the_rounded_amount():
    """A green ramp down and right: where the edge map is 1, it falls by the shift times the slope."""
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    ramp = torch.stack([torch.zeros(96, 96), (y + 2 * x) / 300, ((y - 48) ** 2 + (x - 48) ** 2 < 400).float()])
    images = ramp.expand(200, -1, -1, -1)
    moved = distort(images, "color_shift", 4, torch.Generator().manual_seed(1))[:, 1]
    fall = ((images[:, 1] - moved) * 300).flatten(1).amax(1)
    pairs = {(round(8 * a), round(8 * (1 - a * a) ** 0.5)) for a in torch.linspace(0, 1, 5000).tolist()}
    possible = torch.tensor(sorted({down + 2 * right for down, right in pairs})).float()
    interior = moved[:, 30:66, 30:66] <= images[:, 1, 30:66, 30:66] + 1e-6
    assert interior.all()
    assert fall.max() <= possible.max() + 0.1
    assert fall.unique().numel() > 5


def test_edge_maps_are_the_blurred_gradients_rescaled_without_a_pixel_of_each_row(generator):
    noise = torch.rand(1, 3, 33, 40, generator=generator)
    images = torch.cat([noise, 0.5 + noise.flip(-1) / 50])
    edges = color._edge_map(images)
    for image, found in zip(images.numpy(), edges.numpy(), strict=True):
        np.testing.assert_allclose(found[0], oracles.edges(image, kernels.gaussian(4.0).numpy()), atol=1e-4)


@pytest.mark.parametrize(("shift", "margin"), [(0, 0), (3, 5), (3, 3), (8, 2), (8, 0)])
def test_a_shifted_line_wraps_its_margin_around(shift, margin):
    """The line with its margins replicated, rolled, and the margins cut off."""
    line = np.arange(12)
    want = np.roll(np.pad(line, margin, mode="edge"), shift)[margin : margin + 12]
    places = color._shifted_places(12, torch.tensor([[shift]]), torch.tensor([[margin]]))
    assert places.tolist() == [want.tolist()]


def test_shift_leaves_an_image_without_edges(generator):
    flat = torch.full((2, 3, 64, 64), 0.3)
    assert torch.equal(distort(flat, "color_shift", 5, generator), flat)
