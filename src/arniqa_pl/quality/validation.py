from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from arniqa_pl.data.databases import Database
from arniqa_pl.data.splits import Split
from arniqa_pl.quality.regression import validate


class RidgeValidation(Callback):
    """Regresses each database on the encoder's present features and logs how well it predicts the validation sides.

    Logs `val/<database>/srcc` and `/plcc` (median over splits), and `val/srcc`, their mean over databases.

    Args:
        databases: in the order of the validation loaders.
        splits: of each database.
        alpha: penalty of the ridge.

    """

    def __init__(self, databases: Mapping[str, Database], splits: Mapping[str, list[Split]], alpha: float) -> None:
        self.databases = databases
        self.splits = splits
        self.alpha = alpha
        self._rows: list[list[Tensor]] = []
        self._features: list[list[Tensor]] = []

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget what an earlier validation saw."""
        self._rows = [[] for _ in self.databases]
        self._features = [[] for _ in self.databases]

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the features of this rank's images; other loaders come after the databases'."""
        if dataloader_idx >= len(self.databases):
            return
        self._rows[dataloader_idx].append(batch[0].cpu())
        self._features[dataloader_idx].append(outputs.float().cpu())

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Join the ranks' features by row, regress, log."""
        if not self.databases:
            return
        means = []
        for index, (name, database) in enumerate(self.databases.items()):
            features = self._joined(index, len(database.table), pl_module)
            if features is None:  # a validation that was shortened on purpose (fast_dev_run, limit_val_batches)
                continue
            srcc, plcc = validate(features, database.scores, self.splits[name], self.alpha)
            pl_module.log_dict({f"val/{name}/srcc": srcc, f"val/{name}/plcc": plcc})
            means.append(srcc)
        pl_module.log("val/srcc", float(np.mean(means)) if means else float("nan"), prog_bar=True)

    def _joined(self, index: int, total: int, pl_module: LightningModule) -> Any:
        """Return one database's features (N, K, 2·D) in the order of its rows; None if rows are missing."""
        rows, features = torch.cat(self._rows[index]), torch.cat(self._features[index])
        gathered_rows = cast(Tensor, pl_module.all_gather(rows)).flatten()
        gathered = cast(Tensor, pl_module.all_gather(features)).reshape(-1, *features.shape[1:])
        if len(torch.unique(gathered_rows)) < total:
            return None
        joined = torch.empty(total, *features.shape[1:])
        joined[gathered_rows.cpu()] = gathered.cpu()
        return joined.numpy()
