import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from arniqa_pl.data.crops import _region, fixed_crops, half_scale, random_crops, tensor_crops, with_short_side
from arniqa_pl.data.images import read_image, to_tensor
from tests.conftest import PHOTOS


def corners(crop: torch.Tensor) -> tuple[int, int]:
    """Column and row of the crop's first pixel in the numbered image."""
    return int(crop[0, 0, 0]), int(crop[1, 0, 0])


@pytest.mark.parametrize("name", ["owl", "cow", "sea2"])
@pytest.mark.parametrize("cut", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=["even", "odd width", "odd height", "odd"])
def test_half_scale_is_pillows_bicubic_but_for_a_grey_level_here_and_there(name, cut):
    photo = read_image(PHOTOS / f"{name}.jpg")
    image = photo.crop((0, 0, photo.width - cut[0], photo.height - cut[1]))
    half = half_scale(image)
    assert half.size == (image.width // 2, image.height // 2)
    pillows = np.int16(image.resize(half.size, Image.Resampling.BICUBIC))
    difference = np.abs(np.int16(half) - pillows)
    assert difference.max() <= 1
    assert difference.mean() < 5e-3


@pytest.mark.parametrize("sides", [(64, 48), (63, 48), (64, 47), (63, 47), (22, 22), (21, 70), (9, 7), (2, 1), (1, 1)])
def test_crops_of_the_half_scale_image_need_not_the_whole_to_be_the_same(sides):
    width, height = sides
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))
    half = to_tensor(half_scale(image))
    size = 10
    seen = set()
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        crop = random_crops(image, size, generator)[1]
        generator.manual_seed(seed)
        _, _, left, top = (offset(length - size, generator) for length in (width, height, half.shape[2], half.shape[1]))
        canvas = torch.zeros(3, half.shape[1] + 2 * size, half.shape[2] + 2 * size, dtype=torch.uint8)
        canvas[:, size:-size, size:-size] = half
        assert torch.equal(crop, canvas[:, top + size : top + 2 * size, left + size : left + 2 * size])
        seen.add((left, top))
    assert len(seen) > 3


def test_a_region_of_a_usual_image_is_not_copied_and_of_a_large_one_the_same():
    image = Image.new("RGB", (40, 30))
    _region(image, (3, 4, 20, 30))[0, 0, 0] = 9
    assert image.getpixel((3, 4)) == (9, 0, 0)
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 3000, 3), np.uint8))
    box = (7, 900, 2903, 1500)
    assert np.array_equal(_region(large, box), large.crop(box))
    half = np.int16(large.resize((1500, 750), Image.Resampling.BICUBIC))
    assert np.abs(np.int16(half_scale(large)) - half).max() <= 1


def offset(room: int, generator: torch.Generator) -> int:
    """A draw between 0 and room, both included, on whichever side of 0 room lies."""
    return int(np.sign(room)) * int(torch.randint(abs(room) + 1, (), generator=generator))


