import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort

LEVELS = torch.arange(1, 6)


def _gray(value: float) -> torch.Tensor:
    return torch.full((5, 3, 160, 160), value)


def test_white_noise_has_its_variance(generator):
    noise = distort(_gray(0.5), "white_noise", LEVELS, generator) - 0.5
    want = torch.tensor(CATALOG["white_noise"].levels)
    torch.testing.assert_close(noise.flatten(1).var(1), want, rtol=0.03, atol=0)
    assert noise.mean((1, 2, 3)).abs().max() < 2e-3


def test_multiplicative_noise_grows_with_the_value(generator):
    want = torch.tensor(CATALOG["multiplicative_noise"].levels).sqrt()
    for value in (0.2, 0.4):
        noise = distort(_gray(value), "multiplicative_noise", LEVELS, generator) - value
        torch.testing.assert_close(noise.flatten(1).std(1), want * value, rtol=0.03, atol=0)


def test_white_noise_of_colour_components_mixes_into_rgb(generator):
    """R = Y + 1.403 Cr, B = Y + 1.773 Cb, G = Y - 0.714 Cr - 0.344 Cb, each with the same variance."""
    noise = distort(_gray(0.5), "white_noise_color_component", LEVELS, generator) - 0.5
    gain = torch.tensor([1 + 1.403**2, 1 + 0.714**2 + 0.344**2, 1 + 1.773**2])
    want = torch.tensor(CATALOG["white_noise_color_component"].levels)[:, None] * gain
    torch.testing.assert_close(noise.var((2, 3)), want, rtol=0.04, atol=0)


@pytest.mark.parametrize("level", range(1, 6))
def test_impulse_noise_sets_as_many_values_as_it_should(level, generator):
    noisy = distort(_gray(0.5), "impulse_noise", level, generator)
    count = int(CATALOG["impulse_noise"].levels[level - 1] * 3 * 160 * 160)
    assert set(noisy.unique().tolist()) == {0.0, 0.5, 1.0}
    for image in noisy:
        ones, zeros = int((image == 1).sum()), int((image == 0).sum())
        # repeated places are few: about count² / (2·values)
        repeats = count**2 / (2 * 76800)
        assert count - 3 * repeats - 8 <= ones + zeros <= count
        assert abs(ones - count / 2) <= 2 * repeats + 8
