"""The brightness changes: brighten, darken and mean shift."""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

from torch import Generator, Tensor

from arniqa_pl.distortions.kernels import column
from arniqa_pl.distortions.lab import from_lab, to_lab


def brighten(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Lift the midtones by `value`: two thirds on RGB, one third on the lightness of the swapped Lab."""
    lift = column(value, images)
    lab = to_lab(images)
    lab[:, :1] = _curve(lab[:, :1] / 100, lift) * 100
    return _curve(images, lift).mul_(2).add_(from_lab(lab)).div_(3)


def darken(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Lower the midtones by `value`, on RGB."""
    return _curve(images, -column(value, images))


def mean_shift(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Add `value` to all three channels."""
    return images + column(value, images)


def _curve(planes: Tensor, lift: Tensor) -> Tensor:
    """The parabola `x + 2·lift·x·(1 - x)`, clamped: through (0, 0), (0.5, 0.5 + lift / 2) and (1, 1)."""
    return (planes * (-2 * lift)).add_(1 + 2 * lift).mul_(planes).clamp_(0, 1)
