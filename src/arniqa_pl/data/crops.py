"""Where crops lie in an image. Everything works on Pillow images, whose crop fills what lies outside with zeros."""

from collections.abc import Iterable

import torch
from PIL import Image
from torch import Generator, Tensor

from arniqa_pl.data.images import to_tensor


def half_scale(image: Image.Image) -> Image.Image:
    """Return the image at (W // 2, H // 2), bicubic: the second scale of every feature (ARNIQA, section 3.3)."""
    return image.resize((max(image.width // 2, 1), max(image.height // 2, 1)), Image.Resampling.BICUBIC)


def with_short_side(image: Image.Image, side: int | None) -> Image.Image:
    """Return the image resized to a short side in pixels, bicubic, the long one rounded down; None: as it is."""
    if side is None:
        return image
    short = min(image.size)
    return image.resize((image.width * side // short, image.height * side // short), Image.Resampling.BICUBIC)


def random_crops(scales: Iterable[Image.Image], size: int, generator: Generator) -> Tensor:
    """Cut one random crop out of each scale of an image, independently.

    An image smaller than the crop lies at a random place inside it, over zeros.

    Args:
        scales: the image at full and at half scale.
        size: side S of the square crops, in pixels.
        generator: draws the places; lives on the CPU.

    Returns:
        (scale, 3, S, S) uint8.

    """
    return torch.stack(
        [
            _cut(image, _offset(image.width - size, generator), _offset(image.height - size, generator), size)
            for image in scales
        ]
    )


def fixed_crops(scales: Iterable[Image.Image], size: int, count: int) -> Tensor:
    """Cut the centre crop (count 1), or the centre and the four corners (count 5), out of each scale.

    The centre crop starts at (W // 2 - S // 2, H // 2 - S // 2); smaller images are surrounded by zeros.

    Returns:
        (scale, crop, 3, S, S) uint8.

    Raises:
        ValueError: count is neither 1 nor 5.

    """
    if count not in (1, 5):
        raise ValueError(f"wanted 1 crop (centre) or 5 (centre and corners), got {count}")
    return torch.stack(
        [torch.stack([_cut(image, *place, size) for place in _places(image, size)[:count]]) for image in scales]
    )


def _places(image: Image.Image, size: int) -> list[tuple[int, int]]:
    right, bottom = image.width - size, image.height - size
    centre = (image.width // 2 - size // 2, image.height // 2 - size // 2)
    return [centre, (0, 0), (right, 0), (0, bottom), (right, bottom)]


def _offset(room: int, generator: Generator) -> int:
    """Draw a whole number between 0 and room, both included; room may be negative."""
    drawn = int(torch.randint(abs(room) + 1, (), generator=generator))
    return drawn if room >= 0 else -drawn


def _cut(image: Image.Image, left: int, top: int, size: int) -> Tensor:
    return to_tensor(image.crop((left, top, left + size, top + size)))
