"""The blurs: Gaussian, lens and motion."""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

import torch
from torch import Generator, Tensor

from arniqa_pl.distortions import kernels


def gaussian_blur(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Blur with a Gaussian of sigma `value` px and side `2·ceil(2·sigma) + 1`."""
    return kernels.separable(images, kernels.per_sample(kernels.gaussian, value, images.device))


def lens_blur(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Blur with a disk of radius `value` px and side `2·radius + 1`."""
    return kernels.correlate(images, kernels.per_sample(kernels.disk, value, images.device))


def motion_blur(images: Tensor, value: Tensor, generator: Generator, angle: float | None = None) -> Tensor:
    """Blur along a line of `value` px.

    Draws one whole angle per image, uniformly from 0..180 degrees; `angle`, in degrees, fixes it for all.
    """
    if angle is not None:
        fixed = float(angle)
        line = kernels.per_sample(lambda length: kernels.motion_square(length, fixed), value, images.device)
        return kernels.correlate(images, line)
    lengths, places = torch.unique(value, return_inverse=True)
    banks = [kernels.motion_bank(length, images.device) for length in lengths.tolist()]
    side = max(bank.shape[-1] for bank in banks)
    lines = torch.cat([kernels.centred(bank, side) for bank in banks])
    angles = torch.randint(kernels.MOTION_ANGLES, (len(images),), generator=generator, device=images.device)
    chosen = places.to(images.device, non_blocking=True) * kernels.MOTION_ANGLES + angles
    return kernels.correlate(images, lines.index_select(0, chosen))
