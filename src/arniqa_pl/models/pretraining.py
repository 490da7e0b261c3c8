from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.errors import InputError
from arniqa_pl.models.contrastive import nt_xent
from arniqa_pl.models.encoder import Encoder
from arniqa_pl.models.measures import measure_views


class NonFiniteLossError(InputError):
    """The loss is infinite or not a number: the settings let the training diverge."""


class Pretraining(LightningModule):
    """Learns a distortion manifold: equally degraded crops of different photographs are drawn together.

    Half-scale crops go along as hard negatives: same photograph, same degradation, other scale (ARNIQA, section 3.2).

    Args:
        encoder: what is trained; kept, and frozen, after pre-training.
        projection_dim: length of the projections that the loss compares.
        temperature: of NT-Xent.
        joint_forward: both views in one forward pass, so that they share batch statistics; the paper has two.
        compile_encoder: through `torch.compile`, which takes minutes at first and pays off on a GPU.
        optimizer: called with the parameters.
        schedule: called with the optimiser, `steps_per_epoch` and `total_steps`; stepped at every iteration.
        rate_rule: how the optimiser's rate grows with the pairs of a step over all devices: not, in proportion (Goyal
            et al., 2017), or with the square root (Krizhevsky, 2014). The paper's run is on one device: none.
        rate_pairs: the pairs of a step for which the optimiser's rate is meant.

    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        projection_dim: int,
        temperature: float,
        joint_forward: bool,
        compile_encoder: bool,
        optimizer: Callable[..., Optimizer],
        schedule: Callable[..., LRScheduler],
        rate_rule: Literal["none", "linear", "sqrt"],
        rate_pairs: int,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = nn.Sequential(
            nn.Linear(encoder.dim, encoder.dim), nn.ReLU(), nn.Linear(encoder.dim, projection_dim)
        )
        self.temperature = temperature
        self.joint_forward = joint_forward
        self.compile_encoder = compile_encoder
        self.optimizer = optimizer
        self.schedule = schedule
        self.rate_rule = rate_rule
        self.rate_pairs = rate_pairs

    def configure_model(self) -> None:
        """Lay the convolutions' weights out as the images are: channels last."""
        self.encoder.to(memory_format=torch.channels_last)
        if self.compile_encoder:
            self.encoder.compile()

    def training_step(self, batch: PairBatch, batch_idx: int) -> Tensor:
        """Return the loss of a batch whose crops are (B, view 2, scale 1 or 2, 3, S, S), degraded and normalised.

        Raises:
            NonFiniteLossError: names the step and its compositions. To ask, the CPU waits for the forward pass.

        """
        views = _by_view(batch)
        if self.joint_forward:
            first, second = self.project(views.flatten(0, 1)).chunk(2)
        else:
            first, second = self.project(views[0]), self.project(views[1])
        loss = nt_xent(first, second, self.temperature, dist.group.WORLD if dist.is_initialized() else None)
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"Wanted a finite loss, found {loss.item()} at step {self.global_step} (epoch {batch.key[0]}, batch of "
                f"the pair {batch.key[1]}): lower optimizer.lr, or compute in trainer.precision=32-true. Compositions "
                f"of the batch: {list(batch.composition)}"
            )
        pairs = len(batch.crops)
        self.log("train/loss", loss, prog_bar=True, batch_size=pairs)
        measures = measure_views(first, second, batch.crops.shape[2])
        self.log_dict({f"train/{name}": value for name, value in measures.items()}, batch_size=pairs)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the learning rate, and the length of the gradient if the trainer is about to log."""
        self.log("train/lr", optimizer.param_groups[0]["lr"])
        if (self.global_step + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            gradients = [weight.grad for weight in self.parameters() if weight.grad is not None]
            self.log("train/gradient_norm", get_total_norm(gradients))

    def project(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, S, S) to projections (N, projection_dim), not yet normalised."""
        return self.projector(self.encoder(images))

    def validation_step(
        self, batch: PairBatch | tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> Tensor | None:
        """Return the crop features (B, K, 2·D) of a batch (rows, crops (B, 2, K, 3, S, S) uint8) of database images.

        Of held-out pairs, log how well the features sort them: `val/retrieved`, `val/uniformity`, …
        """
        if not isinstance(batch, PairBatch):
            return self.encoder.crop_features(batch[1])
        first, second = (self.encoder(view) for view in _by_view(batch))
        measures = measure_views(first, second, batch.crops.shape[2])
        self.log_dict(
            {f"val/{name}": value for name, value in measures.items()},
            batch_size=len(batch.crops),
            add_dataloader_idx=False,
            sync_dist=True,
        )
        return None

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Build the optimiser and its schedule for the length of this run."""
        optimizer = self.optimizer(self.parameters())
        for group in optimizer.param_groups:
            group["lr"] *= self._rate_factor()
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        schedule = self.schedule(optimizer, steps_per_epoch=max(total // epochs, 1), total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _rate_factor(self) -> float:
        """Return what the rule makes of the pairs that an optimiser step sees, on all devices together."""
        if self.rate_rule == "none":
            return 1.0
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        pairs = data.batch_size * self.trainer.world_size * self.trainer.accumulate_grad_batches
        factor = pairs / self.rate_pairs
        return factor if self.rate_rule == "linear" else factor**0.5

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the encoder, so that a checkpoint says by itself how to rebuild it."""
        checkpoint["encoder"] = self.encoder.name


def _by_view(batch: PairBatch) -> Tensor:
    """Return the crops as (view 2, scale·B, 3, S, S): [A_full; A_half], [B_full; B_half]."""
    return batch.crops.permute(1, 2, 0, 3, 4, 5).flatten(1, 2)
