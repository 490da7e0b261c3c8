"""The forms in which images are given to a scorer."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from arniqa_pl.data.images import read_image, to_image, to_rgb, to_tensor, to_unit
from arniqa_pl.errors import InputError

Given = Path | str | Image.Image | Tensor | NDArray[np.generic]
Images = Sequence[Given] | Given

_PASS_PIXELS = 2**22  # in one pass: a ResNet-50 keeps about 100 bytes for each


def as_list(images: Images) -> Iterable[Given]:
    """Return one image as a list of it; a sequence, a tensor (N, 3, H, W) or an array (N, H, W, 3) as it is."""
    if isinstance(images, str | Path | Image.Image) or (isinstance(images, Tensor | np.ndarray) and images.ndim == 3):
        return [images]
    return images


def given_pixels(image: Given) -> Tensor:
    """Return an image as (3, H, W) on the device it is on: floats in [0, 1] as they are, all others as uint8.

    Raises:
        InputError: it cannot be read, or has another shape, type or range.

    """
    if isinstance(image, Tensor):
        return _checked(image, tuple(image.shape))
    if isinstance(image, np.ndarray) and image.ndim == 3:
        return _checked(torch.as_tensor(image).permute(2, 0, 1), image.shape)
    return to_tensor(given_image(image))


def given_image(image: Given) -> Image.Image:
    """Return an image in RGB, 8 bits a channel; floats are rounded.

    Raises:
        InputError: it cannot be read, or has another shape, type or range.

    """
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if isinstance(image, Tensor | np.ndarray):
        pixels = given_pixels(image)
        return to_image(pixels if pixels.is_floating_point() else to_unit(pixels))
    raise InputError(f"Wanted a path, a Pillow image, a tensor (3, H, W) or an array (H, W, 3), got {image!r}.")


def passes(images: Sequence[Tensor]) -> Iterator[list[int]]:
    """Yield the numbers of images (3, H, W) that go through an encoder together: of one size, and not too many."""
    alike: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        alike.setdefault((image.shape, image.dtype), []).append(row)
    for (shape, _), rows in alike.items():
        count = max(_PASS_PIXELS // shape[1:].numel(), 1)
        yield from (rows[start : start + count] for start in range(0, len(rows), count))


def _checked(pixels: Tensor, shape: tuple[int, ...]) -> Tensor:
    if pixels.ndim != 3 or pixels.shape[0] != 3:
        raise InputError(f"Wanted a path, a Pillow image, a tensor (3, H, W) or an array (H, W, 3), got {shape}.")
    if pixels.is_floating_point():
        if not 0 <= float(pixels.min()) <= float(pixels.max()) <= 1:
            raise InputError(f"Wanted float images in [0, 1], got {float(pixels.min())} to {float(pixels.max())}.")
    elif pixels.dtype != torch.uint8:
        raise InputError(f"Wanted an image of bytes, or of floats in [0, 1], got {pixels.dtype}.")
    return pixels
