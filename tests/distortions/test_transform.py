import kornia
import pytest
import torch
from torchvision.transforms import v2

from arniqa_pl.distortions import DegradationModel, RandomDegradation


def _transform(seed: int = 4) -> RandomDegradation:
    return RandomDegradation(DegradationModel(pristine_prob=0), torch.Generator().manual_seed(seed))


def test_applies_what_the_model_draws(crops):
    model, generator = DegradationModel(pristine_prob=0), torch.Generator().manual_seed(4)
    composition = model.draw(5, generator)
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    want = model.apply(crops, composition, torch.Generator().manual_seed(seed))
    assert torch.equal(_transform()(crops), want)


def test_every_call_draws_anew(crops):
    transform = _transform()
    assert not torch.equal(transform(crops), transform(crops))


@pytest.mark.parametrize("container", [kornia.augmentation.ImageSequential, kornia.augmentation.AugmentationSequential])
def test_fits_kornia(container, crops):
    pipeline = container(kornia.augmentation.RandomHorizontalFlip(p=1.0), _transform())
    torch.testing.assert_close(pipeline(crops), _transform()(crops.flip(-1)))


def test_fits_torchvision(crops):
    pipeline = v2.Compose([v2.ToDtype(torch.float32, scale=True), _transform()])
    image = (crops[0] * 255).round().byte()
    torch.testing.assert_close(pipeline(image), _transform()(image.float()[None] / 255)[0])
