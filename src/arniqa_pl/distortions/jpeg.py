"""Baseline JPEG as tensors: what libjpeg does to a picture, on any device, a whole batch at once.

What is lossless in JPEG (zigzag, Huffman codes, markers) is left out. What loses something is done as
libjpeg, and libjpeg-turbo in Pillow, does it by default: fixed-point YCbCr, 4:2:0 chroma, 8×8 integer cosine
transform, the tables of ITU-T T.81 Annex K scaled by the quality, rounding to bytes after the inverse
transform, triangle ("fancy") chroma upsampling.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

# ITU-T T.81 tables K.1 (luminance) and K.2 (chrominance), row by row.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)
# libjpeg's colour weights are whole multiples of this; every sum of them fits 24 bits, so float32 is exact.
_UNIT = 2.0**-16


def code_jpeg(images: Tensor, quality: Tensor, out: Tensor) -> None:
    """Code and decode.

    On CUDA with TF32 products allowed (`torch.set_float32_matmul_precision("high")`) colours and transform are
    rounded more coarsely and the result is libjpeg's but for a few last bits.

    Args:
        images: `(N, 3, H, W)` float32 in [0, 1], any device.
        quality: `(N,)` 1..100, on the CPU.
        out: like `images`, receives the result.

    """
    tables = quantisation_tables(quality).to(images.device, non_blocking=True)
    passes = _passes().to(images.device, non_blocking=True)
    height, width = images.shape[-2:]
    pixels = (images * 255).floor_()
    # Blocks past the border repeat the last pixel, as libjpeg fills its last MCU.
    if height % 16 or width % 16:
        pixels = F.pad(pixels, (0, -width % 16, 0, -height % 16), mode="replicate")
    luma, chroma = _to_ycc(pixels)
    luma = _quantise(luma[:, None], tables[:, 0], passes)[..., 0, :height, :width]
    chroma, rows = _halve(chroma), (height + 1) // 2
    # Past the border libjpeg repeats the last row of means, which of an even height is not that of the last row.
    chroma[..., rows:, :] = chroma[..., rows - 1 : rows, :]
    chroma = _quantise(chroma, tables[:, 1], passes)
    chroma = _double(chroma[..., :rows, : (width + 1) // 2])[..., :height, :width]
    _to_rgb(luma, chroma, out)


def quantisation_tables(quality: Tensor) -> Tensor:
    """Luma and chroma tables at each quality 1..100: `(N,)` to `(N, 2, 64)` whole numbers 1..255."""
    base = torch.tensor((_LUMA, _CHROMA), dtype=torch.float32).flatten(1)
    quality = quality.float().floor()
    percent = torch.where(quality < 50, (5000 / quality).floor(), 200 - 2 * quality)
    return ((base * percent[:, None, None] + 50) / 100).floor().clamp(1, 255)


def _to_ycc(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes `(N, 3, H, W)` to luma `(N, H, W)` and chroma `(N, 2, H, W)`, all centred on 0."""
    weights, offsets = (each.to(pixels.device, non_blocking=True) for each in _ycc())
    count, _, height, width = pixels.shape
    mixed = torch.baddbmm(offsets, weights.expand(count, 3, 3), pixels.flatten(2)).floor_()
    planes = mixed.view(count, 3, height, width)
    return planes[:, 0], planes[:, 1:]


@functools.cache
def _ycc() -> tuple[Tensor, Tensor]:
    weights = torch.tensor(((19595, 38470, 7471), (-11059, -21709, 32768), (32768, -27439, -5329)))
    # libjpeg rounds chroma with half minus one unit, so that 255.5 cannot come out.
    offsets = torch.tensor((0.5 - 128, 0.5 - _UNIT, 0.5 - _UNIT))
    return weights * _UNIT, offsets[:, None]


def _to_rgb(luma: Tensor, chroma: Tensor, out: Tensor) -> None:
    blue, red = chroma.unbind(1)
    luma = luma + 128
    torch.add(luma, _rounded(red * (91881 * _UNIT)), out=out[:, 0])
    torch.add(luma, _rounded((blue * (-22554 * _UNIT)).add_(red, alpha=-46802 * _UNIT)), out=out[:, 1])
    torch.add(luma, _rounded(blue * (116130 * _UNIT)), out=out[:, 2])
    out.clamp_(0, 255).div_(255)


