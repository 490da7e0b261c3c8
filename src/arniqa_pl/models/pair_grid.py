from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import MLFlowLogger
from matplotlib.figure import Figure

from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.data.images import denormalize

_COLUMNS = ("A, full scale", "A, half scale", "B, full scale", "B, half scale")


class PairGrid(Callback):
    """Shows on the tracking server what the encoder sees: the first batch's pairs with their compositions."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw the first batch of the run."""
        if trainer.global_step == 0 and trainer.is_global_zero and isinstance(trainer.logger, MLFlowLogger):
            figure = pair_figure(batch, self.pairs)
            trainer.logger.experiment.log_figure(trainer.logger.run_id, figure, "figures/degraded_pairs.png")


def pair_figure(batch: PairBatch, pairs: int) -> Figure:
    """Draw the first pairs of a degraded and normalised batch: a row each, captioned with its composition."""
    pairs = min(pairs, len(batch.crops))
    figure = Figure(figsize=(9, 2.45 * pairs), layout="constrained")
    for row, axes in enumerate(figure.subplots(pairs, len(_COLUMNS), squeeze=False)):
        crops = denormalize(batch.crops[row].float()).clamp(0, 1).flatten(0, 1).permute(0, 2, 3, 1).cpu()
        chain = " → ".join(f"{name.replace('_', ' ')} {level}" for name, level in batch.composition[row])
        for column, (axis, crop) in enumerate(zip(axes, crops, strict=True)):
            axis.imshow(crop.numpy(), interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
            if row == 0:
                axis.set_title(_COLUMNS[column], fontsize=10, color="gray")
        axes[0].annotate(
            chain or "pristine",
            (0, 0),
            (0, -4),
            "axes fraction",
            textcoords="offset points",
            va="top",
            fontsize=10,
        )
    return figure
