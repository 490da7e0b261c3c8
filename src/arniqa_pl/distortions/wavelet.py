"""The reversible 5/3 wavelet of JPEG 2000 (ITU-T T.800 Annex F) on batches of whole-number images.

Coefficients stay where the image was: after one level the low half of the rows and columns lies in the top
left corner, and the next level works on that corner. Whole numbers of 16 bits are exact, 8-bit images need
11, and several times faster than float32.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Band(NamedTuple):
    """One subband and its place: rows `top` to `bottom`, columns `left` to `right`, ends excluded."""

    level: int  # 1 is the finest
    name: str  # LL, HL (high across), LH (high down) or HH
    top: int
    bottom: int
    left: int
    right: int

    @property
    def norm(self) -> float:
        """L2 norm of the picture that one unit in this band makes, so what an error here costs there."""
        across = _norm(self.level, high=self.name[0] == "H")
        return across * _norm(self.level, high=self.name[1] == "H")


def bands(height: int, width: int, levels: int) -> list[Band]:
    """The subbands in the order of the code stream: LL, then HL, LH, HH from coarse to fine."""
    sides = _sides(height, width, levels)
    found = [Band(levels, "LL", 0, sides[-1][0], 0, sides[-1][1])]
    for level in range(levels, 0, -1):
        (bottom, right), (top, left) = sides[level - 1], sides[level]
        found.append(Band(level, "HL", 0, top, left, right))
        found.append(Band(level, "LH", top, bottom, 0, left))
        found.append(Band(level, "HH", top, bottom, left, right))
    return found


def forward(images: Tensor, levels: int) -> Tensor:
    """Coefficients of `(..., H, W)` int16 images, sides at least 2^levels: a new tensor like them."""
    out = torch.empty_like(images)
    low = images
    for height, width in _sides(images.shape[-2], images.shape[-1], levels)[:-1]:
        lines = torch.empty_like(low)
        _split(low, lines, -2)
        corner = out[..., :height, :width]
        _split(lines, corner, -1)
        low = corner[..., : (height + 1) // 2, : (width + 1) // 2]
    return out


def inverse(coefficients: Tensor, levels: int) -> Tensor:
    """Exact inverse of `forward`, a new tensor."""
    out = coefficients.clone()
    for height, width in reversed(_sides(coefficients.shape[-2], coefficients.shape[-1], levels)[:-1]):
        corner = out[..., :height, :width]
        lines = _merge(corner, -1)
        corner.copy_(_merge(lines, -2))
    return out


def _sides(height: int, width: int, levels: int) -> list[tuple[int, int]]:
    sides = [(height, width)]
    for _ in range(levels):
        sides.append(((sides[-1][0] + 1) // 2, (sides[-1][1] + 1) // 2))
    return sides


def _split(x: Tensor, out: Tensor, dim: int) -> None:
    """Lift along dim (T.800 F.4.8.1): even samples to the low half, odd ones to the high half."""
    half, rest = (x.shape[dim] + 1) // 2, x.shape[dim] // 2
    low, high = out.split((half, rest), dim)
    even, odd = _alternate(x, dim)
    low.copy_(even)
    torch.sub(odd, _beside_odd(low, rest, dim), out=high)
    low.add_(_beside_even(high, half, dim))


def _merge(x: Tensor, dim: int) -> Tensor:
    """Undo `_split` (T.800 F.3.8.1)."""
    half, rest = (x.shape[dim] + 1) // 2, x.shape[dim] // 2
    low, high = x.split((half, rest), dim)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    even, odd = _alternate(out, dim)
    plain = low - _beside_even(high, half, dim)
    even.copy_(plain)
    torch.add(high, _beside_odd(plain, rest, dim), out=odd)
    return out


def _alternate(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return (x[..., 0::2], x[..., 1::2]) if dim == -1 else (x[..., 0::2, :], x[..., 1::2, :])


def _beside_odd(even: Tensor, count: int, dim: int) -> Tensor:
    """floor((left + right) / 2) of the even samples beside each of `count` odd ones."""
    inner = even.shape[dim] - 1
    total = torch.empty_like(even) if count > inner else torch.empty_like(even.narrow(dim, 0, inner))
    torch.add(even.narrow(dim, 0, inner), even.narrow(dim, 1, inner), out=total.narrow(dim, 0, inner))
    if count > inner:
        last = even.narrow(dim, inner, 1)
        torch.add(last, last, out=total.narrow(dim, inner, 1))
    return total.bitwise_right_shift_(1)


def _beside_even(odd: Tensor, count: int, dim: int) -> Tensor:
    """floor((left + right + 2) / 4) of the odd samples beside each of `count` even ones."""
    inner = odd.shape[dim] - 1
    shape = list(odd.shape)
    shape[dim] = count
    total = odd.new_empty(shape)
    first = odd.narrow(dim, 0, 1)
    torch.add(first, first, out=total.narrow(dim, 0, 1))
    torch.add(odd.narrow(dim, 0, inner), odd.narrow(dim, 1, inner), out=total.narrow(dim, 1, inner))
    if count > inner + 1:
        last = odd.narrow(dim, inner, 1)
        torch.add(last, last, out=total.narrow(dim, inner + 1, 1))
    return total.add_(2).bitwise_right_shift_(2)


def _norm(level: int, high: bool) -> float:
    """L2 norm along one axis: the synthesis filter, upsampled and smoothed for each further level."""
    response = [-0.125, -0.25, 0.75, -0.25, -0.125] if high else [0.5, 1.0, 0.5]
    for _ in range(level - 1):
        spread = [0.0] * (2 * len(response) + 1)
        for place, value in enumerate(response):
            for offset, weight in enumerate((0.5, 1.0, 0.5)):
                spread[2 * place + offset] += weight * value
        response = spread
    return math.sqrt(sum(value * value for value in response))
