from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Generator, Tensor
from torch.utils.data import DataLoader, DistributedSampler

from arniqa_pl.data.databases import Database
from arniqa_pl.data.datasets import CropPairs, ImageCrops, PairBatch, collate_pairs, derive_seed
from arniqa_pl.data.images import normalize, to_unit
from arniqa_pl.data.pristine import Photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.errors import InputError


class EpochSampler(DistributedSampler[PairBatch]):
    """Yields (epoch, index), so that a sample can be drawn from its numbers alone.

    Lightning sets the epoch, and leaves a DistributedSampler as it is.
    """

    def __iter__(self) -> Iterator[Any]:
        return ((self.epoch, index) for index in super().__iter__())


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
        num_workers: loader processes; the run does not depend on it.
        unreadable: "replace" or "stop", when a photograph cannot be decoded.
        cache_images: decoded photographs that each worker keeps.
        validation_crop_size: side of the crops of database images.
        validation_crops: 1 (centre) or 5 (centre and corners) at both scales.
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
        num_workers: int,
        unreadable: str,
        cache_images: int,
        validation_crop_size: int,
        validation_crops: int,
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
        self.num_workers = num_workers
        self.unreadable = unreadable
        self.cache_images = cache_images
        self.validation_crop_size = validation_crop_size
        self.validation_crops = validation_crops
        self.seed = seed

    def train_dataloader(self) -> DataLoader[PairBatch]:
        """Return batches of crop pairs as uint8."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        if self.length < self.batch_size * ranks:
            raise InputError(
                f"Wanted at least one full batch of {self.batch_size} pairs on each of {ranks} devices in an epoch, "
                f"found {self.length} pairs: lower data.batch_size, or raise data.samples_per_epoch."
            )
        pairs = CropPairs(
            self.photos,
            length=self.length,
            crop_size=self.crop_size,
            padding=self.padding,
            degradation=self.degradation,
            seed=self.seed,
            unreadable=self.unreadable,
            cache_images=self.cache_images,
        )
        return DataLoader(
            pairs,
            batch_size=self.batch_size,
            sampler=EpochSampler(pairs, num_replicas=ranks, rank=rank, seed=self.seed),
            collate_fn=collate_pairs,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=True,
        )

    def val_dataloader(self) -> list[DataLoader[tuple[int, Tensor]]]:
        """Return a loader for each database, in their order."""
        return [
            DataLoader(
                ImageCrops(
                    database.paths,
                    crop_size=self.validation_crop_size,
                    crops=self.validation_crops,
                    short_side=database.short_side,
                ),
                batch_size=self.batch_size,
                num_workers=self.num_workers,
                pin_memory=torch.cuda.is_available(),
            )
            for database in self.databases.values()
        ]

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Degrade and normalise crop pairs where they are now: on the device."""
        return self.degrade(batch) if isinstance(batch, PairBatch) else batch

    def degrade(self, batch: PairBatch) -> PairBatch:
        """Return the batch with its crops degraded by its compositions, and normalised.

        The noise is drawn on the crops' device, from (seed, epoch, first index, rank).
        """
        rank = self.trainer.global_rank if self.trainer else 0
        noise = Generator(batch.crops.device).manual_seed(derive_seed(self.seed, *batch.key, rank))
        degraded = self.degradation.apply(to_unit(batch.crops), batch.composition, noise)
        return batch._replace(crops=normalize(degraded))
