"""What a server takes from strangers: images of bounded size."""

import io
from pathlib import Path

from PIL import Image

from arniqa_pl.data.images import DECODING_ERRORS, read_image
from arniqa_pl.errors import InputError


class TooLargeError(InputError):
    """An image is refused for its size alone."""


def decode(content: bytes, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Decode an image file's content into RGB; its size in pixels is read before any of them is.

    Args:
        content: of an image file of any format that `read_image` takes.
        max_bytes: longest content.
        max_pixels: largest width × height.

    Raises:
        TooLargeError: one of the two is larger.
        InputError: it is no image, or a damaged one.

    """
    if len(content) > max_bytes:
        raise TooLargeError(f"Wanted an image of at most {max_bytes:,} bytes, got {len(content):,}.")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
    except Image.DecompressionBombError as error:
        raise TooLargeError(f"Wanted an image of at most {max_pixels:,} pixels: {error}") from error
    except DECODING_ERRORS as error:
        raise InputError(f"Wanted an image, could not decode {len(content):,} bytes as one.") from error
    if width * height > max_pixels:
        raise TooLargeError(f"Wanted an image of at most {max_pixels:,} pixels, got {width} × {height}.")
    return read_image(io.BytesIO(content), name=f"an image of {len(content):,} bytes")


def read_below(root: Path, path: str, *, max_bytes: int, max_pixels: int) -> Image.Image:
    """Decode an image file in a folder; no path, link or `..` leads out of it.

    Raises:
        TooLargeError: its bytes or its pixels are too many.
        InputError: there is no such file below the folder, or it is no image.

    """
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()) or not file.is_file():
        raise InputError(f"Wanted an image below {root}, found no {path} there.")
    if file.stat().st_size > max_bytes:
        raise TooLargeError(f"Wanted an image of at most {max_bytes:,} bytes, {path} has {file.stat().st_size:,}.")
    return decode(file.read_bytes(), max_bytes=max_bytes, max_pixels=max_pixels)
