"""The same questions of all."""

import pytest
import torch

from arniqa_pl.distortions import CATALOG, distort
from arniqa_pl.errors import InputError

NAMES = list(CATALOG)
RANDOM = [row.name for row in CATALOG.values() if row.random]
DETERMINISTIC = [row.name for row in CATALOG.values() if not row.random]
# the published levels change their sign, or (pixelate) the mild ones pick almost the same pixels
UNORDERED = {"mean_shift", "linear_contrast_change", "pixelate"}
LEVELS = torch.arange(1, 6)

every = pytest.mark.parametrize("name", NAMES)


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_keeps_shape_dtype_and_range(name, dtype, crops, generator):
    images = crops.to(dtype)
    distorted = distort(images, name, LEVELS, generator)
    assert distorted.shape == images.shape
    assert distorted.dtype == dtype
    assert distorted.device == images.device
    assert distorted.isfinite().all()
    assert distorted.min() >= 0
    assert distorted.max() <= 1


@every
def test_half_precision_is_the_rounded_float32_result(name, crops):
    images = crops.to(torch.bfloat16)
    assert torch.equal(distort(images, name, LEVELS), distort(images.float(), name, LEVELS).to(torch.bfloat16))


@every
def test_leaves_its_input_alone_and_returns_a_new_tensor(name, crops, generator):
    before = crops.clone()
    distorted = distort(crops, name, LEVELS, generator)
    assert torch.equal(crops, before)
    distorted.zero_()
    assert torch.equal(crops, before)


@every
@pytest.mark.parametrize("fill", [0.0, 0.5, 1.0])
def test_is_finite_on_an_image_of_one_colour(name, fill, generator):
    distorted = distort(torch.full((5, 3, 32, 32), fill), name, LEVELS, generator)
    assert distorted.isfinite().all()
    assert distorted.min() >= 0
    assert distorted.max() <= 1


@every
@pytest.mark.parametrize("size", [(32, 32), (33, 47), (32, 130)])
def test_takes_small_odd_and_long_images(name, size, crop, generator):
    image = torch.nn.functional.pad(crop, (0, 2))[..., : size[0], : size[1]]
    for level in (1, 5):
        assert distort(image, name, level, generator).shape == image.shape


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_mixed_batch_gives_what_its_images_give_alone(name, crops):
    mixed = distort(crops, name, LEVELS)
    alone = torch.cat([distort(crops[i : i + 1], name, i + 1) for i in range(5)])
    # a sum in another order may cross an edge of the truncation to bytes that three of them end with
    assert ((mixed - alone).abs() > 1e-5).float().mean() < 1e-3
    assert (mixed - alone).abs().max() <= 1.01 / 255 or name == "quantization"


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_the_size_of_the_chunks_does_not_show(name, crops, monkeypatch):
    whole = distort(crops, name, LEVELS)
    monkeypatch.setattr("arniqa_pl.distortions.catalog.CPU_CHUNK", 1)
    assert ((distort(crops, name, LEVELS) - whole).abs() > 1e-5).float().mean() < 1e-3


@every
def test_the_same_generator_gives_the_same_result(name, crops):
    first, second = (distort(crops, name, LEVELS, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


@every
def test_no_generator_means_seed_0(name, crops):
    assert torch.equal(distort(crops, name, 3), distort(crops, name, 3, torch.Generator().manual_seed(0)))


@every
def test_another_seed_matters_to_the_random_ones_only(name, crops):
    first, second = (distort(crops, name, 4, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.equal(first, second) == (name not in RANDOM)


@pytest.mark.parametrize("name", RANDOM)
def test_equal_images_are_distorted_differently(name, crop, generator):
    first, second = distort(crop.repeat(2, 1, 1, 1), name, 5, generator)
    assert not torch.equal(first, second)


@every
def test_never_touches_the_global_random_state(name, crops, generator):
    before = torch.get_rng_state()
    distort(crops, name, LEVELS, generator)
    distort(crops, name, LEVELS)
    assert torch.equal(torch.get_rng_state(), before)


@every
def test_a_higher_level_lies_further_away(name, crop, generator):
    images = crop.repeat(5, 1, 1, 1)
    if name in RANDOM:
        images = images.repeat(16, 1, 1, 1)
    levels = LEVELS.repeat(len(images) // 5)
    error = (distort(images, name, levels, generator) - images).square().mean((1, 2, 3))
    distances = [float(error[levels == level].mean()) for level in range(1, 6)]
    assert (distances == sorted(distances)) == (name not in UNORDERED), distances


@every
def test_no_gradient_flows(name, crops):
    assert not distort(crops.requires_grad_(), name, LEVELS).requires_grad


@every
def test_an_empty_batch_stays_empty(name, crops):
    assert distort(crops[:0], name, 3).shape == (0, 3, 80, 64)


@every
def test_refuses_wrong_images_with_a_readable_error(name):
    for images, wanted in (
        (torch.zeros(3, 64, 64), "images (N, 3, H, W), got ("),
        (torch.zeros(2, 1, 64, 64), "images (N, 3, H, W), got ("),
        (torch.zeros(2, 2, 3, 64, 64), "images (N, 3, H, W), got ("),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "floating"),
        (torch.zeros(2, 3, 31, 64), "at least 32"),
        (torch.full((2, 3, 64, 64), 255.0), "[0, 1]"),
        (torch.full((1, 3, 64, 64), float("nan")), "[0, 1]"),
    ):
        with pytest.raises(InputError) as error:
            distort(images, name, 1)
        assert wanted in str(error.value)
        assert "got" in str(error.value)
