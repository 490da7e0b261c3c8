import numpy as np
import pytest
import torch

from arniqa_pl.distortions import CATALOG, GROUPS, distort
from arniqa_pl.distortions.catalog import generator_for
from arniqa_pl.errors import InputError
from tests.distortions.conftest import PUBLISHED


def test_the_published_24_are_there_in_the_groups_of_kadid():
    assert len(PUBLISHED) == 24
    assert PUBLISHED.items() <= {name: row.group for name, row in CATALOG.items()}.items()
    assert set(GROUPS) == set(PUBLISHED.values())


def test_groups_are_those_of_the_rows():
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(CATALOG)
    assert all(CATALOG[name].group == group for group, names in GROUPS.items() for name in names)


def test_rows_know_their_name_and_five_levels():
    for name, row in CATALOG.items():
        assert row.name == name
        assert len(set(row.levels)) == 5


def test_a_function_gets_the_value_of_each_level_in_full_precision(crops):
    seen = []

    def recorded(images, value, generator):
        seen.extend(value.tolist())
        return images

    row = CATALOG["pixelate"]
    row._replace(function=recorded).apply(crops, [5, 4, 3, 2, 1], torch.Generator())
    assert seen == list(row.levels)[::-1]


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        CATALOG["new"] = CATALOG["jpeg"]  # type: ignore[index]


@pytest.mark.parametrize("level", [[1, 2, 5], (1, 2, 5), torch.tensor([1, 2, 5]), np.array([1, 2, 5]).tolist()])
def test_levels_come_in_many_forms(level, crops):
    want = torch.cat([distort(crops[i : i + 1], "darken", each) for i, each in enumerate((1, 2, 5))])
    torch.testing.assert_close(distort(crops[:3], "darken", level), want)


@pytest.mark.parametrize("level", [0, 6, -1, 2.0, 1.5, "3", None, True, [1, 2], [1] * 6, torch.tensor([1.0] * 5)])
def test_refuses_wrong_levels(level, crops):
    with pytest.raises(InputError, match=r"Wanted .*level.* got"):
        distort(crops, "darken", level)


def test_refuses_unknown_names_and_lists_the_known(crops):
    with pytest.raises(InputError, match=r"got 'gausian_blur'.*gaussian_blur, lens_blur, .*non_linear_contrast_change"):
        distort(crops, "gausian_blur", 1)


def test_refuses_keywords_a_distortion_does_not_take(crops):
    with pytest.raises(InputError, match=r"darken takes no keyword .*got \['angle'\]"):
        distort(crops, "darken", 1, angle=3)
    with pytest.raises(InputError, match=r"motion_blur takes \['angle'\] .*got \['codec'\]"):
        distort(crops, "motion_blur", 1, codec="exact")


def test_refuses_what_is_no_tensor():
    with pytest.raises(InputError, match="got ndarray"):
        distort(np.zeros((1, 3, 64, 64), np.float32), "darken", 1)


def test_refuses_a_generator_on_another_device(crops):
    with pytest.raises(InputError, match="a generator on meta, where the images are, got cpu"):
        generator_for(crops.to("meta"), torch.Generator())


def test_the_two_ends_of_the_range_are_allowed():
    images = torch.zeros(1, 3, 32, 32)
    images[..., :16] = 1
    assert distort(images, "darken", 1).shape == images.shape
    with pytest.raises(InputError, match=r"got values from 0 to 1\.01"):
        distort(images * 1.01, "darken", 1)
    with pytest.raises(InputError, match=r"got values from -1 to 0"):
        distort(-images, "darken", 1)
