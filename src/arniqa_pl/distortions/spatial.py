"""The spatial distortions: jitter, non-eccentricity patch, pixelate, quantization and colour block."""
# ruff: noqa: ARG001 - all distortions share one signature, those that draw nothing too

from __future__ import annotations

from functools import cache

import torch
from torch import Generator, Tensor
from torch.nn import functional

from arniqa_pl.distortions.kernels import column, per_sample

JITTER_ROUNDS = 5
PATCH_SIDE = 16  # px
PATCH_REACH = 8  # px
BLOCK_SIDE = 32  # px


def jitter(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Five rounds in which every pixel reads from a place displaced by a normal of std `value` px per axis.

    Bilinear, borders replicated, one displacement for the channels of a pixel. Draws `(N, 2, H, W)` normals
    per round. The published system pads by the rounded-up largest and smallest displacement and crops as if
    they were equal, so each round also moves the picture by their difference along x and, the other way,
    along y. That is a few px at levels 3 to 5 and is kept: without it the measured differences at level 4 are
    a fifth too small.
    """
    n, _, height, width = images.shape
    across = torch.linspace(-1, 1, width, device=images.device)
    down = torch.linspace(-1, 1, height, device=images.device)[:, None]
    amount = column(value, images)
    for _ in range(JITTER_ROUNDS):
        places = torch.randn(n, 2, height, width, generator=generator, device=images.device).mul_(amount)
        x, y = places.unbind(1)
        drift = x.amax((1, 2), keepdim=True).ceil_() - x.amin((1, 2), keepdim=True).neg_().ceil_()
        x.add_(drift).mul_(2 / (width - 1)).add_(across)
        y.sub_(drift).mul_(2 / (height - 1)).add_(down)
        images = functional.grid_sample(images, places.permute(0, 2, 3, 1), padding_mode="border", align_corners=True)
    return images


def non_eccentricity_patch(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Copy a 16×16 patch to a place up to ±8 px away in each axis, `value` times, later copies on top.

    The sources keep 16 px from the border where the image has room for that, and every copy lies inside the
    image. The published system copies row by row inside one buffer, so a copy that lands lower overwrites its
    own source and repeats the rows above the overlap; this is kept, since without it the measured differences
    are 6 % too small. Draws four uniforms per copy and image, for the largest `value` of the call.
    """
    n, channels, height, width = images.shape
    counts = value.long()
    copies = int(counts.max())
    draws = torch.rand(n, copies, 4, generator=generator, device=images.device)
    # a copy past an image's own count stays where it is
    reach = torch.where(torch.arange(copies) < counts[:, None], PATCH_REACH, 0)
    reach = reach.to(images.device, non_blocking=True)
    top, new_top = _patch_places(draws[..., 0], draws[..., 1], reach, height)
    left, new_left = _patch_places(draws[..., 2], draws[..., 3], reach, width)
    source = _patch_sources(top, left, new_top - top, new_left - left, width)
    offsets = torch.arange(PATCH_SIDE, device=images.device)
    target = _squares(new_top[..., None] + offsets, new_left[..., None] + offsets, width)
    # the copies depend on each other, so they go one after the other, all images at once; moving the numbers
    # of the pixels instead of the pixels costs a third
    origin = torch.arange(height * width, device=images.device).repeat(n, 1)
    for read, write in zip(source.unbind(1), target.unbind(1), strict=True):
        origin.scatter_(1, write, origin.gather(1, read))
    return images.flatten(2).gather(2, origin[:, None].expand(-1, channels, -1)).reshape(images.shape)


def pixelate(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Shrink by `z = 0.95 - value^0.6` to `int(H·z) × int(W·z)` px and back, both nearest neighbour."""
    height, width = images.shape[-2:]
    coarse = torch.empty_like(images)
    levels, places = torch.unique(value, return_inverse=True)
    for index, strength in enumerate(levels.tolist()):
        zoom = 0.95 - strength**0.6
        rows = (places == index).nonzero()[:, 0].to(images.device, non_blocking=True)
        few = (int(height * zoom), int(width * zoom))
        small = functional.interpolate(images.index_select(0, rows), few, mode="nearest")
        coarse.index_copy_(0, rows, functional.interpolate(small, (height, width), mode="nearest"))
    return coarse


def quantization(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Replace each value of 0..255 by the index of its bin, then stretch the image to the full range.

    The inner edges of `value` equal bins are truncated to integers and bins are open on the left; an exact 0
    has the index 0 of its own. One minimum and maximum over all channels; an image of a single index becomes
    black.
    """
    codes = (images.flatten(1) * 255).ceil_().long()
    indices = per_sample(_bin_table, value, images.device).gather(1, codes)
    low, high = indices.aminmax(dim=1, keepdim=True)
    return (indices - low).div_((high - low).clamp_(min=1)).reshape(images.shape)


def color_block(images: Tensor, value: Tensor, generator: Generator) -> Tensor:
    """Paint `value` squares of 32×32 px, each of one random colour, at random places inside the image.

    Draws five uniforms per square and image, for the largest `value` of the call.
    """
    n, channels, height, width = images.shape
    counts = value.long()
    blocks = int(counts.max())
    draws = torch.rand(n, blocks, 2 + channels, generator=generator, device=images.device)
    # a block past an image's own count paints its last one once more
    own = torch.minimum(torch.arange(blocks), counts[:, None] - 1).to(images.device, non_blocking=True)
    draws = draws.gather(1, own[..., None].expand_as(draws))
    top = (draws[..., 0] * (height - BLOCK_SIDE + 1)).long()
    left = (draws[..., 1] * (width - BLOCK_SIDE + 1)).long()
    offsets = torch.arange(BLOCK_SIDE, device=images.device)
    places = _squares(top[..., None] + offsets, left[..., None] + offsets, width)
    places = places[:, :, None].expand(-1, -1, channels, -1)
    colors = draws[..., 2:, None].expand(-1, -1, -1, BLOCK_SIDE**2)
    painted = images.flatten(2).clone()
    for place, color in zip(places.unbind(1), colors.unbind(1), strict=True):
        painted.scatter_(2, place, color)
    return painted.reshape(images.shape)


def _patch_places(place: Tensor, displacement: Tensor, reach: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First pixels, along an axis of `size` px, of patches and of their copies, from two uniforms each."""
    room = size - PATCH_SIDE
    margin = min(PATCH_SIDE, room // 2)
    source = (margin + place * (room - 2 * margin)).long()
    return source, (source + ((displacement * 2 - 1) * reach).round_().long()).clamp_(0, room)


def _patch_sources(top: Tensor, left: Tensor, drop: Tensor, slide: Tensor, width: int) -> Tensor:
    """Pixel numbers `(N, K, side²)` that patches get, moved in place from (top, left) by (drop, slide) px.

    Where a patch that moves down has already written over its source, a pixel gets what was put there, `drop`
    rows and `slide` columns back, as often as that place lies inside the patch.
    """
    drop, slide = drop[..., None, None], slide[..., None, None]
    columns = torch.arange(PATCH_SIDE, device=top.device)
    rows = columns[:, None]
    room = torch.where(slide > 0, columns, PATCH_SIDE - 1 - columns)
    back = torch.where(slide == 0, PATCH_SIDE, room // slide.abs().clamp(min=1))
    back = torch.minimum(back, torch.where(drop > 0, rows // drop.clamp(min=1), 0))
    places = (top[..., None, None] + rows - back * drop) * width + left[..., None, None] + columns - back * slide
    return places.flatten(-2)


def _squares(rows: Tensor, columns: Tensor, width: int) -> Tensor:
    """Pixel numbers `(N, K, side²)`, in images `width` px wide, of the squares of these `(N, K, side)`."""
    return (rows[..., :, None] * width + columns[..., None, :]).flatten(-2)


@cache
def _bin_table(levels: float) -> Tensor:
    """Index `(256,)` of the bin of each byte value."""
    edges = torch.tensor([int(255 * edge / levels) for edge in range(int(levels))])
    return torch.searchsorted(edges, torch.arange(256)).float()
