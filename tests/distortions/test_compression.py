"""Compression against libjpeg, OpenJPEG, the published system's outputs and a lifting oracle."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from torch import Tensor

from arniqa_pl.distortions import compression, wavelet
from arniqa_pl.distortions.compression import CODECS, jpeg, jpeg2000
from arniqa_pl.distortions.jpeg import _integer_transform, _to_rgb, quantisation_tables
from arniqa_pl.distortions.jpeg2000 import (
    _choose_passes,
    _classify,
    _entropy,
    _layout,
    code_jpeg2000,
    packet_budget,
    resolutions,
)
from arniqa_pl.errors import InputError

PHOTOS = tuple(sorted((Path(compression.__file__).parents[1] / "data" / "photos").glob("*.jpg")))
GOLDEN = Path(__file__).with_name("golden_compression.npz")  # outputs of the published system
LEVELS = {"jpeg": (43, 36, 24, 7, 4), "jpeg2000": (16, 32, 45, 120, 170)}
CODERS: dict[str, Callable[..., Tensor]] = {"jpeg": jpeg, "jpeg2000": jpeg2000}


def to_bytes(images: Tensor) -> np.ndarray:
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def to_images(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255


def psnr(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """PSNR of each image of two batches (N, H, W, 3) of bytes, 99 dB where they are equal."""
    error = ((one.astype(np.float64) - other.astype(np.float64)) ** 2).mean((1, 2, 3))
    return np.where(error == 0, 99.0, 10 * np.log10(255**2 / np.maximum(error, 1e-12)))


@functools.cache
def crops(height: int, width: int, photos: tuple[Path, ...] = PHOTOS) -> np.ndarray:
    """One crop (H, W, 3) of bytes from the middle of every demo photograph."""
    found = []
    for path in photos:
        with Image.open(path) as photo:
            left, top = (photo.width - width) // 2, (photo.height - height) // 2
            found.append(np.asarray(photo.convert("RGB").crop((left, top, left + width, top + height))))
    return np.stack(found)


def noise(n: int, height: int, width: int) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def pillow(pixels: np.ndarray, name: str, value: float) -> tuple[np.ndarray, list[int]]:
    """What Pillow decodes to, and the bytes of its files."""
    settings = {"format": "JPEG", "quality": value}
    if name == "jpeg2000":
        depth = min(8, int(math.log2(min(pixels.shape[1:3]))) + 1)
        settings = {"format": "JPEG2000", "quality_mode": "rates", "quality_layers": [value]}
        settings |= {"num_resolutions": depth, "progression": "LRCP"}
    decoded, sizes = [], []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(image).save(file, **settings)
        sizes.append(len(file.getvalue()))
        decoded.append(np.asarray(Image.open(file).convert("RGB")))
    return np.stack(decoded), sizes


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as data:
        return {key: data[key][None] for key in data.files}


@pytest.mark.parametrize("level", range(1, 6))
@pytest.mark.parametrize("name", CODERS)
def test_exact_codec_gives_the_published_bytes(golden: dict[str, np.ndarray], name: str, level: int) -> None:
    images = to_images(golden["input"])
    out = to_bytes(CODERS[name](images, [LEVELS[name][level - 1]], codec="exact"))
    assert psnr(out, golden[f"{name}_{level}"]) >= 45


@pytest.mark.parametrize("level", range(1, 6))
def test_tensor_jpeg_gives_the_published_bytes(golden: dict[str, np.ndarray], level: int) -> None:
    out = to_bytes(jpeg(to_images(golden["input"]), [LEVELS["jpeg"][level - 1]], codec="tensor"))
    assert psnr(out, golden[f"jpeg_{level}"]) >= 70


@pytest.mark.parametrize("level", range(1, 6))
def test_tensor_jpeg2000_is_close_to_the_published(golden: dict[str, np.ndarray], level: int) -> None:
    original, published = golden["input"], golden[f"jpeg2000_{level}"]
    out = to_bytes(jpeg2000(to_images(original), [LEVELS["jpeg2000"][level - 1]], codec="tensor"))
    assert abs(psnr(out, original) - psnr(published, original)) <= 0.7
    assert psnr(out, published) - psnr(published, original) >= 3


@pytest.mark.parametrize("size", [(224, 224), (97, 130), (33, 47), (34, 48), (48, 34)])
@pytest.mark.parametrize("quality", [1, *LEVELS["jpeg"], 50, 75, 95, 100])
def test_tensor_jpeg_is_libjpeg(quality: int, size: tuple[int, int]) -> None:
    pixels = crops(*size)
    out = to_bytes(jpeg(to_images(pixels), [quality] * len(pixels), codec="tensor"))
    assert psnr(out, pillow(pixels, "jpeg", quality)[0]).min() >= 70


@pytest.mark.parametrize("size", [(128, 128), (224, 161), (131, 257)])
@pytest.mark.parametrize("ratio", LEVELS["jpeg2000"])
def test_tensor_jpeg2000_is_close_to_openjpeg(ratio: int, size: tuple[int, int]) -> None:
    pixels = crops(*size)
    reference, _ = pillow(pixels, "jpeg2000", ratio)
    out = to_bytes(jpeg2000(to_images(pixels), [ratio] * len(pixels), codec="tensor"))
    loss = psnr(reference, pixels)
    assert abs((psnr(out, pixels) - loss).mean()) <= 0.4
    assert (psnr(out, reference) - loss).mean() >= 4


@pytest.mark.parametrize("size", [(96, 96), (64, 80)])
@pytest.mark.parametrize("ratio", LEVELS["jpeg2000"][:3])
def test_tensor_jpeg2000_is_close_to_openjpeg_on_small_images(ratio: int, size: tuple[int, int]) -> None:
    pixels = crops(*size)
    reference, _ = pillow(pixels, "jpeg2000", ratio)
    out = to_bytes(jpeg2000(to_images(pixels), [ratio] * len(pixels), codec="tensor"))
    loss = psnr(reference, pixels)
    assert abs((psnr(out, pixels) - loss).mean()) <= 1
    assert (psnr(out, reference) - loss).mean() >= 2


@pytest.mark.parametrize("ratio", [1, *LEVELS["jpeg2000"]])
def test_estimated_bytes_are_those_of_openjpeg(ratio: int) -> None:
    """At ratio 1 nothing is cut and the estimate is free; at the others it also has to fill the budget."""
    pixels = crops(160, 224)
    images = to_images(pixels)
    bits = code_jpeg2000(images, torch.full((len(images),), float(ratio)), torch.empty_like(images))
    assert (bits <= packet_budget(torch.tensor([float(ratio)]), 160, 224)).all()
    packets = 3 * resolutions(160, 224)
    share = (bits.numpy() / 8 + 192 + 2 * packets) / np.array(pillow(pixels, "jpeg2000", ratio)[1])
    assert abs(share.mean() - 1) <= 0.05
    assert 1 / 1.15 <= share.min() <= share.max() <= 1.15


def test_resolutions_are_as_many_as_a_side_can_be_halved_and_eight_at_most() -> None:
    sides = (32, 63, 64, 127, 128, 255, 256, 1024)
    assert [resolutions(side, 2000) for side in sides] == [resolutions(2000, side) for side in sides]
    assert [resolutions(side, 2000) for side in sides] == [6, 6, 7, 7, 8, 8, 8, 8]


def test_jpeg2000_at_ratio_1_is_lossless() -> None:
    images = to_images(crops(97, 130, PHOTOS[:4]))
    assert torch.equal(to_images(to_bytes(jpeg2000(images, [1] * 4, codec="tensor"))), images)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", CODERS)
def test_mixed_batch_is_what_the_images_give_one_by_one(name: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = to_images(crops(130, 97, PHOTOS[:10]))
    values = torch.tensor(LEVELS[name] * 2)
    before = images.clone()
    whole = CODERS[name](images, values, codec=codec)
    single = [CODERS[name](images[i : i + 1], values[i : i + 1], codec=codec) for i in range(10)]
    assert torch.equal(whole, torch.cat(single))
    monkeypatch.setattr(compression, "_CHUNK", 3 * 130 * 97 * 4)
    assert torch.equal(whole, CODERS[name](images, values, codec=codec))
    assert torch.equal(images, before)
    assert whole.shape == images.shape
    assert whole.dtype == torch.float32
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("name", CODERS)
def test_auto_is_tensor(name: str) -> None:
    images = to_images(crops(97, 130, PHOTOS[:5]))
    auto = CODERS[name](images, LEVELS[name])
    assert torch.equal(auto, CODERS[name](images, LEVELS[name], codec="tensor"))


@pytest.mark.parametrize("name", CODERS)
def test_memory_layout_does_not_matter(name: str) -> None:
    images = to_images(crops(97, 130, PHOTOS[:5]))
    strided = images.contiguous(memory_format=torch.channels_last)[:, :, 1:, 3:]
    assert torch.equal(CODERS[name](strided, LEVELS[name]), CODERS[name](strided.contiguous(), LEVELS[name]))


@pytest.mark.parametrize("size", [(128, 128), (161, 224)])
@pytest.mark.parametrize("grey", [0, 127.9, 200, 255])
@pytest.mark.parametrize("name", CODERS)
def test_flat_images(name: str, grey: float, size: tuple[int, int]) -> None:
    """JPEG may land beside a grey, where libjpeg lands too; JPEG 2000 has its one coefficient to the bit."""
    out = to_bytes(CODERS[name](torch.full((5, 3, *size), grey / 255), LEVELS[name], codec="tensor"))
    expected = np.full_like(out, int(grey))
    if name == "jpeg":
        coded = [pillow(expected[i : i + 1], name, quality)[0] for i, quality in enumerate(LEVELS[name])]
        expected = np.concatenate(coded)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("size", [(32, 32), (64, 64), (97, 130)])
@pytest.mark.parametrize("grey", [0, 127, 200, 255])
def test_flat_images_that_leave_jpeg2000_no_bytes(grey: int, size: tuple[int, int]) -> None:
    """The file's own headers exceed the ratio; what is left of the picture is one colour, roughly right."""
    out = to_bytes(jpeg2000(torch.full((5, 3, *size), grey / 255), LEVELS["jpeg2000"], codec="tensor"))
    assert abs(out.astype(int) - grey).max() <= 32
    assert (out == out[:, :1, :1, :1]).all()


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (131, 64)])
@pytest.mark.parametrize("name", CODERS)
def test_extreme_images_stay_in_range(name: str, size: tuple[int, int]) -> None:
    images = (noise(5, *size) > 0.5).float()
    out = CODERS[name](images, LEVELS[name], codec="tensor")
    assert torch.isfinite(out).all()
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(out, to_images(to_bytes(out)))


