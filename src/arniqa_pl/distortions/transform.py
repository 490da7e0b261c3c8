"""The degradation model as a module, for pipelines of kornia or torchvision transforms."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from arniqa_pl.distortions.degradation import DegradationModel

_SEEDS = 2**63 - 1


class RandomDegradation(nn.Module):
    """Draws a composition for every image that passes and applies it.

    Fits `torchvision.transforms.v2.Compose` and `kornia.augmentation.ImageSequential`.

    Args:
        model: what to draw.
        generator: on the CPU; source of the compositions, and of the seeds of what the distortions draw.
            Every call advances it, so give every loader worker its own.

    """

    def __init__(self, model: DegradationModel, generator: Generator) -> None:
        super().__init__()
        self.model = model
        self.generator = generator

    def forward(self, images: Tensor) -> Tensor:
        """Degrade RGB `(N, 3, H, W)` or `(3, H, W)` in [0, 1] on any device; see `DegradationModel.apply`."""
        batch = images if images.ndim > 3 else images[None]
        composition = self.model.draw(len(batch), self.generator)
        seed = int(torch.randint(_SEEDS, (), generator=self.generator))
        degraded = self.model.apply(batch, composition, Generator(batch.device).manual_seed(seed))
        return degraded.reshape(images.shape)
