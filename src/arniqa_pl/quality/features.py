"""Frozen features of a list of images, kept row by row in one file on disk."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from numpy.lib.format import open_memmap, write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from arniqa_pl.data.datasets import ImageCrops
from arniqa_pl.errors import InputError, writing
from arniqa_pl.models.encoder import Encoder

log = logging.getLogger(__name__)

Array = NDArray[np.floating]

_BLOCK_ROWS = 256
_UNIT_TOLERANCE = 1e-3  # of squared lengths in float32


def broken_rows(features: Array) -> NDArray[np.int64]:
    """Return the rows of features (N, K, 2·D) that hold a NaN or an infinite value; reads a block at a time."""
    return _rows_without(features, lambda block: np.all(np.isfinite(block), axis=(1, 2)))


def unfinished_rows(features: Array) -> NDArray[np.int64]:
    """Return the rows of an encoder's features (N, K, 2·D) in which a half has not the length 1; reads blocks.

    That finds what was never written (NaN), what a file system lost (zeros), and most other damage.
    """

    def finished(block: Array) -> NDArray[np.bool_]:
        halves = block.reshape(*block.shape[:2], 2, -1)
        with np.errstate(over="ignore", invalid="ignore"):  # of what is damaged
            squares = np.einsum("nksd,nksd->nks", halves, halves)
        return np.all(np.abs(squares - 1) < _UNIT_TOLERANCE, axis=(1, 2))

    return _rows_without(features, finished)


def _rows_without(features: Array, complete: Callable[[Array], Any]) -> NDArray[np.int64]:
    starts = range(0, len(features), _BLOCK_ROWS)
    found = [complete(features[start : start + _BLOCK_ROWS]) for start in starts]
    return np.flatnonzero(~np.concatenate([np.empty(0, bool), *found]))


class _Extraction(LightningModule):
    """Writes the features of those images that have none yet into an .npy file, a row for each image.

    The file is born full of NaN, so a row is finished when its features have unit length, whatever killed the process
    that wrote it. Ranks, on any node that sees the file, may hold any rows, in any order.
    """

    def __init__(
        self, encoder: Encoder, images: ImageCrops, *, file: Path, shape: tuple[int, int, int], **loader: Any
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.images = images
        self.file = file
        self.shape = shape
        self.loader = loader
        self.lock: IO[bytes] | None = None
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.start = 0
        self.prepare_data_per_node = False

    def prepare_data(self) -> None:
        """Make the file, on rank 0, and keep other commands off it: the kernel frees the lock if this process dies."""
        with writing(self.file):
            self.lock = self.file.open("ab")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Waiting for another command that extracts the same features")
            fcntl.flock(self.lock, fcntl.LOCK_EX)
        _make_room(self.file, self.shape)

    def setup(self, stage: str) -> None:
        """Find the unfinished rows: the same on every rank, for none of them writes before all are through here."""
        stored = open_memmap(self.file, mode="r")
        self.start = stored.offset
        self.rows = unfinished_rows(stored)
        if not len(self.rows):
            self.trainer.limit_predict_batches = 0
        elif len(self.rows) < len(stored):
            log.info("%d of %d images have features already", len(stored) - len(self.rows), len(stored))

    def predict_dataloader(self) -> DataLoader[tuple[int, Tensor]]:
        """Return a loader of the unfinished rows, at least one for each rank."""
        rows = np.resize(self.rows, max(len(self.rows), self.trainer.world_size))
        return DataLoader(Subset(self.images, rows.tolist()), pin_memory=torch.cuda.is_available(), **self.loader)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Map (rows, crops (B, 2, K, 3, S, S) uint8) to features in the file; return the rows.

        A last, smaller batch is filled up with its last image: at another size libraries take other algorithms, whose
        rounding would depend on how many ranks there are, and on where an interrupted command stopped.
        """
        rows, crops = batch
        filled = torch.arange(min(self.loader["batch_size"], len(self.images))).clamp(max=len(rows) - 1)
        features = self.encoder.crop_features(crops[filled]).float().cpu().numpy()
        with writing(self.file), self.file.open("r+b") as stream:
            for row, values in zip(rows.tolist(), features[: len(rows)], strict=True):
                stream.seek(self.start + row * values.nbytes)
                stream.write(values.tobytes())
        return rows

    def teardown(self, stage: str) -> None:
        """Wait until every rank has written its rows."""
        self.trainer.strategy.barrier()

    def release(self) -> None:
        """Let other commands have the file."""
        if self.lock is not None:
            fcntl.flock(self.lock, fcntl.LOCK_UN)  # loader processes have the file open too
            self.lock.close()


