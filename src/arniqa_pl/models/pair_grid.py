from typing import Any

from lightning import Callback, LightningModule, Trainer
from matplotlib.figure import Figure

from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.data.images import denormalize
from arniqa_pl.tracking import RunLogger

_COLUMNS = ("A, full scale", "A, half scale", "B, full scale", "B, half scale")


class PairGrid(Callback):
    """Shows on the tracking server what the encoder sees: the first batch's pairs with their compositions."""

    def __init__(self, pairs: int) -> None:
        self.pairs = pairs

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Draw the first batch of the run."""
        if trainer.global_step == 0 and trainer.is_global_zero and isinstance(trainer.logger, RunLogger):
            figure = pair_figure(batch, self.pairs)
            trainer.logger.log_figure(figure, "figures/degraded_pairs.png")


def pair_figure(batch: PairBatch, pairs: int) -> Figure:
    """Draw the first pairs of a degraded and normalised batch: a row each, captioned with its composition."""
    pairs = min(pairs, len(batch.crops))
    figure = Figure(figsize=(8, 2.25 * pairs))
    margins = {"left": 0.01, "right": 0.99, "top": 1 - 0.25 / (2.25 * pairs), "bottom": 0.25 / (2.25 * pairs)}
    titles = _COLUMNS if batch.crops.shape[2] == 2 else _COLUMNS[::2]
    grid = figure.subplots(pairs, len(titles), squeeze=False, gridspec_kw={"hspace": 0.16, "wspace": 0.03, **margins})
    for row, axes in enumerate(grid):
        crops = denormalize(batch.crops[row].float()).clamp(0, 1).flatten(0, 1).permute(0, 2, 3, 1).cpu()
        for title, axis, crop in zip(titles, axes, crops, strict=True):
            axis.imshow(crop.numpy(), interpolation="nearest", aspect="auto")
            axis.set_axis_off()
            if row == 0:
                axis.set_title(title, fontsize=10, color="gray")
        chain = " → ".join(f"{name.replace('_', ' ')} ({level})" for name, level in batch.composition[row])
        axes[0].text(0, -0.02, chain or "pristine", transform=axes[0].transAxes, va="top", fontsize=9)
    return figure
