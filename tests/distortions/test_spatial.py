import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort, spatial
from tests.distortions import oracles


@pytest.mark.parametrize("level", range(1, 6))
def test_quantization_is_the_index_of_the_bin(level, crops):
    images = torch.cat([crops[:1, :, :32, :32], 0.4 + crops[1:2, :, :32, :32] / 2])  # the second has no dark bins
    got = distort(images, "quantization", level)
    for image, indices in zip(images.numpy(), got.numpy(), strict=True):
        want = oracles.quantized(image, CATALOG["quantization"].levels[level - 1])
        np.testing.assert_allclose(indices, want, atol=1e-6)


@pytest.mark.parametrize("level", range(1, 6))
def test_pixelate_picks_the_nearest_pixel_twice(level, crops):
    want = oracles.pixelated(crops[0].numpy(), CATALOG["pixelate"].levels[level - 1])
    assert np.array_equal(distort(crops[:1], "pixelate", level)[0].numpy(), want)


def test_color_block_paints_squares_of_one_colour(generator):
    """Where the two squares do not overlap, each shows 32² pixels of its colour."""
    painted = distort(torch.zeros(40, 3, 160, 200), "color_block", 1, generator)
    sizes = []
    for image in painted:
        codes = (image.double() * torch.tensor([[[1.0]], [[2.0]], [[4.0]]])).sum(0)
        colours, counts = codes.unique(return_counts=True)
        assert len(colours) <= 3
        sizes += counts[colours > 0].tolist()
    assert len(sizes) == 80
    assert sizes.count(32 * 32) > 60


def test_color_block_reaches_every_border(generator):
    painted = distort(torch.zeros(300, 3, 64, 72), "color_block", 1, generator).amax((0, 1)) > 0
    for border in (painted[0], painted[-1], painted[:, 0], painted[:, -1]):
        assert border.any()


def test_color_block_fits_exactly_into_a_small_image(generator):
    painted = distort(torch.zeros(3, 3, 32, 32), "color_block", 2, generator)
    assert (painted == painted[..., :1, :1]).all()
    assert (painted > 0).all()


def test_patch_copies_in_place_like_a_loop(monkeypatch):
    """The same places, once by the distortion and once by a plain loop over rows, copies and images."""
    monkeypatch.setattr("arniqa_pl.distortions.catalog.CPU_CHUNK", 10**9)
    places = []
    original = spatial._patch_places

    def recorded(*arguments):
        places.append(original(*arguments))
        return places[-1]

    monkeypatch.setattr(spatial, "_patch_places", recorded)
    image = torch.rand(1, 1, 90, 70, generator=torch.Generator().manual_seed(1)).expand(2, 3, -1, -1)
    got = distort(image, "non_eccentricity_patch", [1, 3], torch.Generator().manual_seed(2))
    (top, new_top), (left, new_left) = places
    for i, count in enumerate((20, 60)):
        want = image[i, 0].numpy().copy()
        for k in range(count):
            source, target = (int(top[i, k]), int(left[i, k])), (int(new_top[i, k]), int(new_left[i, k]))
            oracles.copied_in_place(want, source, target, 16)
        assert np.array_equal(got[i, 0].numpy(), want)
        assert torch.equal(got[i, 0], got[i, 2])


def test_patch_places_keep_their_distances():
    uniform = torch.rand(2, 1, 100_000, generator=torch.Generator().manual_seed(1))
    source, target = spatial._patch_places(uniform[0], uniform[1], torch.tensor(8), 128)
    assert (source.min(), source.max()) == (16, 95)
    counts = torch.bincount((target - source + 8).flatten()).float()
    want = torch.full((17,), 100_000 / 16)  # uniform over 16 px, then rounded, which halves the share of both ends
    want[[0, -1]] /= 2
    assert ((counts - want) ** 2 / want).sum() < 39.3  # chi-square, 16 degrees of freedom, p = 0.001


def test_jitter_keeps_the_channels_together(generator):
    gray = torch.rand(2, 1, 64, 48, generator=generator).expand(-1, 3, -1, -1)
    moved = distort(gray, "jitter", 4, generator)
    torch.testing.assert_close(moved[:, 0], moved[:, 2])


def test_one_round_of_jitter_displaces_by_its_level(monkeypatch):
    """A ramp of one grey level per pixel shows how far away a pixel was read."""
    monkeypatch.setattr(spatial, "JITTER_ROUNDS", 1)
    ramp = (torch.arange(128).float() / 255).expand(5, 3, 128, 128)
    images = torch.cat([ramp, ramp.transpose(-1, -2)])
    moved = (distort(images, "jitter", [1, 2, 3, 4, 5] * 2, torch.Generator().manual_seed(1)) - images) * 255
    spread = moved[..., 8:-8, 8:-8].flatten(1).std(1).reshape(2, 5)
    want = torch.tensor(CATALOG["jitter"].levels)
    torch.testing.assert_close(spread, want.expand(2, 5), rtol=0.03, atol=0)


def test_one_round_of_jitter_reads_where_its_draws_say(monkeypatch):
    """Ramps across and down tell the place that each pixel was read from; both axes, sides and signs differ."""
    monkeypatch.setattr(spatial, "JITTER_ROUNDS", 1)
    height, width = 33, 40
    y, x = torch.meshgrid(torch.arange(height).float(), torch.arange(width).float(), indexing="ij")
    images = torch.stack([x, y, torch.zeros_like(x)]).expand(2, -1, -1, -1) / 64
    draws = torch.randn(2, 2, height, width, generator=torch.Generator().manual_seed(7))
    draws *= torch.tensor(CATALOG["jitter"].levels[3:])[:, None, None, None]
    (across, down), extremes = draws.unbind(1), draws[:, 0].flatten(1).aminmax(dim=1)
    drift = (extremes.max.ceil() - (-extremes.min).ceil())[:, None, None]
    assert drift.any()
    moved = distort(images, "jitter", [4, 5], torch.Generator().manual_seed(7)) * 64
    torch.testing.assert_close(moved[:, 0], (x + across + drift).clamp(0, width - 1), atol=1e-3, rtol=0)
    torch.testing.assert_close(moved[:, 1], (y + down - drift).clamp(0, height - 1), atol=1e-3, rtol=0)


def test_a_round_of_jitter_moves_the_picture_by_the_difference_of_its_extremes(monkeypatch):
    """Along x and, the other way, along y: the sum of both places stays, whatever the level."""
    monkeypatch.setattr(spatial, "JITTER_ROUNDS", 1)
    x = torch.arange(128).float().expand(128, 128) / 255
    images = torch.stack([x, x.T, torch.zeros_like(x)]).repeat(60, 1, 1, 1)
    moved = (distort(images, "jitter", 5, torch.Generator().manual_seed(1)) - images)[..., 8:-8, 8:-8] * 255
    across, down = moved[:, 0].mean((1, 2)), moved[:, 1].mean((1, 2))
    torch.testing.assert_close(across, across.round(), atol=0.05, rtol=0)
    torch.testing.assert_close(across + down, torch.zeros(60), atol=0.08, rtol=0)
    assert across.round().unique().numel() >= 3
