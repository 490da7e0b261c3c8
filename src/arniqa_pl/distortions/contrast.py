"""The sharpness and contrast changes: high sharpen, linear and non-linear contrast change."""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

from torch import Generator, Tensor

from arniqa_pl.distortions import kernels
from arniqa_pl.distortions.kernels import column
from arniqa_pl.distortions.lab import from_lab, to_lab

SHARPEN_SIGMA = 6.0  # px
SHARPEN_SIDE = 13  # px


def high_sharpen(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Unsharp mask of weight `value` on L of the swapped Lab, with a Gaussian of sigma 6 and side 13 px."""
    lab = to_lab(images)
    lightness = lab[:, :1]
    window = kernels.gaussian(SHARPEN_SIGMA, SHARPEN_SIDE).to(images.device, non_blocking=True)
    blurred = kernels.separable(lightness, window.expand(len(images), -1))
    lightness.add_((lightness - blurred).mul_(column(value, images)))
    return from_lab(lab)


def linear_contrast_change(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Tone curve through (0, 0), (0.3, 0.25 - value / 4), (0.5, 0.5), (0.7, 0.75 + value / 4) and (1, 1).

    The published curve is the not-a-knot cubic spline of these points. They are odd about (0.5, 0.5), and
    not-a-knot leaves one cubic on either side of it, so the spline is the single odd cubic
    `0.5 + u·(slope + bend·u²)`, `u = x - 0.5`, through the points at u = 0.2 and u = 0.5.
    """
    bend = (-0.05 - column(value, images) / 4) / 0.042
    slope = 1 - bend / 4
    offset = images - 0.5
    return (offset.square() * bend).add_(slope).mul_(offset).add_(0.5)


def non_linear_contrast_change(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Map [0, 1] linearly to [0.5 - value, 0.5 + value]."""
    offset = column(value, images)
    return (images * (2 * offset)).add_(0.5 - offset)
