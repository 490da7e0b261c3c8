import logging

import numpy as np
import pytest
import torch
from PIL import Image

from arniqa_pl.data.datasets import CropPairs
from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import find_photos
from arniqa_pl.distortions import DegradationModel
from arniqa_pl.errors import InputError
from tests.conftest import PHOTOS


def pairs(folder, **changes) -> CropPairs:
    settings = {
        "length": 50,
        "crop_size": 64,
        "padding": "zeros",
        "degradation": DegradationModel(),
        "seed": 1,
        "unreadable": "stop",
        "cache_images": 0,
        "partner": "other",
        "half_scale": "independent",
    }
    return CropPairs(find_photos(str(folder)), **settings | changes)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for name in ("owl", "cow", "crab", "pika"):
        read_image(PHOTOS / f"{name}.jpg").resize((256, 192)).save(folder / f"{name}.png", compress_level=1)
    return folder


@pytest.fixture
def damaged(tmp_path):
    """Eight photographs of a grey each, the third and the fifth of them cut short."""
    for grey in range(8):
        file = tmp_path / f"{grey}.jpg"
        Image.new("RGB", (96, 96), (10 + 30 * grey,) * 3).save(file)
        if grey in (2, 4):
            file.write_bytes(file.read_bytes()[:-30])
    return tmp_path


def shown(sample) -> list[int]:
    """The photograph in each of the two views."""
    return [round((float(view.float().mean()) - 10) / 30) for view in sample.crops[:, 0]]


def test_a_sample_is_a_function_of_its_numbers_alone(photos):
    first, again = pairs(photos, cache_images=20), pairs(photos)
    again[0, 3], again[4, 4]
    crops, composition, key = first[2, 7]
    assert crops.shape == (2, 2, 3, 64, 64)
    assert crops.dtype == torch.uint8
    assert key == (2, 7)
    assert torch.equal(crops, again[2, 7].crops)
    assert composition == again[2, 7].composition
    for other in (first[3, 7], first[2, 8], pairs(photos, seed=2)[2, 7]):
        assert not torch.equal(crops, other.crops)


def test_padding_surrounds_small_photographs(photos):
    zeros, reflected = (pairs(photos, crop_size=200, padding=padding)[0, 0].crops for padding in ("zeros", "reflect"))
    empty = (zeros == 0).all(dim=2)
    assert empty.float().mean() > 0.3  # 256×192 is lower than a crop, 128×96 smaller on both sides
    assert (reflected == 0).all(dim=2).float().mean() < 0.01
    inside = ~empty[:, :, None].expand_as(zeros)
    assert torch.equal(zeros[inside], reflected[inside])


def test_unreadable_photographs_are_replaced_by_the_numbers_of_the_sample(damaged, caplog):
    with caplog.at_level(logging.WARNING):
        dataset = pairs(damaged, unreadable="replace")
        samples = [dataset[0, index] for index in range(50)]
    views = np.array([shown(sample) for sample in samples])
    sound = [index for index in range(50) if index % 8 not in (2, 4)]
    assert (views[sound, 0] == np.array(sound) % 8).all()
    assert set(views.flatten()) == {0, 1, 3, 5, 6, 7}
    replaced = [index for index in range(50) if index not in sound]
    assert len(set(views[replaced, 0])) > 3
    assert sorted(record.getMessage().split("/")[-1][:5] for record in caplog.records) == ["2.jpg", "4.jpg"]
    alone = pairs(damaged, unreadable="replace")[0, 2]  # another process, that has seen nothing else
    assert torch.equal(alone.crops, samples[2].crops)
    assert alone.composition == samples[2].composition


def test_unreadable_photographs_stop_the_run_if_that_is_wanted(damaged):
    with pytest.raises(InputError, match=r"could not decode .*2\.jpg"):
        pairs(damaged)[0, 2]


def test_a_corpus_that_cannot_be_read_stops_the_run(damaged):
    for file in damaged.iterdir():
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"10 in a row cannot.*python -m arniqa_pl\.prepare photos"):
        pairs(damaged, unreadable="replace")[0, 2]


@pytest.mark.parametrize("switch", ["padding", "unreadable"])
def test_switches_have_names(photos, switch):
    with pytest.raises(InputError, match=rf"Wanted data\.{switch} out of \w+, \w+, got 'maybe'"):
        pairs(photos, **{switch: "maybe"})
