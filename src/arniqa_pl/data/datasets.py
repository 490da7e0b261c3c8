import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.utils.data import Dataset, default_collate

from arniqa_pl.data.crops import fixed_crops, half_scale, random_crops, with_short_side
from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import Photos
from arniqa_pl.distortions import Composition, DegradationModel
from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)

PADDINGS = ("zeros", "reflect")
REACTIONS = ("replace", "stop")
PARTNERS = ("other", "same")
HALF_SCALES = ("independent", "aligned", "none")
_ATTEMPTS = 10  # photographs in a row that may be unreadable: a tenth of a corpus is lost before this ever happens


class PairBatch(NamedTuple):
    """Crop pairs of one step.

    Attributes:
        crops: (B, view 2, scale 1 or 2, 3, S, S); uint8 as loaded, normalised floats once degraded.
        composition: B compositions; the four crops of a pair share theirs.
        key: (epoch, index of the first pair): names the batch, and seeds its noise.

    """

    crops: Tensor
    composition: Composition
    key: tuple[int, int]


def derive_seed(*numbers: int) -> int:
    """Return a seed that is a pure function of the numbers, with no relation between neighbours."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


class CropPairs(Dataset[PairBatch]):
    """Crops of pairs of pristine photographs, each pair with the composition that degrades all its crops.

    Sample (epoch, index) is a pure function of (seed, epoch, index) and the photographs: its first view shows
    photograph `index`, its second one drawn uniformly (ARNIQA, section 3.2), whatever worker or rank asks for it.
    Asked for by its index alone, a sample is that of `own_epoch`.

    Args:
        photos: the photographs.
        length: samples in an epoch; photographs are used in turn.
        crop_size: side of the crops, in pixels.
        padding: of photographs smaller than a crop: "zeros" or "reflect".
        degradation: draws the compositions.
        partner: the second view shows an "other" photograph, the paper's way, or another crop of the "same" one.
        half_scale: see `random_crops`.
        unreadable: "replace" a photograph that cannot be decoded by another one drawn from the sample's own numbers,
            and log which it was; or "stop" with an InputError.
        cache_images: how many decoded photographs each worker keeps (3 × H × W bytes apiece).
        own_epoch: of a sample that is asked for by its index alone, as Lightning's own samplers do.

    """

    def __init__(
        self,
        photos: Photos,
        *,
        length: int,
        crop_size: int,
        padding: str,
        degradation: DegradationModel,
        partner: str,
        half_scale: str,
        seed: int,
        unreadable: str,
        cache_images: int,
        own_epoch: int = 0,
    ) -> None:
        if padding not in PADDINGS:
            raise InputError(f"Wanted data.padding out of {', '.join(PADDINGS)}, got {padding!r}.")
        if unreadable not in REACTIONS:
            raise InputError(f"Wanted data.unreadable out of {', '.join(REACTIONS)}, got {unreadable!r}.")
        if partner not in PARTNERS:
            raise InputError(f"Wanted data.partner out of {', '.join(PARTNERS)}, got {partner!r}.")
        if half_scale not in HALF_SCALES:
            raise InputError(f"Wanted data.half_scale out of {', '.join(HALF_SCALES)}, got {half_scale!r}.")
        self.photos = photos
        self.length = length
        self.crop_size = crop_size
        self.padding = padding
        self.degradation = degradation
        self.seed = seed
        self.unreadable = unreadable
        self.cache_images = cache_images
        self.partner = partner
        self.half_scale = half_scale
        self.own_epoch = own_epoch
        self._cache: dict[int, Image.Image] = {}
        self._reported: set[int] = set()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int] | int) -> PairBatch:
        epoch, index = key if isinstance(key, tuple) else (self.own_epoch, key)
        generator = Generator().manual_seed(derive_seed(self.seed, epoch, index))
        first = self._read(index % len(self.photos), generator)
        partner = int(torch.randint(len(self.photos), (), generator=generator))  # drawn, if only to draw alike
        second = first if self.partner == "same" else self._read(partner, generator)
        scales = 1 if self.half_scale == "none" else 2
        crops = torch.empty(2, scales, 3, self.crop_size, self.crop_size, dtype=torch.uint8)
        for view, image in zip(crops, (first, second), strict=True):
            random_crops(image, self.crop_size, generator, self.padding, self.half_scale, out=view)
        return PairBatch(crops, self.degradation.draw(1, generator), (epoch, index))

    def _read(self, photo: int, generator: Generator) -> Image.Image:
        """Return a photograph, or the next one drawn if it cannot be decoded."""
        for _ in range(_ATTEMPTS):
            try:
                return self._decoded(photo)
            except InputError as error:
                if self.unreadable == "stop":
                    raise
                if photo not in self._reported:
                    log.warning("Left out, another photograph takes its place: %s", error)
                    self._reported.add(photo)
                photo = int(torch.randint(len(self.photos), (), generator=generator))
        raise InputError(
            f"Wanted photographs that can be decoded, {_ATTEMPTS} in a row cannot, the last one number {photo} of "
            f"{self.photos.source}: look at them with python -m arniqa_pl.prepare photos."
        )

    def _decoded(self, photo: int) -> Image.Image:
        if photo in self._cache:
            return self._cache[photo]
        image = self.photos[photo]
        if len(self._cache) < self.cache_images:
            self._cache[photo] = image
        return image


def collate_pairs(samples: Sequence[PairBatch]) -> PairBatch:
    """Join single pairs to a batch that is named after the first of them."""
    return PairBatch(
        crops=default_collate([sample.crops for sample in samples]),  # in a worker: straight into shared memory
        composition=Composition.concatenate([sample.composition for sample in samples]),
        key=samples[0].key,
    )


class ImageCrops(Dataset[tuple[int, Tensor]]):
    """Fixed crops of images, resized to a short side if one is given, with the row that each has in its list.

    Yields:
        row, and crops (scale 2, crop, 3, S, S) uint8.

    """

    def __init__(self, paths: Sequence[Path], *, crop_size: int, crops: int, short_side: int | None = None) -> None:
        self.paths = paths
        self.crop_size = crop_size
        self.crops = crops
        self.short_side = short_side

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[int, Tensor]:
        image = with_short_side(read_image(self.paths[row]), self.short_side)
        return row, fixed_crops((image, half_scale(image)), self.crop_size, self.crops)