@pytest.mark.parametrize("codec", ["tensor", "exact"])
@pytest.mark.parametrize("name", CODERS)
def test_images_are_cut_to_bytes_not_rounded(name: str, codec: str) -> None:
    pixels = crops(64, 64, PHOTOS[:2])
    nearly_next = to_images(pixels) + 0.9 / 255
    fine = CODERS[name](nearly_next.clamp(max=1), LEVELS[name][:2], codec=codec)
    assert torch.equal(fine, CODERS[name](to_images(pixels), LEVELS[name][:2], codec=codec))


@pytest.mark.parametrize("name", CODERS)
def test_unknown_codec_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="Wanted codec to be one of auto, tensor, exact, got 'webp'"):
        CODERS[name](noise(1, 32, 32), [24], codec="webp")


def test_quantisation_tables_are_those_in_libjpegs_files() -> None:
    found = quantisation_tables(torch.arange(1, 101))
    for quality, tables in enumerate(found.tolist(), start=1):
        file = io.BytesIO()
        Image.new("RGB", (8, 8)).save(file, format="JPEG", quality=quality)
        with Image.open(file) as image:
            assert isinstance(image, JpegImageFile)
            assert dict(enumerate(tables)) == image.quantization


def test_colours_come_back_by_libjpegs_whole_numbers() -> None:
    """At every pair of chroma values, with the weights of JFIF in units of 2^-16 and rounding by a shift."""
    blue, red = np.mgrid[-128:128, -128:128]
    weight = {each: round(each * 2**16) for each in (1.402, 0.34414, 0.71414, 1.772)}
    shares = (weight[1.402] * red, -weight[0.34414] * blue - weight[0.71414] * red, weight[1.772] * blue)
    expected = np.stack([(128 + ((share + 2**15) >> 16)).clip(0, 255) for share in shares])
    out = torch.empty(1, 3, 256, 256)
    _to_rgb(torch.zeros(1, 256, 256), torch.from_numpy(np.stack([blue, red])[None]).float(), out)
    np.testing.assert_array_equal((out[0] * 255).round().numpy(), expected)


