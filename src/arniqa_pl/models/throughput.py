import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs `train/crops_per_second` over all devices, each time the trainer logs, validation left out.

    Lightning's ThroughputMonitor waits for the GPU after every batch; this one reads the clock only when it logs.
    """

    def __init__(self) -> None:
        self._started = 0.0
        self._crops = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started, self._crops = time.perf_counter(), 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's crops, four for each pair."""
        self._crops += batch.crops.shape[:3].numel() * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            now = time.perf_counter()
            pl_module.log("train/crops_per_second", self._crops / (now - self._started), rank_zero_only=True)
            self._started, self._crops = now, 0
