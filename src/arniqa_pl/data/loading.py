import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import DataLoader, DistributedSampler

from arniqa_pl.data.datasets import PairBatch


class EpochSampler(DistributedSampler[PairBatch]):
    """Yields (epoch, index), so that a sample can be drawn from its numbers alone.

    Lightning sets the epoch, and leaves a DistributedSampler as it is.

    Attributes:
        entered: an epoch, and how many of its samples an interrupted run has already seen.

    """

    entered = (0, 0)

    @property
    def seen(self) -> int:
        """How many samples of this epoch are left out."""
        return self.entered[1] if self.epoch == self.entered[0] else 0

    def __iter__(self) -> Iterator[Any]:
        epoch = self.epoch
        return ((epoch, index) for index in islice(super().__iter__(), self.seen, None))


class EpochLoader(DataLoader[PairBatch]):
    """A loader over an EpochSampler that can be left and entered in the middle of an epoch.

    Attributes:
        waited: seconds that the training has waited for batches so far.

    """

    sampler: EpochSampler
    batch_size: int
    waited = 0.0
    _given = 0

    def __iter__(self) -> Iterator[PairBatch]:  # type: ignore[override]  # runs at the first batch: the epoch is set
        sampler = self.sampler  # Lightning's overfit_batches puts one of its own here
        self._given = sampler.seen // self.batch_size if isinstance(sampler, EpochSampler) else 0
        batches = super().__iter__()
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - started
            if batch is None:
                return
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the epoch, and how many of its batches were given out."""
        return {"epoch": self.sampler.epoch, "batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue in that epoch, behind these batches."""
        self.sampler.entered = (state["epoch"], state["batches"] * self.batch_size)
