from functools import partial

import lightning
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from arniqa_pl.data.databases import Database
from arniqa_pl.data.splits import draw_splits
from arniqa_pl.quality.regression import validate
from arniqa_pl.quality.validation import RidgeValidation

FEATURES = torch.randn(31, 2, 6, generator=torch.Generator().manual_seed(0))
SCORES = FEATURES.mean(1) @ torch.arange(6.0) + torch.randn(31, generator=torch.Generator().manual_seed(1))


class Rows(Dataset):
    def __len__(self) -> int:
        return len(FEATURES)

    def __getitem__(self, row: int) -> tuple[int, torch.Tensor]:
        return row, FEATURES[row]


class PassOn(lightning.LightningModule):
    """Validates on features that are there already."""

    def validation_step(self, batch, batch_idx):
        return batch[1]


def logged(devices: int, databases, splits, **settings) -> dict[str, float]:
    trainer = partial(lightning.Trainer, accelerator="cpu", logger=False, enable_checkpointing=False)
    strategy = "ddp_spawn" if devices > 1 else "auto"
    validation = RidgeValidation(databases, splits, alpha=0.1)
    runner = trainer(devices=devices, strategy=strategy, callbacks=[validation], enable_progress_bar=False, **settings)
    (metrics,) = runner.validate(PassOn(), DataLoader(Rows(), batch_size=4), verbose=False)
    return metrics


@pytest.fixture
def problem(tmp_path):
    table = pd.DataFrame({"image": range(31), "score": SCORES, "group": range(31), "distortion": "", "level": 0})
    splits = draw_splits(range(31), count=3)
    return {"own": Database("own", tmp_path, table, (0.0, 1.0), True)}, {"own": splits}


def test_two_processes_log_what_one_logs(problem):
    databases, splits = problem
    one, two = (logged(devices, databases, splits) for devices in (1, 2))
    srcc, plcc = validate(FEATURES.numpy(), SCORES.numpy().astype(np.float64), splits["own"], alpha=0.1)
    wanted = {"val/own/srcc": srcc, "val/own/plcc": plcc, "val/srcc": srcc}
    assert one == pytest.approx(wanted)
    assert two == pytest.approx(wanted)


def test_a_shortened_validation_logs_no_figure(problem):
    assert np.isnan(logged(1, *problem, limit_val_batches=2)["val/srcc"])