@pytest.mark.parametrize("sides", [(60, 40), (7, 5), (60, 5), (2, 3), (1, 1)])
@pytest.mark.parametrize("count", [1, 5])
def test_reflected_padding_is_numpys(sides, count):
    width, height = sides
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))
    size = 50
    reflected = np.pad(image, ((size, size), (size, size), (0, 0)), mode="reflect")
    places = [(width // 2 - size // 2, height // 2 - size // 2), (0, 0)]
    places += [(width - size, 0), (0, height - size), (width - size, height - size)]
    crops = fixed_crops((image,), size, count, "reflect")[0]
    for crop, (left, top) in zip(crops, places[:count], strict=True):
        wanted = reflected[top + size : top + 2 * size, left + size : left + 2 * size]
        np.testing.assert_array_equal(crop.permute(1, 2, 0), wanted)
    full, half = random_crops(image, size, torch.Generator().manual_seed(0), "reflect")
    colours = {tuple(pixel) for pixel in np.asarray(image).reshape(-1, 3).tolist()}
    assert {tuple(pixel) for pixel in full.permute(1, 2, 0).reshape(-1, 3).tolist()} <= colours
    assert half.flatten(1).amax(1).min() > 0


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
    crops = [random_crops(numbered, size=16, generator=generator) for _ in range(1500)]
    places = [(corners(full), tuple((half[:2, 8, 8] // 2).tolist())) for full, half in crops]
    assert {column for (column, _), _ in places} == set(range(45))
    assert {row for (_, row), _ in places} == set(range(25))
    assert {column for _, (column, _) in places} == set(range(8, 8 + 15))
    assert {row for _, (_, row) in places} == set(range(8, 8 + 5))
    of_halves = {half for full, half in places if full[0] == 20}  # wherever the first crop lies
    assert len(of_halves) > 15


def test_random_crops_of_a_small_image_move_it_over_zeros(numbered):
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        crop, _ = random_crops(numbered, size=44, generator=generator)
        rows = (crop[2] == 255).any(dim=1).nonzero().flatten()
        assert len(rows) == 40
        seen.add(int(rows[0]))
    assert seen == set(range(5))


sides = st.tuples(st.integers(1, 48), st.integers(1, 48))
sizes = st.integers(1, 32)
seeds = st.integers(0, 2**32)


def noise(width: int, height: int, seed: int) -> Image.Image:
    """Without black: whatever is 0 in a crop was put around the image."""
    return Image.fromarray(np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8))


def found(crop: torch.Tensor, image: Image.Image) -> set[tuple[int, int]]:
    """Every (left, top) at which a crop is the window of an image on an endless black ground that it may show."""
    size, (width, height) = crop.shape[1], image.size
    ground = np.pad(image, ((size, size), (size, size), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(ground, (size, size), axis=(0, 1))
    tops, lefts = np.nonzero((windows == crop.numpy()).all((2, 3, 4)))
    return {(int(left) - size, int(top) - size) for left, top in zip(lefts, tops, strict=True)} & {
        (left, top)
        for left in range(min(width - size, 0), max(width - size, 0) + 1)
        for top in range(min(height - size, 0), max(height - size, 0) + 1)
    }


@given(sides, sizes, seeds)
def test_every_random_crop_is_a_window_that_shows_as_much_of_the_image_as_fits(sides, size, seed):
    image = noise(*sides, seed)
    full, half = random_crops(image, size, torch.Generator().manual_seed(seed))
    assert found(full, image)
    assert found(half, half_scale(image))


@given(st.tuples(st.integers(8, 48), st.integers(8, 48)), st.integers(4, 32), seeds)
def test_an_aligned_crop_looks_where_the_first_one_does(sides, size, seed):
    image = noise(*sides, seed)
    half = half_scale(image)
    crops = random_crops(image, size, torch.Generator().manual_seed(seed), half_scale="aligned")
    ((first, second),) = zip(found(crops[0], image), found(crops[1], half), strict=True)
    for start, got, length, halved in zip(first, second, image.size, half.size, strict=True):
        centred = (start + size / 2) * halved / length - size / 2
        wanted = np.clip(centred, *sorted((0, halved - size)))
        assert abs(got - wanted) <= 0.5


@settings(max_examples=15)
@given(st.lists(sides, min_size=1, max_size=2), sizes, st.sampled_from([1, 5]), seeds)
def test_fixed_crops_of_images_are_those_of_tensors(scales, size, count, seed):
    images = [noise(*sides, seed) for sides in scales]
    crops = fixed_crops(images, size, count)
    assert crops.shape == (len(images), count, 3, size, size)
    for image, wanted in zip(images, crops, strict=True):
        assert torch.equal(tensor_crops(to_tensor(image)[None], size, count)[0], wanted)
        assert all(found(crop, image) for crop in wanted)


@given(sides, st.integers(1, 40))
def test_a_resized_image_keeps_its_proportions_to_a_pixel(sides, side):
    width, height = with_short_side(noise(*sides, 0), side).size
    assert min(width, height) == side
    assert 0 <= sides[0] * side / min(sides) - width < 1
    assert 0 <= sides[1] * side / min(sides) - height < 1
