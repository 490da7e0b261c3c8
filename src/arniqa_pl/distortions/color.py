"""The colour distortions: diffusion, shift and the two saturations."""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

import torch
from kornia.color import rgb_to_y
from torch import Generator, Tensor
from torch.nn import functional

from arniqa_pl.distortions import kernels
from arniqa_pl.distortions.kernels import column
from arniqa_pl.distortions.lab import from_lab, to_lab

EDGE_SIGMA = 4.0  # px


def color_diffusion(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Blur a and b of the swapped Lab, Gaussian of sigma `1.5·value + 2` px, and multiply them by `value`."""
    lab = to_lab(images)
    windows = kernels.per_sample(kernels.gaussian, 1.5 * value + 2, images.device)
    lab[:, 1:] = kernels.separable(lab[:, 1:], windows).mul_(column(value, images))
    return _truncated(from_lab(lab))


def color_shift(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Move the green channel down and right by about `value` px where the image has edges.

    Draws a direction `(a, b)` per image, a and b uniform in [0, 1); the shift is the rounded `value` px along
    it. Borders replicate, with one published quirk: the margin is as wide as the shift along the other axis,
    so that of a larger shift the part beyond it wraps around from the opposite side.
    """
    n, _, height, width = images.shape
    direction = torch.rand(n, 2, generator=generator, device=images.device)
    length = direction.norm(dim=1, keepdim=True).clamp_(min=1e-12)
    down, right = (direction / length * column(value, images).flatten(1)).round_().long().split(1, dim=1)
    rows = _shifted_places(height, down, margin=right)
    columns = _shifted_places(width, right, margin=down)
    green = images[:, 1].gather(1, rows[:, :, None].expand(-1, -1, width))
    green = green.gather(2, columns[:, None].expand(-1, height, -1))
    shifted = images.clone()
    shifted[:, 1].lerp_(green, _edge_map(images)[:, 0])
    return shifted


def color_saturation_1(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Multiply the saturation S of HSV by `value`, hue and V unchanged.

    With hue and V fixed every channel is `V - V·S·k` with a constant k, so scaling S scales the distance of
    each channel to the largest one. The order of the channels plays no part.
    """
    return images.amax(1, keepdim=True).lerp(images, column(value, images))


def color_saturation_2(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Multiply a and b of the swapped Lab by `value`."""
    lab = to_lab(images)
    lab[:, 1:].mul_(column(value, images))
    return _truncated(from_lab(lab))


def _edge_map(images: Tensor) -> Tensor:
    """Gradient magnitude of the gray image, blurred with a Gaussian of sigma 4 px: `(N, 1, H, W)` in [0, 1].

    Rescaled to 0..1 by its own extremes; an image without edges has a map of zeros. KADID then clamps it to
    its 1st and 99th percentiles. The published system takes the indices of a sort along the rows for the
    upper bound, which in effect zeroes one pixel per row, at the rank of the row's first pixel; this is kept.
    """
    gray = functional.pad(rgb_to_y(images), (1, 1, 1, 1), mode="replicate")
    across = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2]
    down = gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
    window = kernels.gaussian(EDGE_SIGMA).to(images.device, non_blocking=True)
    edges = kernels.separable(across.hypot(down), window.expand(len(images), -1))
    low, high = edges.amin((2, 3), keepdim=True), edges.amax((2, 3), keepdim=True)
    edges = (edges - low).div_((high - low).clamp_(min=1e-12))
    rank = (edges < edges[..., :1]).sum(-1, keepdim=True)
    return edges.scatter_(-1, rank, 0.0)


def _shifted_places(size: int, shift: Tensor, margin: Tensor) -> Tensor:
    """The places `(N, size)` read by a line moved by `shift` px, its replicated `margin` wrapping around."""
    places = torch.arange(size, device=shift.device) - shift
    return ((places + margin).remainder(size + 2 * margin) - margin).clamp_(0, size - 1)


def _truncated(images: Tensor) -> Tensor:
    """Cut [0, 1] to multiples of 1/255, in place, as the published system does after two distortions."""
    return images.mul_(255).floor_().div_(255)
