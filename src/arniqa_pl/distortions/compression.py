"""The compression distortions: JPEG and JPEG 2000, as tensors or through the reference libraries.

Which codec is used where:

- `"tensor"`: ours, the whole batch at once on the images' device, without a loop over images and without
  waiting for the device. JPEG gives libjpeg's bytes but for rare last-bit roundings. JPEG 2000 codes what
  OpenJPEG would code, with the bytes estimated instead of written.
- `"exact"`: libjpeg-turbo and OpenJPEG through Pillow, one image at a time on the CPU, over as many threads
  as torch uses (Pillow releases the interpreter lock). Images on another device travel to the CPU and back.
- `"auto"`: tensors everywhere, so that a run on the CPU and one on a GPU degrade alike.

Milliseconds per image, tensor and exact, batch of 32 photographs at all five levels, one thread of a busy
EPYC: JPEG 0.15 and 0.25 at 96×96, 0.8 and 0.8 at 224×224; JPEG 2000 0.4 and 2.8 at 96×96, 1.9 and 20 at
224×224.
"""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

from arniqa_pl.distortions.jpeg import code_jpeg
from arniqa_pl.distortions.jpeg2000 import code_jpeg2000, resolutions
from arniqa_pl.errors import InputError

CODECS = ("auto", "tensor", "exact")

# Values that the tensor codecs work on at once on the CPU, six 224×224 crops: larger temporaries leave the
# caches, and a call has a fixed price of about 2 ms (JPEG 2000) or 0.3 ms (JPEG), so that smaller ones do not
# pay.
_CHUNK = 1 << 20


def jpeg(
    images: Tensor, quality: Tensor | Sequence[float], generator: Generator | None = None, codec: str = "auto"
) -> Tensor:
    """Code as baseline JPEG, 4:2:0, and decode, as libjpeg does (ITU-T T.81, tables of Annex K).

    Args:
        images: `(N, 3, H, W)` RGB float32 in [0, 1], sides at least 32 px, any device; cut to bytes first.
            Stays as it is.
        quality: `(N,)` whole numbers 1..100, on the CPU.
        generator: unused, nothing is random.
        codec: one of `CODECS`, see the module.

    Returns:
        A new tensor of the same shape and device, multiples of 1/255.

    Raises:
        InputError: an unknown codec.

    """
    return _run(code_jpeg, _pillow_jpeg, images, quality, codec)


def jpeg2000(
    images: Tensor, ratio: Tensor | Sequence[float], generator: Generator | None = None, codec: str = "auto"
) -> Tensor:
    """Code as JPEG 2000 at a compression ratio and decode, as OpenJPEG does (ITU-T T.800).

    With Pillow's defaults, as the published system: reversible 5/3 wavelet, no colour transform, 8
    resolutions or as many as the shorter side allows, one quality layer.

    Args:
        images: `(N, 3, H, W)` RGB float32 in [0, 1], sides at least 32 px, any device; cut to bytes first.
            Stays as it is.
        ratio: `(N,)` numbers from 1 up, on the CPU: bytes of the raw image per byte of the file.
        generator: unused, nothing is random.
        codec: one of `CODECS`, see the module.

    Returns:
        A new tensor of the same shape and device, multiples of 1/255.

    Raises:
        InputError: an unknown codec.

    """
    return _run(code_jpeg2000, _pillow_jpeg2000, images, ratio, codec)


def _run(
    tensor_codec: Callable[[Tensor, Tensor, Tensor], object],
    exact_codec: Callable[[NDArray[np.uint8], float], NDArray[np.uint8]],
    images: Tensor,
    values: Tensor | Sequence[float],
    codec: str,
) -> Tensor:
    if codec not in CODECS:
        raise InputError(f"Wanted codec to be one of {', '.join(CODECS)}, got {codec!r}.")
    values = torch.as_tensor(values, dtype=torch.float32)
    if codec == "exact":
        return _one_by_one(exact_codec, images, values)
    out = torch.empty_like(images, memory_format=torch.contiguous_format)
    pieces = min(len(images), -(-images.numel() // _CHUNK)) if images.device.type == "cpu" else 1
    parts = (each.chunk(pieces) for each in (images, values, out))
    for part, value, target in zip(*parts, strict=True):
        tensor_codec(part, value, target)
    return out


def _one_by_one(
    code: Callable[[NDArray[np.uint8], float], NDArray[np.uint8]], images: Tensor, values: Tensor
) -> Tensor:
    pixels = (images * 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().contiguous().numpy()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        decoded = torch.from_numpy(np.stack(list(pool.map(code, pixels, values.tolist()))))
    return decoded.to(images.device).permute(0, 3, 1, 2).float().div_(255).contiguous()


def _pillow_jpeg(image: NDArray[np.uint8], quality: float) -> NDArray[np.uint8]:
    return _pillow(image, format="JPEG", quality=int(quality))


def _pillow_jpeg2000(image: NDArray[np.uint8], ratio: float) -> NDArray[np.uint8]:
    settings = {"quality_mode": "rates", "quality_layers": [ratio], "progression": "LRCP"}
    return _pillow(image, format="JPEG2000", num_resolutions=resolutions(*image.shape[:2]), **settings)


def _pillow(image: NDArray[np.uint8], **settings: Any) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, **settings)
    with Image.open(file) as decoded:
        return np.asarray(decoded.convert("RGB"))
