import resource
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Throughput(Callback):
    """Logs how fast the training goes, each time the trainer logs, validation left out.

    `train/crops_per_second` over all devices, `train/data_wait` (share of the time in which the training waited for
    the loader), `train/minutes_left`, and `train/peak_memory_gb` of the first device, or else of the process, in 10⁹
    bytes. Lightning's ThroughputMonitor waits for the GPU after every batch; this one reads the clock when it logs.
    """

    def __init__(self) -> None:
        self._started = self._waited = 0.0
        self._crops = self._steps = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._restart(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of a run that continues within an epoch."""
        self._restart(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch's crops."""
        self._crops += batch.crops.shape[:3].numel() * trainer.world_size
        self._steps += 1
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            seconds = time.perf_counter() - self._started
            left = trainer.estimated_stepping_batches - trainer.global_step
            measures = {
                "train/crops_per_second": self._crops / seconds,
                "train/data_wait": (_waited(trainer) - self._waited) / seconds,
                "train/peak_memory_gb": _peak_memory(pl_module.device) / 1e9,
            }
            pl_module.log_dict(measures, rank_zero_only=True)
            pl_module.log("train/minutes_left", left * seconds / self._steps / 60, prog_bar=True, rank_zero_only=True)
            self._restart(trainer)

    def _restart(self, trainer: Trainer) -> None:
        self._started, self._waited = time.perf_counter(), _waited(trainer)
        self._crops = self._steps = 0


def _waited(trainer: Trainer) -> float:
    return trainer.train_dataloader.waited if trainer.train_dataloader is not None else 0.0


def _peak_memory(device: torch.device) -> int:
    """Return the largest number of bytes that were in use at once."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # kibibytes, on Linux