def test_integer_transform_is_the_cosine_transform() -> None:
    frequency, place = np.arange(8)[:, None], np.arange(8)
    cosine = np.cos((2 * place + 1) * frequency * np.pi / 16) * np.where(frequency == 0, 1, np.sqrt(2))
    transform = _integer_transform().numpy()
    np.testing.assert_array_equal(transform, transform.round())
    np.testing.assert_allclose(transform, 2**13 * cosine, atol=2)


def lift(signal: np.ndarray) -> np.ndarray:
    """T.800 F.4.8.1 for one line, sample by sample: low half, then high half."""
    n = len(signal)

    def mirrored(i: int) -> int:
        return abs(i) if abs(i) < n else 2 * (n - 1) - abs(i)

    y = signal.astype(np.int64).copy()
    for i in range(1, n, 2):
        y[i] -= (y[mirrored(i - 1)] + y[mirrored(i + 1)]) // 2
    for i in range(0, n, 2):
        y[i] += (y[mirrored(i - 1)] + y[mirrored(i + 1)] + 2) // 4
    return np.concatenate((y[0::2], y[1::2]))


@pytest.mark.parametrize(
    ("height", "width", "levels"), [(8, 8, 3), (33, 70, 5), (97, 32, 5), (131, 130, 7), (35, 66, 1)]
)
def test_wavelet_against_the_standard(height: int, width: int, levels: int) -> None:
    images = (noise(2, height, width) * 256).to(torch.int16) - 128
    expected = images.numpy().astype(np.int64)
    for level in range(levels):
        rows, columns = -(-height // 2**level), -(-width // 2**level)
        corner = np.apply_along_axis(lift, -2, expected[..., :rows, :columns])
        expected[..., :rows, :columns] = np.apply_along_axis(lift, -1, corner)
    coefficients = wavelet.forward(images, levels)
    np.testing.assert_array_equal(coefficients.numpy(), expected)
    assert torch.equal(wavelet.inverse(coefficients, levels), images)
    assert torch.equal(wavelet.forward(images[0, 0], levels), coefficients[0, 0])
    assert torch.equal(wavelet.inverse(coefficients[0, 0], levels), images[0, 0])


@pytest.mark.parametrize(("height", "width"), [(33, 70), (131, 64)])
def test_bands_share_the_picture_among_them(height: int, width: int) -> None:
    owners = np.zeros((height, width), dtype=int)
    for band in wavelet.bands(height, width, 4):
        owners[band.top : band.bottom, band.left : band.right] += 1
    assert (owners == 1).all()


def test_band_norms_are_those_of_what_a_coefficient_paints() -> None:
    amplitude = 8192 / 8
    for band in wavelet.bands(256, 256, 4):
        coefficients = torch.zeros(256, 256, dtype=torch.int16)
        coefficients[(band.top + band.bottom) // 2, (band.left + band.right) // 2] = int(amplitude)
        painted = wavelet.inverse(coefficients, 4).float()
        assert painted.norm() / amplitude == pytest.approx(band.norm, rel=0.01)


def test_coefficients_are_counted_by_their_neighbourhood() -> None:
    """A plain walk over each block of each channel: widths of the coefficient and of its widest neighbour."""
    coefficients = ((noise(2, 70, 140) - 0.5) ** 5 * 40000).to(torch.int16)
    widths = np.vectorize(lambda value: int(value).bit_length())(coefficients.numpy())
    bands = wavelet.bands(70, 140, 6)
    starts = [
        (band, y, x)
        for band in bands
        for y in range(band.top, band.bottom, 64)
        for x in range(band.left, band.right, 64)
    ]
    expected = np.empty(widths.shape, dtype=int)
    for (image, channel, number), (band, top, left) in (
        ((i, c, k), start) for i in range(2) for c in range(3) for k, start in enumerate(starts)
    ):
        bottom, right = min(top + 64, band.bottom), min(left + 64, band.right)
        block = np.pad(widths[image, channel, top:bottom, left:right], 1)
        around = np.zeros_like(block)
        inside = [(y, x) for y in range(1, bottom - top + 1) for x in range(1, right - left + 1)]
        for y, x in inside:
            around[y, x] = block[y - 1 : y + 2, x - 1 : x + 2].max()
        for y, x in inside:
            scanned = [(y - 1, x), (y - 1, x - 1), (y, x - 1), (y + 1, x - 1)]
            in_this_pass = [block[place] + 1 for place in scanned if around[place] > block[place]]
            counter = 12 * block[y, x] + max(around[y, x], *in_this_pass, 0)
            expected[image, channel, top + y - 1, left + x - 1] = (
                (image * 3 + channel) * len(starts) + number
            ) * 144 + counter
    found = _classify(coefficients, _layout(70, 140, torch.device("cpu")))
    np.testing.assert_array_equal(found.view(2, 3, 70, 140).numpy(), expected)


def test_an_ideal_coder_spends_minus_the_logarithm_of_each_share() -> None:
    hits, visits = torch.tensor([[0.0, 0, 1, 1, 3], [0, 1, 1, 2, 7]])
    expected = [0, 0, 0, 2, 3 * math.log2(7 / 3) + 4 * math.log2(7 / 4)]
    torch.testing.assert_close(_entropy(hits, visits), torch.tensor(expected))


@pytest.mark.parametrize(("budget", "passes"), [(0, [1, 0]), (15, [1, 0]), (20, [1, 1])])
def test_a_budget_goes_to_the_steepest_block_first_and_always_to_that(budget: int, passes: list[int]) -> None:
    bits, gain = torch.tensor([[[0.0, 10], [0, 10]]]), torch.tensor([[[0.0, 100], [0, 60]]])
    assert _choose_passes(bits, gain, torch.tensor([float(budget)])).flatten().tolist() == passes


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CODERS)
def test_cuda_agrees_and_does_not_synchronise(name: str) -> None:
    images = to_images(crops(224, 161, PHOTOS[:5]))
    on_device = images.cuda()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = CODERS[name](on_device, LEVELS[name], codec="tensor")
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert psnr(to_bytes(out.cpu()), to_bytes(CODERS[name](images, LEVELS[name]))).min() >= 50
