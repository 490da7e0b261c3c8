from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from arniqa_pl.data.pristine import find_photos
from arniqa_pl.data.screening import (
    PROBLEMS,
    measure_photo,
    require_listable,
    screen_photos,
    write_screening,
)
from arniqa_pl.errors import InputError
from tests.conftest import PHOTOS

LIMITS = {"min_side": 256, "min_sharpness": 25, "max_blockiness": 1.1, "max_flat": 0.4}  # as in the config


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """Photographs with one thing wrong each, and what the screening says of them."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(PHOTOS / "owl.jpg") as image:
        photo = image.convert("RGB").resize((512, 384))
    photo.save(folder / "0_sound.png")
    photo.filter(ImageFilter.GaussianBlur(3)).save(folder / "1_blurred.png")
    photo.save(folder / "2_blocky.jpg", quality=50)
    photo.crop((100, 100, 300, 300)).save(folder / "3_small.png")
    photo.save(folder / "4_unreadable.jpg")
    (folder / "4_unreadable.jpg").write_bytes((folder / "4_unreadable.jpg").read_bytes()[:9000])
    half_grey = photo.copy()
    half_grey.paste((128, 128, 128), (0, 203, 512, 384))
    half_grey.save(folder / "5_flat.png")
    Image.new("RGB", (9, 300)).save(folder / "6_sliver.png")
    photos = find_photos(str(folder))
    return photos, screen_photos(photos, **LIMITS, num_workers=1)


def test_each_problem_is_found_and_nothing_else(screened):
    _, table = screened
    wanted = ["", "blurred", "blocky", "small", "unreadable", "flat", "small"]
    assert list(table["problems"]) == wanted
    assert "4_unreadable.jpg" in table["error"][4]
    assert (table["error"].drop(4) == "").all()


def test_demo_photographs_are_pristine():
    table = screen_photos(find_photos(str(PHOTOS)), **LIMITS, num_workers=1)
    assert (table["problems"] == "").all()
    assert len(table) == 24


def test_measures_are_those_of_plain_loops(tmp_path):
    luma = np.random.default_rng(0).integers(0, 256, (35, 50), np.uint8)
    luma[8:16, 16:24] = 90  # one flat block of 4 × 6
    Image.fromarray(luma).save(tmp_path / "noise.png")
    side, sharpness, blockiness, flat, error = measure_photo(tmp_path / "noise.png")
    assert (side, flat, error) == (35, 1 / 24, "")
    values = luma.astype(np.float64)
    assert sharpness == pytest.approx(ndimage.laplace(values)[1:-1, 1:-1].var(), rel=1e-5)
    across, down = (np.abs(np.diff(values, axis=axis)) for axis in (1, 0))
    at_borders = np.mean([across[:, i] for i in range(49) if i % 8 == 7]) + np.mean(
        [down[i] for i in range(34) if i % 8 == 7]
    )
    elsewhere = np.mean([across[:, i] for i in range(49) if i % 8 != 7]) + np.mean(
        [down[i] for i in range(34) if i % 8 != 7]
    )
    assert blockiness == pytest.approx(at_borders / elsewhere, rel=1e-5)


def test_what_is_left_out_is_chosen_and_the_report_names_all(screened, tmp_path):
    photos, table = screened
    output = tmp_path / "lists" / "photos.txt"
    assert write_screening(table, photos, output, ["unreadable", "blocky"]) == 5
    kept = find_photos(str(output))
    assert [kept.path(index).name[0] for index in range(5)] == ["0", "1", "3", "5", "6"]
    assert kept[0].size == (512, 384)
    report = pd.read_csv(output.with_suffix(".csv"), keep_default_na=False)
    assert list(report["image"]) == list(table["image"])
    assert list(report["problems"]) == list(table["problems"])


def test_unreadable_files_stop_the_command_unless_they_are_left_out(screened, tmp_path):
    photos, table = screened
    with pytest.raises(
        InputError, match=r"7 photographs that can be decoded, 1 cannot, the first is 4_unreadable\.jpg"
    ):
        write_screening(table, photos, tmp_path / "photos.txt", [])
    assert (tmp_path / "photos.csv").is_file()
    assert not (tmp_path / "photos.txt").exists()


def test_the_list_is_not_named_as_the_report_is():
    with pytest.raises(InputError, match=r"Wanted a text file for the list, got photos\.csv"):
        require_listable(Path("photos.csv"), ["unreadable"])


def test_problems_have_names():
    require_listable(Path("photos.txt"), PROBLEMS)
    with pytest.raises(InputError, match=r"some of unreadable, small, blurred, blocky, flat, got ugly"):
        require_listable(Path("photos.txt"), ["ugly"])
