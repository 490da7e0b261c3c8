"""Frozen features of a list of images, written row by row to one file on disk."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, TQDMProgressBar
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from arniqa_pl.data.datasets import ImageCrops
from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import Encoder


class _Extraction(LightningModule):
    """Maps batches (rows, crops (B, 2, K, 3, S, S) uint8) to (rows, features (B, K, 2·D))."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> tuple[Tensor, Tensor]:
        rows, crops = batch
        return rows, self.encoder.crop_features(crops)


class _RowWriter(BasePredictionWriter):
    """Writes features to a memory-mapped array by row number: ranks may hold any rows, in any order.

    The file gets its name when every row is there, so that a file of that name can be trusted.
    """

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        super().__init__(write_interval="batch")
        self.file = file
        self.shape = shape
        self.unfinished = file
        self.features: Any = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Named after the first rank's process: two commands may extract the same features at once.
        self.unfinished = trainer.strategy.broadcast(self.file.with_suffix(f".{os.getpid()}"))
        if trainer.is_global_zero:
            open_memmap(self.unfinished, mode="w+", dtype=np.float32, shape=self.shape)[:] = np.nan
        trainer.strategy.barrier()
        self.features = open_memmap(self.unfinished, mode="r+")

    def write_on_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, prediction: Any, *args: Any, **kwargs: Any
    ) -> None:
        rows, features = prediction
        self.features[rows.cpu().numpy()] = features.float().cpu().numpy()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.features.flush()
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            broken = np.flatnonzero(np.isnan(self.features[:, 0, 0]))
            if len(broken):
                self.unfinished.unlink()
                raise InputError(f"Wanted features of {self.shape[0]} images, {len(broken)} are NaN or were not made.")
            self.unfinished.replace(self.file)
        trainer.strategy.barrier()


def extract_features(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    trainer: Callable[..., Trainer],
    cache_dir: Path | str,
    crop_size: int,
    crops: int,
    batch_size: int,
    num_workers: int,
) -> NDArray[np.float32]:
    """Return the crop features of images, from the cache if they are there.

    Args:
        encoder: used as it is, in evaluation mode.
        paths: (N,) image files.
        trainer: builds the Trainer that shares out the images over its devices.
        cache_dir: where the features of this encoder, these images and these crops are kept.
        crop_size: side S of the crops, in pixels.
        crops: K, 1 (centre) or 5 (centre and corners), at both scales.
        batch_size: images per forward pass.
        num_workers: loader processes.

    Returns:
        (N, K, 2·D) float32, memory-mapped and read-only: full-scale features, then half-scale ones.

    """
    folder = Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    probe = trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    file = folder / f"{_fingerprint(encoder, paths, crop_size, crops, probe.precision)}.npy"
    if not file.is_file():
        writer = _RowWriter(file, (len(paths), crops, 2 * encoder.dim))
        whole = {"fast_dev_run": False, "limit_predict_batches": 1.0}  # a cache of half the rows would be a lie
        runner = trainer(callbacks=[writer, TQDMProgressBar()], logger=False, enable_checkpointing=False, **whole)
        images = ImageCrops(paths, crop_size=crop_size, crops=crops)
        loader = DataLoader(images, batch_size, num_workers=num_workers, pin_memory=torch.cuda.is_available())
        runner.predict(_Extraction(encoder), loader, return_predictions=False)
    return np.load(file, mmap_mode="r")


def _fingerprint(encoder: Encoder, paths: Sequence[Path], *settings: object) -> str:
    """Hash whatever the features depend on; an image file is known by path, size and time of change."""
    state = hashlib.sha256(repr((encoder.name, settings)).encode())
    for name, value in encoder.state_dict().items():
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    for path in paths:
        stat = path.stat()
        state.update(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode())
    return state.hexdigest()[:24]
