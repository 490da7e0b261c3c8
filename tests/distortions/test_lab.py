import kornia
import pytest
import torch

from arniqa_pl.distortions.lab import from_lab, to_lab


@pytest.fixture
def colours(generator) -> torch.Tensor:
    """Random, dark and extreme colours, `(3, 3, 40, 40)`."""
    random = torch.rand(1, 3, 40, 40, generator=generator)
    return torch.cat([random, random * 0.06, random.round()])


def test_to_lab_is_kornias_of_the_swapped_image(colours):
    torch.testing.assert_close(to_lab(colours), kornia.color.rgb_to_lab(colours.flip(1)), atol=3e-3, rtol=1e-4)


def test_from_lab_is_kornias_swapped_back(colours):
    lab = to_lab(colours)
    lab[:, 1:] *= 3  # far outside the gamut
    want = kornia.color.lab_to_rgb(lab).flip(1)
    torch.testing.assert_close(from_lab(lab), want, atol=3e-5, rtol=0)


def test_there_and_back(colours):
    torch.testing.assert_close(from_lab(to_lab(colours)), colours, atol=2e-4, rtol=0)