def _make_room(file: Path, shape: tuple[int, int, int]) -> None:
    """Make a file of NaN, unless there is one of this shape already."""
    try:
        stored = open_memmap(file, mode="r")
        if stored.shape == shape and stored.dtype == np.float32:
            return
        found = f"{stored.dtype} {stored.shape}"
    except ValueError as error:
        found = str(error)
    if file.stat().st_size:
        log.warning("Wanted float32 %s in the feature cache %s, found %s: making it anew", shape, file, found)
    row = np.full(shape[1:], np.nan, "<f4").tobytes()
    os.truncate(file, 0)
    try:
        with writing(file), file.open("r+b") as stream:
            write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for _ in range(shape[0]):
                stream.write(row)
    except InputError:
        os.truncate(file, 0)  # nobody can use a part of it, and the disk may be full
        raise


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
    short_side: int | None = None,
) -> NDArray[np.float32]:
    """Return the crop features of images; those that the cache holds are not computed again.

    The cache is a file for each combination of encoder weights, images, crops and precision. What an interrupted
    command finished is kept, a damaged file is made anew, and commands that want the same features take turns.

    Args:
        encoder: used as it is, in evaluation mode.
        paths: (N,) image files.
        trainer: builds the Trainer that shares out the images over its devices.
        cache_dir: where features are kept; all nodes must see it.
        crop_size: side S of the crops, in pixels.
        crops: K, 1 (centre) or 5 (centre and corners), at both scales.
        batch_size: images per forward pass.
        num_workers: loader processes.
        short_side: images are first resized to this, in pixels; None: they are not.

    Returns:
        (N, K, 2·D) float32, memory-mapped and read-only: full-scale features, then half-scale ones.

    Raises:
        InputError: an image cannot be read, or a feature is NaN, infinite or all zeros: the message names the images;
            or the cache cannot be written.

    """
    folder = Path(cache_dir)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    whole = {"fast_dev_run": False, "limit_predict_batches": 1.0}  # a cache of half the rows would be a lie
    runner = trainer(callbacks=[TQDMProgressBar()], logger=False, enable_checkpointing=False, **whole)
    file = folder / f"{_fingerprint(encoder, paths, crop_size, crops, short_side, runner.precision)}.npy"
    extraction = _Extraction(
        encoder,
        ImageCrops(paths, crop_size=crop_size, crops=crops, short_side=short_side),
        file=file,
        shape=(len(paths), crops, 2 * encoder.dim),
        batch_size=batch_size,
        num_workers=num_workers,
    )
    try:
        runner.predict(extraction, return_predictions=False)
    finally:
        extraction.release()
    features = np.load(file, mmap_mode="r")
    broken = unfinished_rows(features)
    if len(broken):
        names = ", ".join(str(paths[row]) for row in broken[:3])
        raise InputError(
            f"Wanted features of length 1, the encoder gives NaN, infinite or zero ones for {len(broken)} of "
            f"{len(paths)} images ({names}{', …' if len(broken) > 3 else ''}): look at its weights, or try "
            "trainer.precision=32-true."
        )
    return features


def _fingerprint(encoder: Encoder, paths: Sequence[Path], *settings: object) -> str:
    """Hash whatever the features depend on; an image file is known by path, size and time of change."""
    state = hashlib.sha256(repr((encoder.name, settings)).encode())
    for name, value in encoder.state_dict().items():
        state.update(name.encode())
        state.update(value.detach().cpu().contiguous().numpy().tobytes())
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise InputError(f"Wanted the image {path}, could not find out its size: {error.strerror}.") from error
        state.update(repr((str(path.resolve()), stat.st_size, stat.st_mtime_ns)).encode())
    return state.hexdigest()[:24]
