from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Generator, Tensor
from torch.utils.data import DataLoader

from arniqa_pl.data.databases import Database
from arniqa_pl.data.datasets import CropPairs, ImageCrops, PairBatch, collate_pairs, derive_seed
from arniqa_pl.data.images import normalize, to_unit
from arniqa_pl.data.loading import EpochLoader, EpochSampler
from arniqa_pl.data.pristine import Photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.errors import InputError

HELD_OUT = 2**32 - 1  # an epoch that no training reaches: its crops, compositions and noise are never trained on


class PretrainingData(LightningDataModule):
    """Crop pairs of pristine photographs, degraded on the device; database images for validation.

    Args:
        photos: pristine photographs.
        degradation: draws the compositions (in the loader) and applies them (on the device).
        databases: validated on after each epoch.
        crop_size: side S of the crops that are trained on, in pixels.
        padding: of photographs smaller than a crop: "zeros" or "reflect".
        batch_size: pairs per step and device; a step sees four crops of each.
        samples_per_epoch: pairs in an epoch; None: one for each photograph.
        partner: see `CropPairs`.
        half_scale: see `random_crops`.
        num_workers: loader processes; the run does not depend on it.
        unreadable: "replace" or "stop", when a photograph cannot be decoded.
        cache_images: decoded photographs that each worker keeps.
        validation_crop_size: side of the crops of database images.
        validation_crops: 1 (centre) or 5 (centre and corners) at both scales.
        validation_pairs: held-out pairs, which show how well the encoder sorts by degradation, without any labels.
        seed: fixes pairs, places, compositions and noise.

    """

    def __init__(
        self,
        *,
        photos: Photos,
        degradation: DegradationModel,
        databases: Mapping[str, Database],
        crop_size: int,
        padding: str,
        batch_size: int,
        samples_per_epoch: int | None,
        partner: str,
        half_scale: str,
        num_workers: int,
        unreadable: str,
        cache_images: int,
        validation_crop_size: int,
        validation_crops: int,
        validation_pairs: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.photos = photos
        self.degradation = degradation
        self.databases = databases
        self.crop_size = crop_size
        self.padding = padding
        self.batch_size = batch_size
        self.length = samples_per_epoch or len(photos)
        self.partner = partner
        self.half_scale = half_scale
        self.num_workers = num_workers
        self.unreadable = unreadable
        self.cache_images = cache_images
        self.validation_crop_size = validation_crop_size
        self.validation_crops = validation_crops
        self.validation_pairs = validation_pairs
        self.seed = seed
        self._loader: EpochLoader | None = None
        self._position: dict[str, int] | None = None
        self._stream: torch.cuda.Stream | None = None  # of the degradation

    def state_dict(self) -> dict[str, Any]:
        """Return where in the epoch the training is."""
        return self._loader.state_dict() if self._loader else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Have the next training loader continue there.

        Lightning hands a loader its own state only if nobody asked for the run's length before, as the schedule does.
        """
        self._position = state_dict

    def train_dataloader(self) -> EpochLoader:
        """Return batches of crop pairs as uint8."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.length < self.batch_size * ranks:
            raise InputError(
                f"Wanted at least one full batch of {self.batch_size} pairs on each of {ranks} devices in an epoch, "
                f"found {self.length} pairs: lower data.batch_size, or raise data.samples_per_epoch."
            )
        pairs = self._pairs(self.length)
        self._loader = EpochLoader(
            pairs,
            batch_size=self.batch_size,
            sampler=EpochSampler(pairs, num_replicas=ranks, rank=rank, seed=self.seed, drop_last=True),
            collate_fn=collate_pairs,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
        )
        if self._position:
            self._loader.load_state_dict(self._position)
        return self._loader

    def val_dataloader(self) -> list[DataLoader[Any]]:
        """Return a loader for each database, in their order, then one of the held-out pairs."""
        settings: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": torch.cuda.is_available()}
        loaders: list[DataLoader[Any]] = [
            DataLoader(
                ImageCrops(
                    database.paths,
                    crop_size=self.validation_crop_size,
                    crops=self.validation_crops,
                    short_side=database.short_side,
                ),
                batch_size=self.batch_size,
                **settings,
            )
            for database in self.databases.values()
        ]
        if self.validation_pairs:
            pairs = self._pairs(self.validation_pairs, own_epoch=HELD_OUT)
            batch_size = min(self.batch_size, self.validation_pairs)
            loaders.append(DataLoader(pairs, batch_size, collate_fn=collate_pairs, drop_last=True, **settings))
        return loaders

    def _pairs(self, length: int, own_epoch: int = 0) -> CropPairs:
        return CropPairs(
            self.photos,
            length=length,
            crop_size=self.crop_size,
            padding=self.padding,
            degradation=self.degradation,
            partner=self.partner,
            half_scale=self.half_scale,
            seed=self.seed,
            unreadable=self.unreadable,
            cache_images=self.cache_images,
            own_epoch=own_epoch,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to the device; degrade and normalise crop pairs there.

        On CUDA, on a stream of its own: the trainer asks for a batch as soon as the step before is queued, so that what
        the GPU has left of that step and the degradation run side by side. The step waits for it, the CPU does not.
        """
        if device.type != "cuda":
            return self._arrived(super().transfer_batch_to_device(batch, device, dataloader_idx))
        self._stream = self._stream or torch.cuda.Stream(device)
        training = torch.cuda.current_stream(device)
        with torch.cuda.stream(self._stream):
            batch = self._arrived(super().transfer_batch_to_device(batch, device, dataloader_idx))
        training.wait_stream(self._stream)
        for part in batch:
            if isinstance(part, Tensor):
                part.record_stream(training)  # its memory is not given away while the step reads it
        return batch

    def _arrived(self, batch: Any) -> Any:
        return self.degrade(batch) if isinstance(batch, PairBatch) else batch

    def degrade(self, batch: PairBatch) -> PairBatch:
        """Return the batch with its crops degraded by its compositions, and normalised.

        The noise is drawn on the crops' device, from (seed, epoch, first index, rank).
        """
        rank = self.trainer.global_rank if self.trainer else 0
        noise = Generator(batch.crops.device).manual_seed(derive_seed(self.seed, *batch.key, rank))
        degraded = self.degradation.apply(to_unit(batch.crops), batch.composition, noise)
        return batch._replace(crops=normalize(degraded))
