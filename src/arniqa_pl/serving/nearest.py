"""Which distortion, at which level, an image looks like to the encoder."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Generator, Tensor
from torch.nn import functional as F

from arniqa_pl.data.images import normalize, to_tensor, to_unit
from arniqa_pl.distortions import CATALOG, distort
from arniqa_pl.distortions.catalog import LEVELS
from arniqa_pl.models.encoder import Encoder

_SHORT_SIDE = 384  # px: of a KADIS-700k photograph, so that a distortion looks as strong as it is in training
_SEED = 27  # of what random distortions draw


class Neighbour(NamedTuple):
    """A distortion at a level (0: none), and how near an image is to it: a cosine, 1 for the same direction."""

    distortion: str
    level: int
    cosine: float


class DistortionMap:
    """Directions in feature space, from the middle of all distortions to each of them.

    Features are averaged over photographs, so that what they show falls out and how they are degraded stays.

    Args:
        encoder: in evaluation mode, on the CPU.
        photos: to degrade: a few of different contents.
        size: side of the photographs' parts that are degraded, in pixels: as the scorer's crops.

    """

    def __init__(self, encoder: Encoder, photos: Sequence[Image.Image], size: int) -> None:
        tiles = torch.stack([_tile(photo, size) for photo in photos])
        names, features = [("pristine", 0)], [_features(encoder, tiles)]
        levels = list(range(1, LEVELS + 1)) * len(photos)
        for name in CATALOG:
            degraded = distort(tiles.repeat_interleave(LEVELS, 0), name, levels, Generator().manual_seed(_SEED))
            found = _features(encoder, degraded).unflatten(0, (len(photos), LEVELS))
            features += found.unbind(dim=1)
            names += [(name, level) for level in range(1, LEVELS + 1)]
        places = torch.stack([each.mean(dim=0) for each in features])
        self.names = names
        self.middle = places.mean(dim=0)
        self.directions = F.normalize(places - self.middle, dim=1)

    def nearest(self, feature: Tensor, count: int) -> list[Neighbour]:
        """Return what a full-scale feature (D,) is nearest to, each distortion at its nearest level, nearest first."""
        cosines = self.directions @ F.normalize(feature - self.middle, dim=0)
        found: dict[str, Neighbour] = {}
        for place in cosines.argsort(descending=True).tolist():
            name, level = self.names[place]
            found.setdefault(name, Neighbour(name, level, float(cosines[place])))
        return list(found.values())[:count]


def _tile(photo: Image.Image, size: int) -> Tensor:
    """Return the middle of a photograph that was shrunk to a short side of 384 px: (3, size, size) in [0, 1]."""
    small = ImageOps.fit(photo, (max(_SHORT_SIDE, size),) * 2, Image.Resampling.LANCZOS)
    start = (small.width - size) // 2
    return to_unit(to_tensor(small.crop((start, start, start + size, start + size))))


@torch.no_grad()
def _features(encoder: Encoder, images: Tensor) -> Tensor:
    return encoder(normalize(images))
