import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import imagecodecs
import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

from arniqa_pl.errors import InputError

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# What decoders let through when a file is damaged: found by mutating files of every format.
DECODING_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
_SIXTEEN_BITS_AS_I = ("PNG", "PPM")  # formats whose 16-bit grey Pillow opens as 32-bit integers
_PNG_START = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s", 13, b"IHDR")
_EIGHT_BIT_RGB = bytes((8, 2, 0, 0, 0))  # the end of a PNG's header: bits, colour type, no interlacing
_HARMLESS_TEXTS = (b"Comment\0", b"Software\0", b"date:")  # others may tell Pillow how to turn the image
_PLAIN_CHUNKS = frozenset({b"IHDR", b"IDAT", b"IEND", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"tIME", b"tEXt"})


def read_image(source: Path | str | BinaryIO, name: str | None = None) -> Image.Image:
    """Decode an image completely, upright and in RGB, whatever it was stored as: see `to_rgb`.

    The content decides about the format, not the suffix. Of an animation the first frame is taken; colour profiles
    are not applied. Images of more than 179 million pixels are refused as decompression bombs (Pillow's limit).

    Pillow decodes; but a PNG of 8-bit RGB and nothing that turns or masks it, which is what pristine photographs and
    the images of most databases are stored as, libpng by way of imagecodecs: the same pixels in three quarters of the
    time.

    Args:
        source: a file, or what is in one, seekable.
        name: how an error calls what is not read from a named file.

    Raises:
        InputError: the file is missing, truncated, too large or no image; the message names it.

    """
    try:
        if (content := _plain_png(source)) is not None:
            return Image.fromarray(imagecodecs.png_decode(content))
        with Image.open(source) as image:
            if image.format == "EPS":  # for whose pixels Pillow would start Ghostscript
                raise InputError("wanted pixels, found PostScript, which is a program")
            return to_rgb(image)
    except DECODING_ERRORS as error:
        raise InputError(f"Wanted an image, could not decode {name or source}: {error}") from error


def _plain_png(source: Path | str | BinaryIO) -> bytes | None:
    """Return what is in a PNG whose pixels are all there is to it; None if it is anything else, or not whole."""
    with Path(source).open("rb") if isinstance(source, str | Path) else nullcontext(source) as file:
        header = file.read(29)
        file.seek(0)
        if not (header.startswith(_PNG_START) and header.endswith(_EIGHT_BIT_RGB)):
            return None
        content = file.read()
    if math.prod(struct.unpack(">II", header[16:24])) > (Image.MAX_IMAGE_PIXELS or 0):
        return None
    kind, place = b"", 8
    while place + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        end = place + 8 + length
        if kind not in _PLAIN_CHUNKS:
            return None
        if kind != b"IDAT":  # of which libpng looks at the check sum itself
            told = content[place + 8 : end]
            if zlib.crc32(kind + told).to_bytes(4) != content[end : end + 4]:
                return None
            if kind == b"tEXt" and not told.startswith(_HARMLESS_TEXTS):
                return None
        place = end + 4
    return content if kind == b"IEND" and place == len(content) else None


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an image upright (EXIF orientation applied) in RGB, 8 bits a channel; itself, if it is that already.

    Transparent places show white. Of 16-bit channels the upper half is kept.

    Raises:
        InputError: the pixels are floats or 32-bit integers, whose black and white nobody knows.

    """
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # each copy that is not needed costs a loader 2 %
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in _SIXTEEN_BITS_AS_I):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))  # Pillow would clip at 255
    if image.mode in ("I", "F"):
        raise InputError(f"wanted 8 or 16 bits a channel, got 32 (mode {image.mode}), whose range is not known")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image.load()
    return image if image.mode == "RGB" else image.convert("RGB")


def list_images(folder: Path) -> list[Path]:
    """Return the image files below a folder, relative to it, sorted: the same list on every machine.

    A folder that is not there has none. A link that leads nowhere is listed too: whoever reads it says so. One to a
    pipe or a device is not: nobody could.
    """
    return list(walk_images(folder)) if folder.is_dir() else []


def walk_images(folder: Path, below: Path = Path()) -> Iterator[Path]:
    """Yield what `list_images` lists, and remember no more than a folder's own files.

    Raises:
        InputError: a folder cannot be listed.

    """
    try:
        entries = sorted(os.scandir(folder / below), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(
            f"Wanted the images in the folder {folder / below}, could not list it: {error.strerror}. Make it readable, "
            "or move it elsewhere."
        ) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk_images(folder, below / entry.name)
        elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and _is_file_or_lost(entry):
            yield below / entry.name


def _is_file_or_lost(entry: os.DirEntry[str]) -> bool:
    if not entry.is_symlink():
        return entry.is_file()
    path = Path(entry.path)
    return path.is_file() or not path.exists()


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_image(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as eight-bit RGB, rounded to the nearest value."""
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images (…, 3, H, W) as float32 in [0, 1]."""
    return images / 255


def normalize(images: Tensor) -> Tensor:
    """Shift and scale images (…, 3, H, W) in [0, 1] by ImageNet's channel statistics, as the encoders expect."""
    return (images - _channels(IMAGENET_MEAN, images)) / _channels(IMAGENET_STD, images)


def denormalize(images: Tensor) -> Tensor:
    """Undo `normalize`: (…, 3, H, W) back to [0, 1]."""
    return images * _channels(IMAGENET_STD, images) + _channels(IMAGENET_MEAN, images)


def _channels(values: tuple[float, float, float], images: Tensor) -> Tensor:
    """Return a value for each channel (3, 1, 1), like the images and where they are: the CPU waits for no device."""
    return torch.tensor(values, dtype=images.dtype).view(3, 1, 1).to(images.device, non_blocking=True)
