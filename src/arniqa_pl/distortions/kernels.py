"""Filter kernels of the published distortions, and the correlations that apply them.

Every kernel is computed once, in float64 with NumPy, and kept as float32. `correlate` and `separable` give
each image its own kernel, so one call serves a batch in which every image has another level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_CHANNEL_BLOCK = 16
MOTION_ANGLES = 181  # whole degrees 0..180, both ends drawn, although they give the same kernel


@cache
def gaussian(sigma: float, side: int | None = None) -> Tensor:
    """Gaussian window `(side,)` of `sigma` px, summing to 1; the published side is `2·ceil(2·sigma) + 1`."""
    side = 2 * math.ceil(2 * sigma) + 1 if side is None else side
    offsets = np.arange(side) - side // 2
    weights = np.exp(-(offsets**2) / (2 * sigma**2))
    return torch.from_numpy(weights / weights.sum()).float()


@cache
def disk(radius: float) -> Tensor:
    """Disk of a whole `radius` of 1 px or more, `(2·radius + 1, 2·radius + 1)`, summing to 1.

    MATLAB's `fspecial('disk', radius)` weighs each pixel with the area of the disk inside it, by the integral
    of the circle between two half-chords. The published code differs in two places, and the kernel, with a
    few negative weights, follows it: the second half-chord is measured at `near - 0.5` instead of
    `far - 0.5`, and a half-chord counts as 0 for the whole grid as soon as one of its entries would be the
    root of a negative.
    """
    rim = int(radius)
    y, x = np.mgrid[-rim : rim + 1, -rim : rim + 1].astype(np.float64)
    near, far = np.minimum(abs(x), abs(y)), np.maximum(abs(x), abs(y))
    square = radius**2

    def half_chord(distance: np.ndarray) -> np.ndarray:
        rest = square - distance**2
        return np.zeros_like(rest) if (rest < 0).any() else np.sqrt(rest)

    first = np.where(square < (far + 0.5) ** 2 + (near - 0.5) ** 2, near - 0.5, half_chord(far + 0.5))
    second = np.where(square > (far - 0.5) ** 2 + (near + 0.5) ** 2, near + 0.5, half_chord(near - 0.5))
    start, end = np.arcsin(first / radius), np.arcsin(second / radius)
    segment = square * (0.5 * (end - start) + 0.25 * (np.sin(2 * end) - np.sin(2 * start)))
    area = segment - (far - 0.5) * (second - first) + (first - near + 0.5)

    inside = (far + 0.5) ** 2 + (near + 0.5) ** 2 < square
    cut = (square < (far + 0.5) ** 2 + (near + 0.5) ** 2) & (square > (far - 0.5) ** 2 + (near - 0.5) ** 2)
    cut |= (near == 0) & (far - 0.5 < radius) & (far + 0.5 >= radius)
    weights = area * cut + inside
    return torch.from_numpy(weights / weights.sum()).float()


@cache
def motion(length: float, angle: float) -> Tensor:
    """Antialiased line `(height, width)`, odd sides, of `length` px at `angle` degrees, summing to 1.

    MATLAB's `fspecial('motion', length, angle)`: each pixel weighs 1 minus its distance to the segment, at
    least 0. The angle counts counter-clockwise and 180 degrees apart is the same line.
    """
    length = max(1.0, length)
    half = (length - 1) / 2
    phi = math.radians(angle % 180)
    cosine, sine = math.cos(phi), math.sin(phi)
    sign = math.copysign(1.0, cosine)
    slack = length * np.finfo(np.float64).eps
    x = np.arange(abs(math.trunc(half * cosine + sign - slack)) + 1)[None, :] * sign
    y = np.arange(abs(math.trunc(half * sine + 1.0 - slack)) + 1)[:, None] * 1.0
    distance = y * cosine - x * sine
    beyond = (np.hypot(x, y) >= half) & (abs(distance) <= 1)
    overshoot = half - abs((x + distance * sine) / cosine)
    distance = np.where(beyond, np.hypot(distance, overshoot), distance)
    quarter = np.maximum(0.0, 1.0 + np.finfo(np.float64).eps - abs(distance))

    # the quarter covers one half of the line; the other half is its point reflection at the origin
    height, width = 2 * quarter.shape[0] - 1, 2 * quarter.shape[1] - 1
    weights = np.zeros((height, width))
    weights[: quarter.shape[0], : quarter.shape[1]] = quarter[::-1, ::-1]
    weights[quarter.shape[0] - 1 :, quarter.shape[1] - 1 :] = quarter
    weights /= weights.sum()
    return torch.from_numpy((weights[::-1] if cosine > 0 else weights).copy()).float()


@cache
def motion_square(length: float, angle: float) -> Tensor:
    """`motion` padded with zeros to a square."""
    kernel = motion(length, angle)
    return centred(kernel, max(kernel.shape))


@cache
def motion_bank(length: float, device: torch.device) -> Tensor:
    """The motion kernels of all whole angles `(181, side, side)` on `device`, in one common odd side.

    The angle is drawn on the device, so the kernel has to be picked there: reading the angle back would make
    the host wait. The banks of the five published lengths take 0.15 MB.
    """
    kernels = [motion(length, float(angle)) for angle in range(MOTION_ANGLES)]
    side = max(max(kernel.shape) for kernel in kernels)
    return torch.stack([centred(kernel, side) for kernel in kernels]).to(device, non_blocking=True)


def centred(kernels: Tensor, side: int) -> Tensor:
    """`kernels` with odd sides, padded with zeros to `side` px along the last two dimensions, or their only one."""
    margins = [(side - size) // 2 for size in reversed(kernels.shape[-2:])]
    return functional.pad(kernels, [margin for margin in margins for _ in range(2)])


def column(value: Tensor, images: Tensor) -> Tensor:
    """`value` `(N,)` on the CPU as `(N, 1, 1, 1)` of the dtype and device of `images`, without a wait."""
    return value.to(images.dtype).to(images.device, non_blocking=True)[:, None, None, None]


def per_sample(kernel: Callable[[float], Tensor], value: Tensor, device: torch.device) -> Tensor:
    """The kernel of each entry of `value` `(N,)`, which is on the CPU, all centred in one common side."""
    levels, places = torch.unique(value, return_inverse=True)
    different = [kernel(level) for level in levels.tolist()]
    side = max(each.shape[-1] for each in different)
    stacked = torch.stack([centred(each, side) for each in different])
    return stacked.to(device, non_blocking=True).index_select(0, places.to(device, non_blocking=True))


def correlate(images: Tensor, weights: Tensor) -> Tensor:
    """Correlate each image with its own kernel, borders replicated.

    Args:
        images: `(N, C, H, W)` float32.
        weights: `(N, height, width)`, odd sides, shared by the channels of an image.

    Returns:
        `(N, C, H, W)`.

    """
    n, channels, height, width = images.shape
    rows, columns = weights.shape[1] // 2, weights.shape[2] // 2
    padded = functional.pad(images, (columns, columns, rows, rows), mode="replicate")
    # one group per plane, and on the CPU 16 strips per plane where the height allows it: oneDNN's depthwise
    # path works on blocks of 16 channels and is up to 40 times faster on those than on (N, C) planes
    planes = n * channels
    strips = math.gcd(height, _CHANNEL_BLOCK) if images.device.type == "cpu" else 1
    strip = height // strips
    blocks = padded.unfold(2, strip + 2 * rows, strip).transpose(-1, -2)
    filters = weights.repeat_interleave(channels * strips, dim=0).unsqueeze(1)
    blocks = blocks.reshape(1, planes * strips, strip + 2 * rows, width + 2 * columns)
    return functional.conv2d(blocks, filters, groups=planes * strips).reshape(n, channels, height, width)


def separable(images: Tensor, weights: Tensor) -> Tensor:
    """Correlate each image along both axes with its own window, borders replicated.

    Args:
        images: `(N, C, H, W)` float32.
        weights: `(N, side)`, odd side.

    Returns:
        `(N, C, H, W)`.

    """
    across = correlate(images, weights[:, None, :])
    # the second pass runs along the rows of the transposed image, which is faster than a column filter
    return correlate(across.transpose(-1, -2), weights[:, None, :]).transpose(-1, -2)
