import numpy as np
import pytest
import torch
from PIL import Image

from arniqa_pl.data.crops import fixed_crops, half_scale, random_crops, with_short_side


def corners(crop: torch.Tensor) -> tuple[int, int]:
    """Column and row of the crop's first pixel in the numbered image."""
    return int(crop[0, 0, 0]), int(crop[1, 0, 0])


def test_half_scale_is_pillows_bicubic_with_sides_rounded_down():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (41, 63, 3), np.uint8))
    half = half_scale(image)
    assert half.size == (31, 20)
    np.testing.assert_array_equal(half, image.resize((31, 20), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("size", "wanted"), [((60, 41), (29, 20)), ((41, 60), (20, 29)), ((10, 10), (20, 20))])
def test_the_short_side_is_resized_bicubically_and_the_long_one_follows(size, wanted):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8))
    np.testing.assert_array_equal(with_short_side(image, 20), image.resize(wanted, Image.Resampling.BICUBIC))
    assert with_short_side(image, None) is image


def test_centre_and_corner_crops_lie_where_the_protocol_says(numbered):
    crops = fixed_crops((numbered,), size=16, count=5)
    assert crops.shape == (1, 5, 3, 16, 16)
    assert crops.dtype == torch.uint8
    assert [corners(crop) for crop in crops[0]] == [
        (60 // 2 - 8, 40 // 2 - 8),
        (0, 0),
        (44, 0),
        (0, 24),
        (44, 24),
    ]
    assert torch.equal(fixed_crops((numbered,), size=16, count=1)[0, 0], crops[0, 0])


def test_images_smaller_than_a_crop_lie_over_zeros(numbered):
    crops = fixed_crops((numbered,), size=50, count=5)[0]
    inside = crops[:, 2] == 255
    assert inside.flatten(1).sum(1).tolist() == [50 * 40] * 5  # all rows of the image, 50 of its columns
    assert crops[:, :2].permute(1, 0, 2, 3)[:, ~inside].sum() == 0
    first_rows = [int(crop.any(dim=1).nonzero()[0]) for crop in inside]
    assert first_rows == [50 // 2 - 40 // 2, 0, 0, 10, 10]  # centred, then at the top, then at the bottom


def test_only_one_or_five_crops(numbered):
    with pytest.raises(ValueError, match="got 3"):
        fixed_crops((numbered,), size=16, count=3)


def test_random_crops_reach_every_place_and_scales_are_independent(numbered):
    generator = torch.Generator().manual_seed(0)
    places = [
        [corners(crop) for crop in random_crops((numbered, numbered), size=36, generator=generator)] for _ in range(600)
    ]
    for scale in (0, 1):
        assert {place[scale][0] for place in places} == set(range(25))
        assert {place[scale][1] for place in places} == set(range(5))
    same = sum(first == second for first, second in places)
    assert same < 30  # 1 in 125 by chance


def test_random_crops_of_a_small_image_move_it_over_zeros(numbered):
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        (crop,) = random_crops((numbered,), size=44, generator=generator)
        rows = (crop[2] == 255).any(dim=1).nonzero().flatten()
        assert len(rows) == 40
        seen.add(int(rows[0]))
    assert seen == set(range(5))
