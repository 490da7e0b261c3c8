import subprocess
import sys

import lightning
import pytest
import torch
from torch.utils.data import DataLoader

from arniqa_pl.quality.metric import ImageQuality
from tests.quality.test_scorer import make_scorer

IMAGES = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))

_RANK = """
import sys, torch, torch.distributed as dist
from arniqa_pl.quality.metric import ImageQuality
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
metric = ImageQuality(f"{folder}/scorer.safetensors")
images = torch.load(f"{folder}/images.pt", weights_only=True)
for batch in images[:2].split(1) if rank == 0 else [images[2:]]:
    metric.update(batch)
print(float(metric.compute()))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def scorer():
    scorer = make_scorer()
    scorer.crop_size = 32
    return scorer


def test_the_mean_quality_of_all_images(scorer):
    metric, of_bytes = ImageQuality(scorer), ImageQuality(scorer)
    for images in IMAGES.split([1, 2, 3]):
        metric.update(images)
        of_bytes.update((images * 255).round().byte())
    wanted = float(scorer.quality(IMAGES, clamp=False).mean())
    assert float(metric.compute()) == pytest.approx(wanted, abs=1e-3)
    assert float(of_bytes.compute()) == pytest.approx(wanted, abs=1e-3)
    metric.reset()
    assert torch.isnan(metric.compute())
    assert not metric.train().scorer.training


def test_a_call_is_a_loss(scorer):
    images = IMAGES[:2].clone().requires_grad_()
    quality = ImageQuality(scorer)(images)
    (gradient,) = torch.autograd.grad(quality, images)
    with torch.no_grad():
        better = ImageQuality(scorer)((images + 1e-3 * gradient / gradient.abs().max()).clamp(0, 1))
    assert better > quality


def test_two_processes_see_the_mean_of_one(scorer, tmp_path):
    scorer.save(tmp_path / "scorer.safetensors")
    torch.save(IMAGES, tmp_path / "images.pt")
    ranks = [
        subprocess.Popen([sys.executable, "-c", _RANK, str(rank), str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    printed = [rank.communicate(timeout=120)[0] for rank in ranks]
    alone = ImageQuality(scorer)
    alone.update(IMAGES)
    for text in printed:
        assert float(text) == pytest.approx(float(alone.compute()), abs=1e-6)


class _Generator(lightning.LightningModule):
    """Makes images out of nothing, and logs how good they look."""

    def __init__(self, scorer):
        super().__init__()
        self.quality = ImageQuality(scorer)
        self.shift = torch.nn.Parameter(torch.zeros(3, 1, 1))

    def training_step(self, images, index):
        made = (images + self.shift).clamp(0, 1)
        loss = -self.quality(made)
        self.log("quality", self.quality, on_step=False, on_epoch=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD([self.shift], lr=1e-3)


def test_a_lightning_module_logs_it_and_learns_from_it(scorer, tmp_path):
    model = _Generator(scorer)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, **options)
    before = {name: value.clone() for name, value in scorer.state_dict().items()}
    trainer.fit(model, DataLoader(IMAGES, batch_size=3))
    assert torch.isfinite(trainer.callback_metrics["quality"])
    assert model.shift.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in scorer.state_dict().items())
