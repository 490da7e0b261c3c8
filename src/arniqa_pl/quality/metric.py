from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from arniqa_pl.data.images import to_unit
from arniqa_pl.quality.scorer import Scorer


class ImageQuality(Metric):
    """The mean quality of images, as a torchmetrics metric: log it in the training of whatever makes images.

    Quality goes from 0, the worst seen in the scorer's training, to 1, the best, and beyond either. Every image counts
    the same, on however many devices they were seen. As a call, `metric(images)`, it is differentiable.

    Args:
        scorer: or its file. It stays in evaluation mode and follows the metric from device to device.
        settings: of torchmetrics' Metric.

    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    feature_network = "scorer"

    total: Tensor
    count: Tensor

    def __init__(self, scorer: Scorer | Path | str, **settings: Any) -> None:
        super().__init__(**settings)
        self.scorer = scorer if isinstance(scorer, Scorer) else Scorer.load(scorer)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: Tensor) -> None:
        """Take images (N, 3, H, W) in, uint8 or floats in [0, 1]."""
        scores = self.scorer(images if images.is_floating_point() else to_unit(images))
        self.total = self.total + self.scorer.to_quality(scores, clamp=False).double().sum()
        self.count = self.count + len(images)

    def compute(self) -> Tensor:
        """Return the mean over all images; NaN if there were none."""
        return (self.total / self.count).float()
