"""Where crops lie in an image, and what fills them where the image is smaller."""

from collections.abc import Iterable

import numpy as np
import pyarrow
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

_MARGIN = 4  # source pixels on either side that the bicubic kernel sees at half scale


def half_scale(image: Image.Image) -> Image.Image:
    """Return the image at (W // 2, H // 2), bicubic: the second scale of every feature (ARNIQA, section 3.3).

    PyTorch's antialiased bicubic kernel on bytes: seven times as fast as Pillow's; about one value in a thousand
    differs from Pillow's, by one of 255 levels.
    """
    return Image.fromarray(_half_region(image, (0, 0, *_half_size(image)))[..., :3].copy())


def with_short_side(image: Image.Image, side: int | None) -> Image.Image:
    """Return the image resized to a short side in pixels, bicubic, the long one rounded down; None: as it is."""
    if side is None:
        return image
    short = min(image.size)
    return image.resize((image.width * side // short, image.height * side // short), Image.Resampling.BICUBIC)


def random_crops(
    image: Image.Image,
    size: int,
    generator: Generator,
    padding: str = "zeros",
    half_scale: str = "independent",
    out: Tensor | None = None,
) -> Tensor:
    """Cut one random crop out of an image at full scale, and one at half scale.

    Of the half-scale image only the crop is computed, bit for bit as if the whole had been. An image smaller than the
    crop lies at a random place inside it.

    Args:
        image: RGB.
        size: side S of the square crops, in pixels.
        generator: draws the places; lives on the CPU.
        padding: what surrounds a smaller image: zeros as in the paper, or its own reflection.
        half_scale: the second crop's place is "independent" of the first one's, as in the paper; or "aligned": its
            centre is where the first has it, as far as the crop then stays inside the image; or there is "none".
        out: where to write them, as they are returned; None: a new tensor.

    Returns:
        (scale 1 or 2, 3, S, S) uint8.

    """
    crops = torch.empty(1 if half_scale == "none" else 2, 3, size, size, dtype=torch.uint8) if out is None else out
    left = top = 0
    for crop, half, (width, height) in zip(crops, (False, True), (image.size, _half_size(image)), strict=False):
        if half and half_scale == "aligned":
            left, top = _halfway(left, size, image.width, width), _halfway(top, size, image.height, height)
        else:
            left, top = _offset(width - size, generator), _offset(height - size, generator)
        _cut(crop, image, left, top, half=half, padding=padding)
    return crops


def fixed_crops(scales: Iterable[Image.Image], size: int, count: int, padding: str = "zeros") -> Tensor:
    """Cut the centre crop (count 1), or the centre and the four corners (count 5), out of each scale.

    The centre crop starts at (W // 2 - S // 2, H // 2 - S // 2). Smaller images are padded as in `random_crops`.

    Returns:
        (scale, crop, 3, S, S) uint8.

    Raises:
        ValueError: count is neither 1 nor 5.

    """
    if count not in (1, 5):
        raise ValueError(f"wanted 1 crop (centre) or 5 (centre and corners), got {count}")
    scales = tuple(scales)
    crops = torch.empty(len(scales), count, 3, size, size, dtype=torch.uint8)
    for image, row in zip(scales, crops, strict=True):
        for crop, (left, top) in zip(row, crop_places(*image.size, size), strict=False):
            _cut(crop, image, left, top, half=False, padding=padding)
    return crops


def tensor_crops(images: Tensor, size: int, count: int) -> Tensor:
    """Cut the crops that `fixed_crops` cuts out of images (N, 3, H, W) of any type, with zeros around smaller ones.

    Returns:
        (N, crop, 3, S, S), differentiable.

    """
    height, width = images.shape[2:]
    crops = []
    for left, top in crop_places(width, height, size)[:count]:
        part = images[:, :, max(top, 0) : top + size, max(left, 0) : left + size]
        before, above = max(-left, 0), max(-top, 0)
        after, below = size - before - part.shape[3], size - above - part.shape[2]
        crops.append(F.pad(part, (before, after, above, below)))
    return torch.stack(crops, dim=1)


def tensor_half_scale(images: Tensor, mode: str) -> Tensor:
    """Return float images (N, 3, H, W) in [0, 1] at half scale (N, 3, H // 2, W // 2), antialiased, differentiable.

    Args:
        images: of one size.
        mode: "bicubic" as `half_scale`, but not rounded to bytes; or "bilinear".

    """
    height, width = (max(side // 2, 1) for side in images.shape[2:])
    return _resized(images, height, width, mode)


def tensor_with_short_side(images: Tensor, side: int) -> Tensor:
    """Return float images (N, 3, H, W) resized as `with_short_side` does, but not rounded to bytes."""
    short = min(images.shape[2:])
    height, width = (length * side // short for length in images.shape[2:])
    return _resized(images, height, width, "bicubic")


def _resized(images: Tensor, height: int, width: int, mode: str) -> Tensor:
    resized = F.interpolate(images, size=(height, width), mode=mode, antialias=True)
    return resized.clamp(0, 1) if mode == "bicubic" else resized  # whose kernel overshoots


def crop_places(width: int, height: int, size: int) -> list[tuple[int, int]]:
    """Return (left, top) of the centre crop and of the corners' of an image; negative where it is smaller."""
    right, bottom = width - size, height - size
    centre = (width // 2 - size // 2, height // 2 - size // 2)
    return [centre, (0, 0), (right, 0), (0, bottom), (right, bottom)]


def _offset(room: int, generator: Generator) -> int:
    """Draw a whole number between 0 and room, both included; room may be negative."""
    drawn = int(torch.randint(abs(room) + 1, (), generator=generator))
    return drawn if room >= 0 else -drawn


def _halfway(start: int, size: int, full: int, half: int) -> int:
    """Return where a crop of the half-scale axis starts whose centre is that of the crop from `start` at full scale."""
    centre = (start + size / 2) * half / full
    room = half - size
    return min(max(round(centre - size / 2), min(room, 0)), max(room, 0))


def _cut(crop: Tensor, image: Image.Image, left: int, top: int, *, half: bool, padding: str) -> None:
    """Fill a square (3, S, S) from what lies at (left, top) of the image, or of its half-scale version."""
    size = crop.shape[2]
    width, height = _half_size(image) if half else image.size
    box = (max(left, 0), max(top, 0), min(left + size, width), min(top + size, height))
    pixels = (_half_region if half else _region)(image, box)
    inside = crop.numpy().transpose(1, 2, 0)  # NumPy copies what lies apart twice as fast as PyTorch
    if pixels.shape[:2] != inside.shape[:2]:
        if padding == "reflect":
            rows, columns = (_reflected(start, size, length) for start, length in ((top, height), (left, width)))
            pixels = pixels[rows - box[1]][:, columns - box[0]]
        else:
            inside[:] = 0
            inside = inside[box[1] - top : box[3] - top, box[0] - left : box[2] - left]
    inside[:] = pixels[..., :3]


def _reflected(start: int, size: int, length: int) -> NDArray[np.int64]:
    """Return the size indices from start on, reflected at both ends of an axis (NumPy's mode "reflect")."""
    period = max(2 * (length - 1), 1)
    indices = np.arange(start, start + size) % period
    return np.minimum(indices, period - indices)


def _half_size(image: Image.Image) -> tuple[int, int]:
    return max(image.width // 2, 1), max(image.height // 2, 1)


def _half_region(image: Image.Image, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Compute the part of the half-scale image in a box (left, top, right, bottom) of it: as `_region`."""
    (left, right, columns, x), (top, bottom, rows, y) = (
        _source(*span) for span in ((box[0], box[2], image.width), (box[1], box[3], image.height))
    )
    # The new axis by PyTorch, not by NumPy: with a stride of 0 there, the kernel rearranges all pixels first.
    pixels = torch.from_numpy(_region(image, (left, top, right, bottom)))[None].permute(0, 3, 1, 2)
    halved = F.interpolate(pixels, size=(rows, columns), mode="bicubic", antialias=True)
    return halved.permute(0, 2, 3, 1).numpy()[0, y : y + box[3] - box[1], x : x + box[2] - box[0]]


def _region(image: Image.Image, box: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the part of an RGB image in a box as (H, W, 3 or 4); what a fourth channel holds means nothing.

    Most images lie in one piece, four bytes a pixel, and are not copied: what is returned is a view of the image, to be
    read at once. Of larger ones (16 MB) the part is copied.
    """
    left, top, right, bottom = box
    try:
        pixels = pyarrow.array(image).values
    except ValueError:  # several pieces
        return np.array(image.crop(box))
    return torch.from_dlpack(pixels).numpy().reshape(image.height, image.width, 4)[top:bottom, left:right]


def _source(first: int, last: int, length: int) -> tuple[int, int, int, int]:
    """Return what to halve along one axis to get first to last: start, end, halved length, and where first then is.

    An odd length is not halved by exactly 2, so that each pixel has a kernel of its own: there, the whole axis.
    """
    if length % 2:
        return 0, length, max(length // 2, 1), first
    start, end = max(2 * first - _MARGIN, 0), min(2 * last + _MARGIN, length)
    return start, end, (end - start) // 2, first - start // 2
