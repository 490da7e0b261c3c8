"""JPEG 2000 as tensors: what OpenJPEG loses at a compression ratio, on any device, a whole batch at once.

The lossy part of JPEG 2000 is where the bit planes of each code block are cut off (ITU-T T.800 Annexes D and
J.14). The wavelet, the code blocks of 64×64 and the three coding passes per bit plane are those of the
standard here, and the passes are chosen as OpenJPEG chooses them: most squared error removed per bit, one
slope for the whole picture, within the bytes of the ratio. Only those bytes are estimated instead of written,
from how many coefficients of a block each pass visits and how many it finds significant.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from arniqa_pl.distortions import wavelet

_PLANES = 11  # an 8-bit sample without colour transform has at most 11 magnitude bits in any band
_PASSES = 3 * _PLANES
_WIDTHS = _PLANES + 1  # a coefficient is 0.._PLANES bits wide
_COUNTERS = _WIDTHS**2
_BLOCK = 64
_FLATTEST = -8.0  # log2 of squared error per bit, less than a lone 1 in the finest band has
_SEARCH = 12  # halvings between it and the steepest slope of the picture, down to 1/100 octave

# Bits of a block's code: binary entropy of significance within a pass (beside significant neighbours;
# elsewhere), sign of a newly significant coefficient, one refinement, and learning the statistics per log2 of
# the rest. Least squares over 12,579 blocks that OpenJPEG 2.5.4 wrote for 50 crops of 96 to 384 px at the
# five ratios of the published table. The demo photographs, on which the tests measure, were not among them.
_NEAR, _FAR, _SIGN, _REFINE, _LEARN = 0.94, 0.665, 1.63, 0.865, 2.2
# Bits of a block's packet header besides its zero planes, number of passes and length; LL is alone in its
# packet.
_SHORTEST = 3.0  # bytes of a code that is cut off, at least
_HEADER = {"LL": 1.0, "HL": 4.0, "LH": 4.0, "HH": 4.0}


class _Layout(NamedTuple):
    """Where the code blocks of a `(3, H, W)` picture lie, and what they weigh."""

    bins: Tensor  # (3·H·W,) int32: index of a coefficient's block, times counters per block
    beside: Tensor  # (H, W - 1) uint8: 255 where a column and the next belong to one block
    below: Tensor  # (H - 1, W) uint8: the same for rows
    energy: Tensor  # (blocks, 1) float32: squared error in the picture per squared error in the block
    header: Tensor  # (blocks, 1) float32: fixed bits of packet header for a block of all _PLANES


def code_jpeg2000(images: Tensor, ratio: Tensor, out: Tensor) -> Tensor:
    """Code and decode.

    Args:
        images: `(N, 3, H, W)` float32 in [0, 1], sides at least 32 px, any device.
        ratio: `(N,)` from 1 up, on the CPU: bytes of the raw picture per byte of the file.
        out: like `images`, receives the result.

    Returns:
        `(N,)` estimated bits of the coded blocks with their headers: at most `packet_budget`, if the first of
        them fits at all.

    """
    height, width = images.shape[-2:]
    levels = resolutions(height, width) - 1
    layout = _layout(height, width, images.device)
    budget = packet_budget(ratio, height, width).to(images.device, non_blocking=True)
    # The conversion cuts fractions off, as the published one to bytes does.
    coefficients = wavelet.forward((images * 255).to(torch.int16).sub_(128), levels)
    places = _classify(coefficients, layout)
    bits, gain = _pass_costs(_count(places, layout), layout)
    passes = _choose_passes(bits, gain, budget)
    lost = _lost_planes(images.device).index_select(0, passes.flatten()).flatten()
    pixels = wavelet.inverse(_cut(coefficients, lost.index_select(0, places).view_as(coefficients)), levels)
    torch.div(pixels.add_(128).clamp_(0, 255), 255, out=out)
    return bits.gather(2, passes).sum((1, 2))


def resolutions(height: int, width: int) -> int:
    """Eight, or as many as the shorter side allows: OpenJPEG wants 2^(resolutions - 1) ≤ side."""
    return min(8, min(height, width).bit_length())


def packet_budget(ratio: Tensor, height: int, width: int) -> Tensor:
    """Bits for coded blocks with their headers at each ratio, `(N,)` to `(N,)`.

    OpenJPEG subtracts what the file holds in front of the packets, 192 bytes and 3 per resolution in the JP2
    files that Pillow writes, but leaves at least 30 bytes. Of these every packet, one per resolution and
    channel, takes a byte even if it is empty.
    """
    packets = 3 * resolutions(height, width)
    return 8 * ((3 * height * width / ratio.float() - 192 - packets).clamp(min=30) - packets)


def _classify(coefficients: Tensor, layout: _Layout) -> Tensor:
    """The counter that each coefficient belongs to: `(N, 3, H, W)` int16 to `(N·3·H·W,)` int64.

    A block's counters are indexed by the bits of the coefficient and the bits of the widest in its 3×3
    neighbourhood, itself included, which decide the pass of each bit plane that codes it (T.800 D.3).
    Neighbours that become significant earlier in the same pass are followed for one step, not along the whole
    scan; that costs 0.05 dB.
    """
    # The exponent of a float32 whole number, biased by 127, is its width less one; that of 0 is far lower.
    exponent = coefficients.abs().float().view(torch.int32).bitwise_right_shift_(23)
    width = exponent.to(torch.uint8).clamp_(126, 126 + _PLANES).sub_(126)
    row = width.clone()
    _spread(width, row, layout.beside, -1, both=True)
    widest = row.clone()
    _spread(row, widest, layout.below, -2, both=True)
    # Neighbours scanned earlier, to the left and above, count in the very pass that finds them significant.
    found = (widest - width).clamp_(max=1).add_(width)
    left = torch.zeros_like(found)
    _spread(found, left, layout.beside, -1, both=False)
    _spread(found, widest, layout.below, -2, both=False)
    _spread(left, widest, layout.below, -2, both=True)
    torch.maximum(widest, left, out=widest)
    counter = width.mul_(_WIDTHS).add_(widest).flatten(1).int()
    per_image = layout.energy.numel() * _COUNTERS
    first = torch.arange(0, len(counter) * per_image, per_image, dtype=torch.int32, device=counter.device)
    return counter.add_(layout.bins).add_(first[:, None]).flatten().long()


def _spread(source: Tensor, target: Tensor, joined: Tensor, dim: int, both: bool) -> None:
    """Raise each target to its predecessor along dim, and to its successor if `both`, in the same block."""
    length = source.shape[dim] - 1
    after = target.narrow(dim, 1, length)
    torch.maximum(after, source.narrow(dim, 0, length) & joined, out=after)
    if both:
        before = target.narrow(dim, 0, length)
        torch.maximum(before, source.narrow(dim, 1, length) & joined, out=before)


def _count(places: Tensor, layout: _Layout) -> Tensor:
    """How many coefficients fall on each counter: `(N, blocks, widths, widths)` float32."""
    images = len(places) // len(layout.bins)
    counts = torch.zeros(images * layout.energy.numel() * _COUNTERS, dtype=torch.int32, device=places.device)
    counts.scatter_add_(0, places, torch.ones_like(places, dtype=torch.int32))
    return counts.view(images, -1, _WIDTHS, _WIDTHS).float()


def _pass_costs(counts: Tensor, layout: _Layout) -> tuple[Tensor, Tensor]:
    """Estimated bits and removed error after 0, 1, … coding passes: two tensors `(N, blocks, 1 + passes)`.

    Passes are counted from the highest bit plane that any block could have; those above a block's own planes
    are free and empty.
    """
    by_width, by_widest = counts.sum(3), counts.sum(2)
    # Entry p of what follows is about bit plane p, in which the coefficients of p + 1 bits become
    # significant.
    open_ = by_width.cumsum(2)[..., 1:]  # not yet significant when the plane begins
    far = by_widest.cumsum(2)[..., 1:]  # nor is any neighbour: left to the cleanup pass
    refined = by_width.sum(2, keepdim=True) - open_
    far_found = counts.diagonal(dim1=2, dim2=3)[..., 1:]
    near_found = by_width[..., 1:] - far_found
    near_bits = _NEAR * _entropy(near_found, open_ - far) + _SIGN * near_found
    far_bits = _FAR * _entropy(far_found, far) + _SIGN * far_found
    # Planes from the highest down, three passes each: significance near others, refinement, cleanup.
    bits = torch.stack((near_bits, _REFINE * refined, far_bits), 3).flip(2).flatten(2).cumsum(2)
    unit, half = _plane_energies(counts.device)
    gain = torch.stack((unit * near_found, half * refined, unit * far_found), 3).flip(2).flatten(2).cumsum(2)
    coded = bits > 0
    passes = coded.cumsum(2)
    # A block begins with the cleanup pass of its highest plane.
    missing = (_PASSES - 2 - passes[..., -1:]) / 3
    size = ((bits + _LEARN * torch.log2(1 + bits)) / 8).ceil()
    # OpenJPEG counts some bytes that are still in the coder, so the first passes cost what a short code costs
    # whole.
    size = torch.maximum(size, size[..., -1:].clamp(max=_SHORTEST))
    header = layout.header + missing + _passes_code(bits.device)[passes] + torch.log2(1 + size)
    # Whole numbers, so that their sum depends neither on its order nor on the rest of the batch.
    bits = coded * (8 * size + header).round()
    return F.pad(bits, (1, 0)), F.pad(gain * layout.energy, (1, 0))


@functools.lru_cache(maxsize=4)
def _plane_energies(device: torch.device) -> tuple[Tensor, Tensor]:
    """Squared error that a coefficient loses in each plane on becoming significant and on being refined.

    In units of 4^plane: 9/4 for a value spread evenly over 1..2 and decoded as 1.5, a little less since small
    ones are more frequent, and 1/4 for a refinement. In the lowest plane a coefficient becomes exact.
    """
    unit = 4.0 ** torch.arange(_PLANES)
    found, refined = 2.1 * unit, 0.25 * unit
    found[0], refined[0] = 1.0, 0.5
    return found.to(device, non_blocking=True), refined.to(device, non_blocking=True)


def _entropy(hits: Tensor, visits: Tensor) -> Tensor:
    """Bits that an ideal coder needs to tell which of the visited coefficients are hits."""
    visits = visits.clamp(min=1)
    share = hits / visits
    miss = 1 - share
    return -visits * (torch.xlogy(share, share) + torch.xlogy(miss, miss)) / math.log(2)


def _choose_passes(bits: Tensor, gain: Tensor, budget: Tensor) -> Tensor:
    """Passes to keep, `(N, blocks, 1)`: bisection on the slope, error per bit, that exhausts the budget."""
    low = torch.full_like(budget, _FLATTEST)
    # Just under the steepest slope: OpenJPEG keeps those passes even where they alone exceed the budget.
    high = (gain / bits.clamp(min=1)).amax((1, 2)).log2().sub(0.01).maximum(low)
    for _ in range(_SEARCH):
        middle = (low + high) / 2
        over = bits.gather(2, _best(bits, gain, middle)).sum((1, 2)) > budget
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    return _best(bits, gain, high)


def _best(bits: Tensor, gain: Tensor, slope: Tensor) -> Tensor:
    return (gain - bits * torch.exp2(slope)[:, None, None]).argmax(2, keepdim=True)


def _cut(coefficients: Tensor, lost: Tensor) -> Tensor:
    """Drop that many bits of each magnitude and decode to the middle of what is left open; zero stays."""
    sign = coefficients >> 15
    kept = coefficients.abs().bitwise_right_shift_(lost)
    middle = kept.clamp(max=1).bitwise_left_shift_(lost).bitwise_right_shift_(1)
    return kept.bitwise_left_shift_(lost).add_(middle).bitwise_xor_(sign).sub_(sign)


@functools.lru_cache(maxsize=4)
def _passes_code(device: torch.device) -> Tensor:
    """Bits of the code word for 0, 1, … passes (T.800 table B.4): `(1 + passes,)` float32."""
    return torch.tensor([0.0, 1, 2, 4, 4, 4] + [9.0] * (_PASSES - 5)).to(device, non_blocking=True)


@functools.lru_cache(maxsize=4)
def _lost_planes(device: torch.device) -> Tensor:
    """Bit planes missing from a coefficient when so many passes are kept: `(1 + passes, counters)` int16."""
    width, widest = torch.arange(_WIDTHS)[:, None], torch.arange(_WIDTHS)
    table = [torch.full((_WIDTHS, _WIDTHS), _PLANES + 1)]
    for plane in range(_PLANES - 1, -1, -1):
        early = widest > plane + 1  # coded before the cleanup pass: beside significant ones, or refined
        near = early & (width <= plane + 1)
        table += [plane + 1 - each.long().expand_as(near) for each in (near, early)]
        table.append(torch.full_like(table[0], plane))
    return torch.stack(table).flatten(1).to(torch.int16).to(device, non_blocking=True)


@functools.lru_cache(maxsize=16)
def _layout(height: int, width: int, device: torch.device) -> _Layout:
    owner = torch.zeros(height, width, dtype=torch.int64)
    energy: list[float] = []
    header: list[float] = []
    for band in wavelet.bands(height, width, resolutions(height, width) - 1):
        for top in range(band.top, band.bottom, _BLOCK):
            for left in range(band.left, band.right, _BLOCK):
                # What reaches into the next band is overwritten, since bands come from the top left outwards.
                owner[top : top + _BLOCK, left : left + _BLOCK] = len(energy)
                energy.append(band.norm**2)
                header.append(_HEADER[band.name] - 2 + band.name.count("H"))
    bins = (torch.arange(3)[:, None, None] * len(energy) + owner) * _COUNTERS
    layout = _Layout(
        bins.flatten().int(),
        ((owner[:, 1:] == owner[:, :-1]) * 255).byte(),
        ((owner[1:] == owner[:-1]) * 255).byte(),
        torch.tensor(energy).repeat(3)[:, None],
        torch.tensor(header).repeat(3)[:, None],
    )
    return _Layout(*(field.to(device, non_blocking=True) for field in layout))
