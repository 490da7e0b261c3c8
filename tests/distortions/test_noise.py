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
    gain = torch.tensor([[1, 0, 1.403], [1, -0.344, -0.714], [1, 1.773, 0]])
    for image, variance in zip(noise, CATALOG["white_noise_color_component"].levels, strict=True):
        found = image.flatten(1).cov() / variance
        torch.testing.assert_close(found, gain @ gain.T, rtol=0.04, atol=0.04)


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


def test_impulse_noise_of_a_mixed_batch_sets_the_places_it_drew():
    """One image and one place at a time: the first half of an image's own places to 1, then the rest to 0."""
    images, seed = torch.full((5, 3, 32, 40), 0.5), torch.Generator().manual_seed(2)
    counts = [int(level * 3 * 32 * 40) for level in CATALOG["impulse_noise"].levels]
    places = torch.randint(3 * 32 * 40, (5, max(counts)), generator=seed)
    want = images.flatten(1).clone()
    for image, drawn, count in zip(want, places.tolist(), counts, strict=True):
        for number, place in enumerate(drawn[:count]):
            image[place] = float(number < count // 2)
    got = distort(images, "impulse_noise", LEVELS, torch.Generator().manual_seed(2))
    assert torch.equal(got.flatten(1), want)
