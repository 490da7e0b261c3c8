"""The noises: white in RGB, white in YCbCr, impulse and multiplicative."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from arniqa_pl.distortions.kernels import column


def white_noise(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Add normal noise of variance `value`. Draws `(N, 3, H, W)` normals."""
    return _noise(images, value, generator).add_(images)


def white_noise_color_component(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Add normal noise of variance `value` in YCbCr. Draws `(N, 3, H, W)` normals.

    The conversion is linear: the noise goes to RGB, with kornia's weights, instead of the image there and
    back.
    """
    luma, blue, red = _noise(images, value, generator).unbind(1)
    noisy = images + luma[:, None]
    noisy[:, 0].add_(red, alpha=1.403)
    noisy[:, 1].add_(red, alpha=-0.714).add_(blue, alpha=-0.344)
    noisy[:, 2].add_(blue, alpha=1.773)
    return noisy


def impulse_noise(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Set `int(value·3·H·W)` channel values, drawn with repetition: the first half to 1, then the rest to 0.

    Draws as many places for every image as the largest `value` of the call asks for.
    """
    n, size = len(images), images[0].numel()
    counts = (value * size).long()
    places = torch.randint(size, (n, int(counts.max())), generator=generator, device=images.device)
    order = torch.arange(places.shape[1], device=images.device)
    count = counts.to(images.device, non_blocking=True)[:, None]
    # a place past an image's own half or count repeats its first or its last, which changes nothing
    bright = torch.where(order < count // 2, places, places[:, :1])
    dark = torch.where((order >= count // 2) & (order < count), places, places.gather(1, count - 1))
    return images.flatten(1).scatter(1, bright, 1.0).scatter_(1, dark, 0.0).reshape(images.shape)


def multiplicative_noise(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Add to every value its product with normal noise of variance `value`. Draws `(N, 3, H, W)` normals."""
    return _noise(images, value, generator).add_(1).mul_(images)


def _noise(images: Tensor, variance: Tensor, generator: Generator) -> Tensor:
    normals = torch.randn(images.shape, generator=generator, device=images.device)
    return normals.mul_(column(variance.sqrt(), images))
