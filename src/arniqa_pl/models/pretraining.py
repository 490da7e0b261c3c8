from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.models.contrastive import nt_xent
from arniqa_pl.models.encoder import Encoder


class Pretraining(LightningModule):
    """Learns a distortion manifold: equally degraded crops of different photographs are drawn together.

    Half-scale crops go along as hard negatives: same photograph, same degradation, other scale (ARNIQA, section 3.2).

    Args:
        encoder: what is trained; kept, and frozen, after pre-training.
        projection_dim: length of the projections that the loss compares.
        temperature: of NT-Xent.
        joint_forward: both views in one forward pass, so that they share batch statistics; the paper has two.
        optimizer: called with the parameters.
        schedule: called with the optimiser, `steps_per_epoch` and `total_steps`; stepped at every iteration.

    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        projection_dim: int,
        temperature: float,
        joint_forward: bool,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., LRScheduler],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim), nn.ReLU(), nn.Linear(encoder.dim, projection_dim)
        )
        self.temperature = temperature
        self.joint_forward = joint_forward
        self.optimizer = optimizer
        self.schedule = schedule

    def configure_model(self) -> None:
        """Lay the convolutions' weights out as the images are: channels last."""
        self.encoder.to(memory_format=torch.channels_last)

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch whose crops are (B, view 2, scale 2, 3, S, S), degraded and normalised."""
        views = batch.crops.permute(1, 2, 0, 3, 4, 5).flatten(1, 2)  # (view, scale·B): [A_full; A_half], [B_full; …
        if self.joint_forward:
            first, second = self.project(views.flatten(0, 1)).chunk(2)
        else:
            first, second = self.project(views[0]), self.project(views[1])
        loss = nt_xent(first, second, self.temperature, dist.group.WORLD if dist.is_initialized() else None)
        pairs = len(batch.crops)
        self.log("train/loss", loss, prog_bar=True, batch_size=pairs)
        self.log_dict(_similarities(first.detach(), second.detach()), batch_size=pairs)
        return loss

    def project(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, S, S) to projections (N, projection_dim), float32, not yet normalised."""
        return self.projector(self.encoder(images)).float()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the crop features (B, K, 2·D) of a batch (rows, crops (B, 2, K, 3, S, S) uint8)."""
        return self.encoder.crop_features(batch[1])

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser and its schedule for the length of this run."""
        optimizer = self.optimizer(self.parameters())
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        schedule = self.schedule(optimizer, steps_per_epoch=max(total // epochs, 1), total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the encoder, so that a checkpoint says by itself how to rebuild it."""
        checkpoint["encoder"] = self.encoder.name


def _similarities(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Return the mean cosine similarity of positives, hard negatives and all other pairs, (N, D) projections each."""
    first, second = functional.normalize(first, dim=1), functional.normalize(second, dim=1)
    with torch.autocast(first.device.type, enabled=False):
        cosines = first @ second.T
    positive = cosines.diagonal().mean()
    pairs = len(first) // 2
    hard = (first[:pairs] * first[pairs:]).sum(1).mean()
    negative = (cosines.sum() - cosines.trace()) / (cosines.numel() - len(first))
    return {
        "train/positive_similarity": positive,
        "train/hard_negative_similarity": hard,
        "train/negative_similarity": negative,
    }
