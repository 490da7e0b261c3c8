"""The table of the 24 distortions, and the call that applies one of them.

Groups, names, levels, documentation and test parameters all come from `CATALOG`. The levels are those of the
published ARNIQA system, which took the distortions from KADID-10k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from arniqa_pl.distortions import blur, brightness, color, compression, contrast, noise, spatial
from arniqa_pl.errors import InputError

LEVELS = 5
SMALLEST_SIDE = 32  # px
DEFAULT_SEED = 0
# Values the CPU works on at once, a 224×224 crop: larger temporaries leave the caches and go back to the
# system after every call, and getting them again takes longer than the arithmetic (twice the time at four
# crops).
CPU_CHUNK = 3 * 224 * 224


class Distortion(NamedTuple):
    """One row of the catalog.

    `function(images, value, generator, **pinned)` takes images `(N, 3, H, W)` float32 in [0, 1], which it
    leaves as they are, and one of `levels` per image, `value` `(N,)` float64 on the CPU. It returns a new
    tensor of that shape, not yet clamped. A `random` one draws from the generator. `pins` names the keywords
    it takes besides.
    """

    name: str
    group: str
    levels: tuple[float, float, float, float, float]
    function: Callable[..., Tensor]
    random: bool = False
    pins: tuple[str, ...] = ()

    def apply(self, images: Tensor, levels: Sequence[int], generator: Generator, **pinned: Any) -> Tensor:
        """What `function` gives for one level 1..5 per image, clamped to [0, 1]."""
        value = torch.tensor([self.levels[level - 1] for level in levels], dtype=torch.float64)
        # the codecs divide a batch themselves, the exact ones over threads
        chunked = images.device.type == "cpu" and "codec" not in self.pins
        size = max(1, CPU_CHUNK // images[0].numel()) if chunked else len(images)
        distorted = torch.empty_like(images)
        for part, each, out in zip(images.split(size), value.split(size), distorted.split(size), strict=True):
            torch.clamp(self.function(part, each, generator, **pinned), 0, 1, out=out)
        return distorted


_TABLE = (
    Distortion("gaussian_blur", "blur", (0.1, 0.5, 1, 2, 5), blur.gaussian_blur),
    Distortion("lens_blur", "blur", (1, 2, 4, 6, 8), blur.lens_blur),
    Distortion("motion_blur", "blur", (1, 2, 4, 6, 10), blur.motion_blur, random=True, pins=("angle",)),
    Distortion("color_diffusion", "color_distortion", (1, 3, 6, 8, 12), color.color_diffusion),
    Distortion("color_shift", "color_distortion", (1, 3, 6, 8, 12), color.color_shift, random=True),
    Distortion("color_saturation_1", "color_distortion", (0.4, 0.2, 0.1, 0, -0.4), color.color_saturation_1),
    Distortion("color_saturation_2", "color_distortion", (1, 2, 3, 6, 9), color.color_saturation_2),
    Distortion("jpeg2000", "jpeg", (16, 32, 45, 120, 170), compression.jpeg2000, pins=("codec",)),
    Distortion("jpeg", "jpeg", (43, 36, 24, 7, 4), compression.jpeg, pins=("codec",)),
    Distortion("white_noise", "noise", (0.001, 0.002, 0.003, 0.005, 0.01), noise.white_noise, random=True),
    Distortion(
        "white_noise_color_component",
        "noise",
        (0.0001, 0.0005, 0.001, 0.002, 0.003),
        noise.white_noise_color_component,
        random=True,
    ),
    Distortion("impulse_noise", "noise", (0.001, 0.005, 0.01, 0.02, 0.03), noise.impulse_noise, random=True),
    Distortion(
        "multiplicative_noise",
        "noise",
        (0.001, 0.005, 0.01, 0.02, 0.05),
        noise.multiplicative_noise,
        random=True,
    ),
    Distortion("brighten", "brightness_change", (0.1, 0.2, 0.4, 0.7, 1.1), brightness.brighten),
    Distortion("darken", "brightness_change", (0.05, 0.1, 0.2, 0.4, 0.8), brightness.darken),
    Distortion("mean_shift", "brightness_change", (0, 0.08, -0.08, 0.15, -0.15), brightness.mean_shift),
    Distortion("jitter", "spatial_distortion", (0.05, 0.1, 0.2, 0.5, 1), spatial.jitter, random=True),
    Distortion(
        "non_eccentricity_patch",
        "spatial_distortion",
        (20, 40, 60, 80, 100),
        spatial.non_eccentricity_patch,
        random=True,
    ),
    Distortion("pixelate", "spatial_distortion", (0.01, 0.05, 0.1, 0.2, 0.5), spatial.pixelate),
    Distortion("quantization", "spatial_distortion", (20, 16, 13, 10, 7), spatial.quantization),
    Distortion("color_block", "spatial_distortion", (2, 4, 6, 8, 10), spatial.color_block, random=True),
    Distortion("high_sharpen", "sharpness_contrast", (1, 2, 3, 6, 12), contrast.high_sharpen),
    Distortion(
        "linear_contrast_change",
        "sharpness_contrast",
        (0, 0.15, -0.4, 0.3, -0.6),
        contrast.linear_contrast_change,
    ),
    Distortion(
        "non_linear_contrast_change",
        "sharpness_contrast",
        (0.4, 0.3, 0.2, 0.1, 0.05),
        contrast.non_linear_contrast_change,
    ),
)

CATALOG: Mapping[str, Distortion] = MappingProxyType({row.name: row for row in _TABLE})
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        group: tuple(row.name for row in _TABLE if row.group == group)
        for group in dict.fromkeys(row.group for row in _TABLE)
    }
)


@torch.no_grad()
def distort(
    images: Tensor,
    name: str,
    level: int | Sequence[int] | Tensor,
    generator: Generator | None = None,
    **pinned: Any,
) -> Tensor:
    """Apply one distortion to every image of a batch.

    A mixed batch gives what its images give one by one: the same values where the distortion draws nothing,
    the same law where it does, since a call draws for all its images in turn.

    Args:
        images: `(N, 3, H, W)` RGB in [0, 1], sides at least 32 px, any floating dtype and device; stays as it
            is.
        name: one of `CATALOG`.
        level: 1..5, one for all or `(N,)`; on the CPU, to spare a wait for the device.
        generator: source of what a random distortion draws, on the images' device. None: a fresh one of seed
            0, so that two such calls draw the same.
        pinned: fixes what is otherwise drawn or chosen: `angle` in degrees for motion_blur, `codec` ("auto",
            "tensor" or "exact") for jpeg and jpeg2000.

    Returns:
        A new tensor of the same shape, dtype and device in [0, 1], computed in float32. No gradients flow.

    Raises:
        InputError: a wrong shape, dtype, name, level or keyword, or values outside [0, 1]. On CUDA the values
            are checked without waiting for the device, so that this one appears later, as a failed device
            assertion.

    """
    row = lookup(name)
    check_images(images)
    if unknown := sorted(set(pinned) - set(row.pins)):
        raise InputError(f"{name} takes {list(row.pins) or 'no keyword'} besides its level, got {unknown}.")
    levels = _levels(level, len(images))
    generator = generator_for(images, generator)
    if len(images) == 0:
        return images.clone()
    with torch.autocast(images.device.type, enabled=False):
        return row.apply(images.float(), levels, generator, **pinned).to(images.dtype)


def lookup(name: str) -> Distortion:
    """The row called `name`, or an error that lists the names."""
    if name not in CATALOG:
        raise InputError(f"Wanted the name of a distortion, got {name!r}. Take one of {', '.join(CATALOG)}.")
    return CATALOG[name]


def check_level(level: object) -> int:
    """`level` as a plain int, if it is a whole number 1..5."""
    if not isinstance(level, Integral) or isinstance(level, bool) or not 1 <= int(level) <= LEVELS:
        raise InputError(f"Wanted a level as a whole number 1..{LEVELS}, got {level!r}.")
    return int(level)


def check_images(images: Tensor, *, crops: bool = False) -> None:
    """Refuse what is not floating RGB in [0, 1] of at least 32 px.

    The shape is `(N, 3, H, W)`, with `crops` `(N, …, 3, H, W)`.
    """
    shape = "(N, …, 3, H, W)" if crops else "(N, 3, H, W)"
    if not isinstance(images, Tensor):
        raise InputError(f"Wanted a tensor {shape}, got {type(images).__name__}.")
    if images.ndim < 4 or (images.ndim > 4 and not crops) or images.shape[-3] != 3:
        raise InputError(f"Wanted RGB images {shape}, got {tuple(images.shape)}. Add or move dimensions.")
    if not images.is_floating_point():
        raise InputError(f"Wanted floating images in [0, 1], got {images.dtype}. Divide bytes by 255 first.")
    if min(images.shape[-2:]) < SMALLEST_SIDE:
        size = "×".join(map(str, images.shape[-2:]))
        raise InputError(f"Wanted images of at least {SMALLEST_SIDE}×{SMALLEST_SIDE} px, got {size}.")
    if images.numel() == 0:
        return
    low, high = images.aminmax()
    if images.is_cuda:
        torch._assert_async((low >= 0) & (high <= 1), "Wanted images in [0, 1]. Scale or clamp them first.")
    elif not (low >= 0 and high <= 1):
        span = f"{float(low) + 0.0:.3g} to {float(high) + 0.0:.3g}"  # plus 0, so that -0 reads 0
        raise InputError(f"Wanted images in [0, 1], got values from {span}. Scale or clamp them first.")


def generator_for(images: Tensor, generator: Generator | None) -> Generator:
    """`generator`, if it is on the device of the images, or a fresh one of seed 0 in place of None."""
    if generator is None:
        return Generator(images.device).manual_seed(DEFAULT_SEED)
    if generator.device.type != images.device.type:
        raise InputError(f"Wanted a generator on {images.device}, where the images are, got {generator.device}.")
    return generator


def _levels(level: int | Sequence[int] | Tensor, n: int) -> list[int]:
    """One whole level 1..5 for each of `n` images."""
    given = level.tolist() if isinstance(level, Tensor) else level
    if not isinstance(given, Sequence):
        return [check_level(given)] * n
    if len(given) != n:
        raise InputError(f"Wanted one level, or one for each of the {n} images, got {len(given)}.")
    return [check_level(each) for each in given]
