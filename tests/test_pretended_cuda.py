"""What would run on a GPU stays there and is not waited for: seen without one, by `PretendedCuda`."""

import pytest
import torch
from torch import nn

from arniqa_pl.data import datamodule
from arniqa_pl.data.crops import tensor_crops
from arniqa_pl.data.datasets import PairBatch
from arniqa_pl.data.images import denormalize, normalize
from arniqa_pl.distortions import CATALOG, DegradationModel, catalog, degradation, distort
from arniqa_pl.models import Encoder
from arniqa_pl.models.contrastive import nt_xent
from arniqa_pl.models.measures import measure_views
from arniqa_pl.quality.ridge import fit_ridge
from tests.models.test_pretraining import make_data
from tests.pretended_cuda import PretendedCuda


@pytest.fixture
def cuda(monkeypatch):
    """PyTorch makes no generator of CUDA's without it: one of the CPU's takes its place, and draws shapes alone."""
    generator = torch.Generator()
    monkeypatch.setattr(datamodule, "Generator", lambda device: generator)
    for module in (catalog, degradation):
        monkeypatch.setattr(module, "generator_for", lambda images, generator: generator)
    return PretendedCuda()


@pytest.fixture
def on_cuda(cuda, monkeypatch):
    """Move a module there."""
    monkeypatch.setattr(torch.__future__, "get_overwrite_module_params_on_conversion", lambda: True)

    def move(module: nn.Module) -> nn.Module:
        with cuda:
            module.to("cuda", non_blocking=True)
        return module

    return move


@pytest.mark.parametrize(
    ("wait", "reason"),
    [
        (lambda images: float(images.sum()), "a number is read"),
        (lambda images: images.cpu(), "a copy is awaited"),
        (lambda images: images.new_tensor([1.0, 2.0]), "a copy is awaited"),
        (lambda images: torch.ones(2).to("cuda"), "a copy is awaited"),
        (lambda images: images[0, 0, 0].copy_(torch.ones(32)), "a copy is awaited"),
    ],
)
def test_waiting_is_noticed(cuda, wait, reason):
    with cuda:
        wait(torch.empty(1, 3, 32, 32, device="cuda"))
    assert cuda.waits == [reason]


def test_two_devices_are_noticed(cuda):
    images = torch.ones(1, 3, 32, 32)
    assert float(images.sum()) == 3 * 32 * 32  # what lies on the CPU is real
    with cuda, pytest.raises(AssertionError, match=r"mul.*on the CPU"):
        torch.empty(1, 3, 32, 32, device="cuda") * images


@pytest.mark.parametrize("name", CATALOG)
def test_a_distortion_waits_for_no_gpu(cuda, name):
    for pinned in ({}, {"angle": 30.0})[: 1 + ("angle" in CATALOG[name].pins)]:
        with cuda:
            images = torch.empty(5, 3, 80, 64, device="cuda", dtype=torch.bfloat16)
            distorted = distort(images, name, [1, 2, 3, 4, 5], **pinned)
            assert (distorted.device, distorted.dtype, distorted.shape) == (images.device, images.dtype, images.shape)
    assert not cuda.waits


def test_a_batch_is_degraded_and_normalised_without_waiting_for_a_gpu(cuda, demo_data):
    composition = DegradationModel(max_distortions=7).draw(32, torch.Generator().manual_seed(0))
    assert {name for chain in composition for name, _ in chain} == set(CATALOG)
    with cuda:
        crops = torch.empty(32, 2, 2, 3, 64, 64, dtype=torch.uint8, device="cuda")
        degraded = make_data(demo_data).degrade(PairBatch(crops, composition, (0, 0))).crops
        assert (degraded.device, degraded.dtype, degraded.shape) == (crops.device, torch.float32, crops.shape)
        assert denormalize(degraded).is_cuda
    assert not cuda.waits


@pytest.mark.parametrize("name", ["resnet50", "mobilenet_v2"])
def test_features_loss_and_measures_are_computed_without_waiting_for_a_gpu(on_cuda, cuda, name):
    encoder = on_cuda(Encoder(name, weights="none"))
    with cuda:
        images = torch.empty(8, 3, 64, 64, device="cuda")
        views = [encoder(normalize(images)) for _ in range(2)]
        results = [*views, nt_xent(*views), *measure_views(*views, scales=2).values()]
        results.append(encoder.crop_features(torch.empty(2, 2, 5, 3, 64, 64, dtype=torch.uint8, device="cuda")))
        results.append(tensor_crops(images, 48, 5))
        assert all(result.is_cuda for result in results)
    assert not cuda.waits


@pytest.mark.parametrize(("rows", "dim"), [(60, 20), (20, 60)])
def test_a_ridge_is_fitted_where_its_features_are(cuda, rows, dim):
    with cuda:
        weights, intercepts = fit_ridge(
            torch.empty(rows, dim, device="cuda"), torch.ones(rows), torch.tensor([10.0, 100.0])
        )
        assert (weights.shape, intercepts.shape) == ((2, dim), (2,))
        assert weights.is_cuda
        assert intercepts.is_cuda
    assert cuda.waits  # for the length of each direction: a hundred numbers or two, of which the algorithm consists
