"""What an interrupted run continues from: files that are whole or not there, the newest and the one before it."""

import logging
import os
import signal
import time
import zipfile
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import SIGTERMException

from arniqa_pl.errors import writing
from arniqa_pl.models.encoder import read_weights
from arniqa_pl.models.pretraining import NonFiniteLossError

log = logging.getLogger(__name__)

LAST, PREVIOUS, NON_FINITE = "last.ckpt", "previous.ckpt", "non_finite.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints on local disks that survive a crash at any moment, read without unpickling foreign objects."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Path | str, storage_options: Any = None) -> None:
        """Write beside the file, to the disk, then rename: under its name stands the old one or the new one.

        Raises:
            InputError: the disk is full, or cannot be written.

        """
        file = Path(path)
        unfinished = file.with_suffix(".unfinished")
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                with unfinished.open("wb") as stream:
                    torch.save(checkpoint, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                unfinished.replace(file)
            finally:
                unfinished.unlink(missing_ok=True)  # on a full disk, the journal needs the room
        _sync_folder(file.parent)

    def load_checkpoint(
        self, path: Path | str, map_location: Any = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Read tensors and plain values, whatever else is asked for.

        Raises:
            InputError: the file is damaged, or holds something else.

        """
        return read_weights(Path(path))


def _sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Restart(Checkpoint):
    """Saves `last.ckpt` for a run to continue from; the one before it stays as `previous.ckpt`.

    Saves every so many steps or minutes, at the end of each epoch, and when SIGTERM asks the run to leave: always
    between two steps, so that a run that continues takes the same steps as one that was never interrupted. Of several
    ranks it is enough that one is asked: they agree whenever the trainer logs (to ask after each step would have every
    GPU wait for it), and leave after the same step. When the loss is no longer finite, the weights and the optimiser as
    they were before that step go into `non_finite.ckpt` instead (batch-norm statistics have seen its batch).

    Args:
        folder: of the checkpoints.
        every_n_steps: None: by the clock.
        every_n_minutes: None: by steps. The clock is looked at when the trainer logs, as all ranks have to agree.

    """

    def __init__(self, *, folder: str, every_n_steps: int | None, every_n_minutes: float | None) -> None:
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.every_n_minutes = every_n_minutes
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._validates_next = False
        self._asked = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; of several ranks, hear SIGTERM.

        Lightning's own handler exchanges a message on the spot, which aborts ranks that are in the middle of another
        one. It puts the handler before it back when the training ends.
        """
        self._saved_at = time.monotonic()
        self._asked = False
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._hear)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, but not just before a validation: a run would continue behind it, without it."""
        every = trainer.val_check_batch  # None: validation goes by the clock
        self._validates_next = every is not None and (batch_idx + 1) % every == 0
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if stepped and not self._validates_next and self._due(trainer):
            # Lightning would log this step after the save: whoever is killed between them continues without its line.
            trainer._logger_connector.update_train_step_metrics()
            self._save(trainer)
        asks = stepped and trainer.world_size > 1 and _logs(trainer)
        if asks and trainer.strategy.reduce_boolean_decision(self._asked, all=False):
            trainer._signal_connector.received_sigterm = True  # Lightning ends its loop when this step is logged

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save after validation, when the best checkpoint is known."""
        self._validates_next = False
        self._save(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save when asked to leave, which Lightning does between two steps, and when the loss is not finite."""
        if isinstance(exception, SIGTERMException):
            if trainer.global_step != self._saved_step and not self._validates_next:
                self._save(trainer)
            log.warning("Asked to leave at step %d. Continue with resume=%s", trainer.global_step, self.folder.parent)
        elif isinstance(exception, NonFiniteLossError):
            trainer.save_checkpoint(self.folder / NON_FINITE)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._asked = True

    def _due(self, trainer: Trainer) -> bool:
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            return True
        if not self.every_n_minutes or not _logs(trainer):
            return False
        return trainer.strategy.broadcast(time.monotonic() - self._saved_at >= 60 * self.every_n_minutes)

    def _save(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        last = self.folder / LAST
        if trainer.is_global_zero and last.exists():
            last.replace(self.folder / PREVIOUS)
        trainer.save_checkpoint(last)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step


def _logs(trainer: Trainer) -> bool:
    return trainer.global_step % trainer.log_every_n_steps == 0  # type: ignore[attr-defined]


def newest_checkpoint(folder: Path) -> Path | None:
    """Find what a run continues from: its last checkpoint, or the one before if that is damaged; None: neither."""
    for file in (folder / LAST, folder / PREVIOUS):
        if file.exists():
            if _is_whole(file):
                return file
            log.warning("%s is damaged: continuing from the checkpoint before it.", file)
    return None


def _is_whole(file: Path) -> bool:
    """Compare the check sums of a file that torch.save wrote, which is a zip archive; torch.load does not."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError):
        return False
