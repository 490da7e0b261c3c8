import csv

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.databases import kadid10k
from arniqa_pl.demo import write_demo
from arniqa_pl.errors import InputError
from tests.conftest import PHOTOS


def test_every_photograph_has_its_author_and_licence():
    with (PHOTOS / "SOURCES.csv").open() as stream:
        rows = {row["file"]: row for row in csv.DictReader(stream)}
    assert set(rows) == {path.name for path in PHOTOS.glob("*.jpg")}
    assert len(rows) == 24
    assert {row["licence"].lower() for row in rows.values()} == {"public domain", "cc0-1.0"}
    assert all(row["author"] and row["source"].startswith("https://") for row in rows.values())


def test_photographs_for_pretraining_are_no_references(demo_data):
    def thumbnails(folder, pattern):
        return [np.float64(Image.open(path).resize((16, 12))) for path in sorted(folder.glob(pattern))]

    pristine = thumbnails(demo_data / "KADIS700/ref_imgs", "*.png")
    references = thumbnails(demo_data / "KADID10K/images", "I??.png")
    assert (len(pristine), len(references)) == (20, 4)
    assert min(np.abs(a - b).mean() for a in pristine for b in references) > 20


def test_database_has_the_layout_of_kadid10k(demo_data):
    table = pd.read_csv(demo_data / "KADID10K/dmos.csv")
    assert table.columns.tolist() == ["dist_img", "ref_img", "dmos", "var"]
    assert len(table) == 4 * 23 * 5
    assert table["dist_img"].str.fullmatch(r"I0[1-4]_[012]\d_0[1-5]\.png").all()
    assert (table["ref_img"] == table["dist_img"].str[:3] + ".png").all()
    sizes = {Image.open(demo_data / "KADID10K/images" / name).size for name in table["dist_img"][::50]}
    assert sizes == {(512, 384)}


def test_scores_are_the_published_means_of_type_and_level(demo_data):
    means = pd.read_csv(PHOTOS.parent / "kadid10k_mos_by_type_level.csv", index_col="distortion")
    assert tuple(means.index) == tuple(kadid10k.DISTORTIONS)
    table = pd.read_csv(demo_data / "KADID10K/dmos.csv")
    for name, score in zip(table["dist_img"], table["dmos"], strict=True):
        kind, level = int(name[4:6]), int(name[7:9])
        assert score == means.iloc[kind - 1, level - 1]


def pixels(demo_data, name):
    return np.float64(Image.open(demo_data / "KADID10K/images" / name)) / 255


@pytest.mark.parametrize(("level", "amount"), [(1, 0.15), (2, 0.08), (3, 0.0), (4, -0.08), (5, -0.15)])
def test_mean_shift_goes_by_signed_amount(demo_data, level, amount):
    wanted = np.clip(pixels(demo_data, "I01.png") + amount, 0, 1)
    np.testing.assert_allclose(pixels(demo_data, f"I01_18_{level:02d}.png"), wanted, atol=0.6 / 255)


def test_contrast_change_goes_by_signed_amount(demo_data):
    """Positive amounts spread the tones, 0 hardly changes them, negative ones draw them together."""
    spreads = [pixels(demo_data, f"I01_25_{level:02d}.png").std() for level in range(1, 6)]
    assert spreads == sorted(spreads, reverse=True)
    changes = [
        np.abs(pixels(demo_data, f"I01_25_{level:02d}.png") - pixels(demo_data, "I01.png")).mean()
        for level in (2, 3, 4)
    ]
    assert min(changes) == changes[1]


def test_data_are_the_same_every_time(demo_data, tmp_path):
    write_demo(tmp_path, pristine=20, seed=27)
    files = sorted(path.relative_to(demo_data) for path in demo_data.rglob("*.png"))
    assert len(files) == 20 + 4 + 4 * 23 * 5
    for file in files[::7]:
        np.testing.assert_array_equal(Image.open(tmp_path / file), Image.open(demo_data / file))


def test_references_need_a_photograph(tmp_path):
    with pytest.raises(InputError, match="Wanted 0 to 23 of the 24 photographs as pristine, got 24"):
        write_demo(tmp_path, pristine=24, seed=27)


def test_earlier_demo_data_give_way_and_other_databases_do_not(tmp_path):
    write_demo(tmp_path, pristine=22, seed=1)
    stale = tmp_path / "KADIS700/ref_imgs/left_over.png"
    stale.touch()
    write_demo(tmp_path, pristine=22, seed=27)
    assert not stale.exists()
    (tmp_path / "DEMO.txt").unlink()
    with pytest.raises(InputError, match="that the demo did not write"):
        write_demo(tmp_path, pristine=22, seed=27)
    assert (tmp_path / "KADID10K/dmos.csv").is_file()
