"""The degradation model: draw a composition of distortions per sample, then apply it to a batch.

From "ARNIQA: Learning Distortion Manifold for Image Quality Assessment" (Agnolucci et al., WACV 2024),
section 3.1.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, overload

import torch
from torch import Generator, Tensor

from arniqa_pl.distortions.catalog import (
    CATALOG,
    DEFAULT_SEED,
    GROUPS,
    LEVELS,
    check_images,
    check_level,
    generator_for,
    lookup,
)
from arniqa_pl.distortions.compression import CODECS
from arniqa_pl.errors import InputError

LEVEL_DEVIATION = 2.5  # of the half-normal that the level is drawn from, in levels


class Composition:
    """The distortions of N samples: per sample a chain of (name, level) pairs in order, empty if pristine.

    Immutable, on the CPU and without tensors: it decides which code runs, so a trainer that moves batches to
    a device has to leave it where it is. `composition[i]` is the list of pairs of sample i,
    `composition[a:b]` the composition of some samples.
    """

    __slots__ = ("_chains",)

    def __init__(self, chains: Iterable[Iterable[tuple[str, int]]]) -> None:
        self._chains = tuple(
            tuple((lookup(name).name, check_level(level)) for name, level in chain) for chain in chains
        )

    @classmethod
    def concatenate(cls, compositions: Iterable[Composition]) -> Composition:
        """One composition of all samples in their order, to collate single draws into a batch."""
        return cls(chain for composition in compositions for chain in composition)

    def __iter__(self) -> Iterator[list[tuple[str, int]]]:
        return map(list, self._chains)

    def __len__(self) -> int:
        return len(self._chains)

    @overload
    def __getitem__(self, index: int) -> list[tuple[str, int]]: ...
    @overload
    def __getitem__(self, index: slice) -> Composition: ...
    def __getitem__(self, index: int | slice) -> list[tuple[str, int]] | Composition:
        return Composition(self._chains[index]) if isinstance(index, slice) else list(self._chains[index])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Composition) and self._chains == other._chains

    def __hash__(self) -> int:
        return hash(self._chains)

    def __repr__(self) -> str:
        return f"Composition({[list(chain) for chain in self._chains]})"


class DegradationModel:
    """Draws compositions and applies them.

    Args:
        max_distortions: longest chain, 0..7: there are 7 groups and none is taken twice.
        num_levels: levels are drawn from 1..num_levels, at most 5.
        pristine_prob: share of samples left pristine, 0..1.
        codec: how jpeg and jpeg2000 are computed, see `compression`: "auto" and "tensor" on the images'
            device, "exact" through libjpeg and OpenJPEG on the CPU.

    """

    def __init__(
        self,
        *,
        max_distortions: int = 4,
        num_levels: int = LEVELS,
        pristine_prob: float = 0.05,
        codec: str = "auto",
    ) -> None:
        if not 0 <= max_distortions <= len(GROUPS):
            raise InputError(
                f"Wanted max_distortions in 0..{len(GROUPS)}, got {max_distortions}. No group is taken twice."
            )
        if not 1 <= num_levels <= LEVELS:
            raise InputError(f"Wanted num_levels in 1..{LEVELS}, got {num_levels}.")
        if not 0 <= pristine_prob <= 1:
            raise InputError(f"Wanted pristine_prob in 0..1, got {pristine_prob}.")
        if codec not in CODECS:
            raise InputError(f"Wanted a codec out of {', '.join(CODECS)}, got {codec!r}.")
        self.max_distortions = max_distortions
        self.pristine_prob = pristine_prob
        self.codec = codec
        weights = [math.exp(-(level**2) / (2 * LEVEL_DEVIATION**2)) for level in range(num_levels)]
        # the last bound, 1, is left out, so that rounding can never give a level above num_levels
        total = sum(weights)
        self._level_bounds = list(accumulate(weight / total for weight in weights))[:-1]

    def draw(self, n: int, generator: Generator | None = None) -> Composition:
        """Draw `n` compositions.

        The number of distortions is uniform in 1..max_distortions; then come as many distinct groups in
        random order, one distortion uniformly within each, and its level i with `P(i) ∝ exp(-(i - 1)² /
        (2·2.5²))`.

        Args:
            n: number of samples.
            generator: on the CPU. Every sample takes 23 float64 uniforms, so a draw of n equals n draws of
                one. None: a fresh generator of seed 0, which draws the same every time.

        """
        generator = Generator().manual_seed(DEFAULT_SEED) if generator is None else generator
        if generator.device.type != "cpu":
            raise InputError(f"Wanted a generator on the CPU to draw compositions, got {generator.device}.")
        uniforms = torch.rand(n, 2 + 3 * len(GROUPS), generator=generator, dtype=torch.float64)
        return Composition(map(self._chain, uniforms.tolist()))

    def _chain(self, uniforms: list[float]) -> list[tuple[str, int]]:
        # plain Python: NumPy's arrays of one row would take a loader's worker three times as long
        pristine, shortness, *rest = uniforms
        if pristine < self.pristine_prob:
            return []
        count = len(GROUPS)
        order, choices, heights = rest[:count], rest[count : 2 * count], rest[2 * count :]
        groups = sorted(zip(order, GROUPS.values(), strict=True))[: math.ceil((1 - shortness) * self.max_distortions)]
        return [
            (members[int(choice * len(members))], 1 + bisect_right(self._level_bounds, height))
            for (_, members), choice, height in zip(groups, choices, heights, strict=False)
        ]

    @torch.no_grad()
    def apply(self, images: Tensor, composition: Composition, generator: Generator | None = None) -> Tensor:
        """Degrade every image by the chain of its sample.

        After each distortion the images are float32 and clamped to [0, 1]. The crops of a sample share its
        chain, while what a distortion draws inside (noise, angles, places, colours) is drawn for every crop.

        Args:
            images: `(N, …, 3, H, W)` RGB in [0, 1], sides at least 32 px, any floating dtype and device; the
                dimensions between N and 3 hold the crops of a sample. Stays as it is.
            composition: N chains.
            generator: on the images' device. The distortions draw from it in an order that the composition
                decides. None: a fresh one of seed 0, the same noise every time.

        Returns:
            A new tensor of the same shape, dtype and device in [0, 1]. No gradients flow.

        Raises:
            InputError: as `distort`; also if there is not one chain per sample.

        """
        check_images(images, crops=True)
        if len(composition) != len(images):
            raise InputError(f"Wanted one chain for each of {len(images)} samples, got {len(composition)} chains.")
        generator = generator_for(images, generator)
        crops = images[:1, ..., 0, 0, 0].numel()
        degraded = images.reshape(-1, *images.shape[-3:]).to(torch.float32, copy=True)
        with torch.autocast(images.device.type, enabled=False):
            for name, samples, levels in _calls(list(composition)):
                distortion = CATALOG[name]
                pinned: dict[str, Any] = {"codec": self.codec} if "codec" in distortion.pins else {}
                rows = torch.tensor(samples)[:, None] * crops + torch.arange(crops)
                index = rows.flatten().to(images.device, non_blocking=True)
                chosen = degraded.index_select(0, index)
                repeated = [level for level in levels for _ in range(crops)]
                degraded.index_copy_(0, index, distortion.apply(chosen, repeated, generator, **pinned))
        return degraded.reshape(images.shape).to(images.dtype)


def _calls(chains: list[list[tuple[str, int]]]) -> Iterator[tuple[str, list[int], list[int]]]:
    """Yield (name, samples, their levels) until every chain is through, each in its own order.

    A call costs a device hundreds of launches however few samples it has. So that there are few of them, the next
    distortion is the one of which the largest share of all that is still due can be done: the others wait for samples
    that have yet to get there. For 128 samples of up to four distortions that is 54 calls, where one for each name and
    place in the chain is 86.
    """
    left = [list(reversed(chain)) for chain in chains]
    due = Counter(name for chain in chains for name, _ in chain)
    ready: dict[str, dict[int, int]] = defaultdict(dict)

    def advance(sample: int) -> None:
        if left[sample]:
            name, level = left[sample].pop()
            ready[name][sample] = level

    for sample in range(len(chains)):
        advance(sample)
    while ready:
        name = max(ready, key=lambda name: (len(ready[name]) / due[name], len(ready[name])))
        levels = dict(sorted(ready.pop(name).items()))
        due[name] -= len(levels)
        for sample in levels:
            advance(sample)
        yield name, list(levels), list(levels.values())
