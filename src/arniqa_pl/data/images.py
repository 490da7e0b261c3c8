from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from arniqa_pl.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def read_image(path: Path | str) -> Image.Image:
    """Decode a file to an upright RGB image; transparency is laid over white.

    Raises:
        InputError: the file is missing, truncated or no image; the message names it.

    """
    try:
        with Image.open(path) as image:
            return to_rgb(image)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise InputError(f"Wanted an image, could not decode {path}: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the image upright (EXIF orientation applied) in RGB, over white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return image.convert("RGB")


def list_images(folder: Path) -> list[Path]:
    """Return the image files below a folder, relative to it, sorted: the same list on every machine."""
    return sorted(
        path.relative_to(folder)
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )


def to_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as (3, H, W) uint8."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def to_image(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as eight-bit RGB, rounded to the nearest value."""
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def to_unit(images: Tensor) -> Tensor:
    """Return uint8 images (…, 3, H, W) as float32 in [0, 1]."""
    return images.float().div_(255)


def normalize(images: Tensor) -> Tensor:
    """Shift and scale images (…, 3, H, W) in [0, 1] by ImageNet's channel statistics, as the encoders expect."""
    mean = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return (images - mean) / std


def denormalize(images: Tensor) -> Tensor:
    """Undo `normalize`: (…, 3, H, W) back to [0, 1]."""
    mean = images.new_tensor(IMAGENET_MEAN).view(3, 1, 1)
    std = images.new_tensor(IMAGENET_STD).view(3, 1, 1)
    return images * std + mean