def _rounded(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_()


def _halve(chroma: Tensor) -> Tensor:
    """Mean of 2×2, rounded down and up in turn from column to column (libjpeg's `h2v2_downsample`)."""
    count, planes, height, width = chroma.shape
    rows = (chroma[..., 0::2, :] + chroma[..., 1::2, :]).view(-1, 2)
    # A product with (1, 1) / 4 adds neighbours several times faster than strided slices do, and as exactly.
    mean = torch.mv(rows, chroma.new_full((2,), 0.25)).view(count, planes, height // 2, width // 2)
    return mean.add_(_alternate(0.25, 0.5, mean)).floor_()


def _double(chroma: Tensor) -> Tensor:
    """Triangle filter 9:3:3:1 to twice the size (libjpeg's `h2v2_fancy_upsample`), borders replicated."""
    count, planes, height, width = chroma.shape
    near = F.pad(chroma, (1, 1, 1, 1), mode="replicate")
    tall = chroma.new_empty((count, planes, height, 2, width + 2))
    torch.add(near[..., :-2, :], near[..., 1:-1, :], alpha=3, out=tall[..., 0, :])
    torch.add(near[..., 2:, :], near[..., 1:-1, :], alpha=3, out=tall[..., 1, :])
    left = torch.add(tall[..., :-2], tall[..., 1:-1], alpha=3)
    right = torch.add(tall[..., 2:], tall[..., 1:-1], alpha=3)
    # Pairs as complex numbers: the fast way to interleave two planes column by column.
    wide = torch.view_as_real(torch.complex(left, right)).view(count, planes, 2 * height, 2 * width)
    return wide.add_(_alternate(8.0, 7.0, wide)).mul_(1 / 16).floor_()


def _alternate(even: float, odd: float, like: Tensor) -> Tensor:
    row = like.new_full((like.shape[-1],), even)
    row[1::2] = odd
    return row


def _quantise(planes: Tensor, table: Tensor, passes: Tensor) -> Tensor:
    """Block transform, quantisation and the way back.

    Args:
        planes: `(N, C, H, W)` whole numbers centred on 0, sides multiples of 8.
        table: `(N, 64)` quantisation steps.
        passes: `_passes()` on the device.

    Returns:
        The decoded planes, whole numbers -128..127.

    """
    count, channels, height, width = planes.shape
    down, across = height // 8, width // 8
    blocks = planes.reshape(-1, down, 8, across, 8).permute(0, 2, 4, 1, 3).reshape(count * channels, 8, 8, -1)
    rows = _rounded(passes[0] @ blocks)
    levels = _rounded(passes[1] @ rows.flatten(2)).view(count, channels, 64, -1)
    table = table[:, None, :, None]
    # Coefficients are 8 times T.81's. The factor past 1 sends exact halves away from zero as libjpeg does,
    # not to even.
    levels.mul_((1 + 2.0**-20) / (8 * table)).round_().mul_(table)
    columns = _rounded(passes[2] @ levels.view(count * channels, 8, -1))
    pixels = _rounded(passes[3] @ columns.view_as(blocks)).clamp_(-128, 127)
    return pixels.view(-1, 8, 8, down, across).permute(0, 3, 1, 4, 2).reshape(planes.shape)


@functools.cache
def _passes() -> Tensor:
    """`(4, 8, 8)`: two passes forth and two back, each in the power of two that libjpeg rounds it to."""
    forth = _integer_transform()
    return torch.stack((forth * 2.0**-11, forth * 2.0**-15, forth.mT * 2.0**-11, forth.mT * 2.0**-18))


@functools.cache
def _integer_transform() -> Tensor:
    """`(8, 8)` whole numbers: 2^13·√8 times the DCT-II of T.81 A.3.3, row = frequency, column = place.

    libjpeg's accurate integer transform is the fast algorithm of Loeffler, Ligtenberg and Moschytz (1989)
    with constants of 13 fractional bits. Within one pass it is linear and exact, so a pass is this matrix,
    built from the rounded constants, and one rounding. A floating-point transform is within 43 to 71 dB of
    libjpeg instead.
    """

    def fixed(value: float) -> int:
        return round(value * 2**13)

    c = [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(8)]
    one, low, rest2, rest6 = fixed(1), fixed(c[6]), fixed(c[2] - c[6]), fixed(c[2] + c[6])
    # Even frequencies 0, 2, 4, 6 from the sums of mirrored samples (0, 7), (1, 6), (2, 5), (3, 4).
    even = torch.tensor(
        (
            (one, one, one, one),
            (low + rest2, low, -low, -low - rest2),
            (one, -one, -one, one),
            (low, low - rest6, rest6 - low, -low),
        )
    )
    # Odd frequencies 1, 3, 5, 7 from the differences: a diagonal and five products that outputs share.
    all_, z1, z2 = fixed(c[3]), fixed(c[7] - c[3]), fixed(-c[1] - c[3])
    z3, z4 = all_ + fixed(-c[3] - c[5]), all_ + fixed(c[5] - c[3])
    d1, d3 = fixed(c[1] + c[3] - c[5] - c[7]), fixed(c[1] + c[3] + c[5] - c[7])
    d5, d7 = fixed(c[1] + c[3] - c[5] + c[7]), fixed(-c[1] + c[3] + c[5] - c[7])
    odd = torch.tensor(
        (
            (d1 + z1 + z4, all_, z4, z1 + all_),
            (all_, d3 + z2 + z3, z2 + all_, z3),
            (z4, z2 + all_, d5 + z2 + z4, all_),
            (z1 + all_, z3, all_, d7 + z1 + z3),
        )
    )
    half = torch.stack((even, odd), 1).flatten(0, 1)
    sign = torch.tensor((1, -1) * 4)[:, None]
    return torch.cat((half, sign * half.flip(1)), 1).float()
