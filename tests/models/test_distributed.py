"""Several processes against one with all their pairs: real process groups, joined by gloo."""

import functools
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from arniqa_pl.data.datamodule import PretrainingData
from arniqa_pl.data.pristine import find_photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.models.pretraining import Pretraining
from arniqa_pl.models.schedules import cosine_warm_restarts

PAIRS, STEPS = 6, 5


class Plain(nn.Module):
    """An encoder without batch statistics in float64: PyTorch synchronises those on GPUs only."""

    name, dim = "plain", 8

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, self.dim, 5, stride=3)

    def forward(self, images: Tensor) -> Tensor:
        return functional.normalize(self.layer(images.double()).relu().mean((2, 3)), dim=1)


class Keep(lightning.Callback):
    """Writes the weights, and each step's loss and gradients as they go into the optimiser."""

    def __init__(self, file: Path) -> None:
        self.file, self.steps = file, []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.steps.append({name: weight.grad.clone() for name, weight in pl_module.named_parameters()})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps[-1]["loss"] = pl_module.trainer.strategy.reduce(outputs["loss"].detach(), reduce_op="mean")

    def on_train_end(self, trainer, pl_module) -> None:
        if trainer.is_global_zero:
            torch.save({"steps": self.steps, "weights": pl_module.state_dict()}, self.file)


def train(folder: Path, ranks: int) -> dict:
    """Train on some processes; return what Keep wrote."""
    lightning.seed_everything(4)
    data = PretrainingData(
        photos=find_photos(str(folder)),
        degradation=DegradationModel(pristine_prob=1),  # noise is a rank's own
        databases={},
        crop_size=32,
        padding="zeros",
        unreadable="stop",
        batch_size=PAIRS // ranks,
        samples_per_epoch=PAIRS * STEPS + 2,  # an uneven rest
        partner="other",
        half_scale="independent",
        num_workers=0,
        cache_images=0,
        validation_crop_size=32,
        validation_crops=1,
        validation_pairs=0,
        seed=3,
    )
    model = Pretraining(
        encoder=Plain(),
        projection_dim=4,
        temperature=0.1,
        joint_forward=False,
        compile_encoder=False,
        rate_rule="none",
        rate_pairs=16,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
        schedule=functools.partial(cosine_warm_restarts, first_epochs=1, factor=2, min_lr=1e-6),
    ).double()
    group = DDPStrategy(process_group_backend="gloo", start_method="spawn") if ranks > 1 else "auto"
    file = folder / f"{ranks}.pt"
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=group,
        max_epochs=1,
        callbacks=[Keep(file)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data)
    return torch.load(file, weights_only=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("ranks")
    generator = np.random.default_rng(0)
    for index in range(8):
        Image.fromarray(generator.integers(0, 256, (80, 90, 3), np.uint8)).save(folder / f"{index}.png")
    return folder, train(folder, 1)


@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_learn_what_one_process_with_all_pairs_learns(alone, ranks):
    folder, wanted = alone
    found = train(folder, ranks)
    assert len(wanted["steps"]) == len(found["steps"]) == STEPS
    for one, other in zip(wanted["steps"], found["steps"], strict=True):
        for name, value in one.items():
            torch.testing.assert_close(other[name], value, rtol=1e-6, atol=1e-9)
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(found["weights"][name], value, rtol=1e-6, atol=1e-9)
    assert wanted["steps"][0]["loss"] != wanted["steps"][-1]["loss"]
