"""CIE Lab as the published distortions see it: of the swapped image, with red and blue exchanged.

The published system feeds its images to the colour conversions in the order B, G, R. The numbers here are
those of `kornia.color.rgb_to_lab` and `lab_to_rgb` on the reversed channels; the reversal is folded into the
two matrices. Kornia's functions upload their matrices in every call, which makes the host wait for the
device. These do not, and they work in place on two buffers, so on the CPU they need half the time.
"""

from __future__ import annotations

import torch
from torch import Tensor

_WHITE_Y, _WHITE_X, _WHITE_Z = 1.0, 0.95047, 1.08883  # D65, 2 degree observer
# from linear (R, G, B) to (Y, X, Z) over the white point, and back; Y leads because L does
_TO_YXZ = (
    (0.072169 / _WHITE_Y, 0.715160 / _WHITE_Y, 0.212671 / _WHITE_Y),
    (0.180423 / _WHITE_X, 0.357580 / _WHITE_X, 0.412453 / _WHITE_X),
    (0.950227 / _WHITE_Z, 0.119193 / _WHITE_Z, 0.019334 / _WHITE_Z),
)
_FROM_YXZ = (
    (-0.2040413383665112 * _WHITE_Y, 0.0556466391351772 * _WHITE_X, 1.0573110696453443 * _WHITE_Z),
    (1.8759900014898907 * _WHITE_Y, -0.9692549499965682 * _WHITE_X, 0.0415559265582928 * _WHITE_Z),
    (-1.5371515162713185 * _WHITE_Y, 3.2404813432005266 * _WHITE_X, -0.4985363261688878 * _WHITE_Z),
)


def to_lab(images: Tensor) -> Tensor:
    """RGB `(N, 3, H, W)` in [0, 1] to L in 0..100 and a, b in about -128..127, a new tensor of that shape."""
    curve = images.clamp(min=0.04045).add_(0.055).div_(1.055).pow_(2.4)
    _add_line(curve, images.clamp(max=0.04045), 0.04045, 1 / 12.92)
    ratios = _mix(curve, _TO_YXZ, out=torch.empty_like(curve))
    root = torch.clamp(ratios, min=0.008856, out=curve).pow_(1 / 3)
    y, x, z = _add_line(root, ratios.clamp_(max=0.008856), 0.008856, 7.787).unbind(1)
    x.sub_(y).mul_(500)
    z.sub_(y).mul_(-200)
    y.mul_(116).sub_(16)
    return root


def from_lab(lab: Tensor) -> Tensor:
    """The inverse of `to_lab`, clamped to [0, 1]. Overwrites its input."""
    y, x, z = lab.unbind(1)
    y.add_(16).div_(116)
    x.div_(500).add_(y)
    z.div_(-200).add_(y).clamp_(min=0)
    cube = lab.clamp(min=0.2068966).pow_(3)
    _add_line(cube, lab.clamp_(max=0.2068966), 0.2068966, 1 / 7.787)
    linear = _mix(cube, _FROM_YXZ, out=lab)
    curve = torch.clamp(linear, min=0.0031308, out=cube).pow_(1 / 2.4).mul_(1.055).sub_(0.055)
    return _add_line(curve, linear.clamp_(max=0.0031308), 0.0031308, 12.92).clamp_(0, 1)


def _add_line(curve: Tensor, low: Tensor, threshold: float, slope: float) -> Tensor:
    """Continue `curve`, taken of max(value, threshold), by a line below the threshold, in place.

    `low` is min(value, threshold) and is used up. All four curves are such pairs, which meet at the threshold
    within 2e-6, so adding the two parts saves the mask, and a clamp is ten times faster than a mask.
    """
    return curve.add_(low.sub_(threshold), alpha=slope)


def _mix(planes: Tensor, matrix: tuple[tuple[float, float, float], ...], out: Tensor) -> Tensor:
    """Multiply the channel vectors of `(N, 3, H, W)` by a 3×3 matrix of plain numbers: no upload."""
    first, second, third = planes.unbind(1)
    for mixed, row in zip(out.unbind(1), matrix, strict=True):
        torch.mul(first, row[0], out=mixed)
        mixed.add_(second, alpha=row[1]).add_(third, alpha=row[2])
    return out
