import shutil

import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.databases import KADID10K_DISTORTIONS, csv, kadid10k
from arniqa_pl.errors import InputError


def test_kadid10k_reads_names_scores_and_references(demo_data):
    database = kadid10k(str(demo_data / "KADID10K"))
    table = database.table.set_index("image")
    assert len(table) == 4 * 23 * 5
    row = table.loc["images/I02_25_04.png"]
    assert (row.group, row.distortion, row.level, row.score) == ("I02.png", "contrast_change", 4, 4.141)
    assert table.groupby("distortion").size().eq(20).all()
    assert set(table["distortion"]) == set(KADID10K_DISTORTIONS) - {"color_quantization", "denoise"}
    assert database.higher_is_better
    assert all(path.is_file() for path in database.paths)


def test_kadid10k_says_what_is_missing(demo_data, tmp_path):
    with pytest.raises(InputError, match=r"dmos\.csv\. Get it from https://.*kadid.* Found no file"):
        kadid10k(str(tmp_path))
    copy = shutil.copytree(demo_data / "KADID10K", tmp_path / "copy")
    (copy / "images" / "I03_10_05.png").unlink()
    with pytest.raises(InputError, match=r"all but 1: .*I03_10_05\.png is the first"):
        kadid10k(str(copy))


@pytest.fixture
def own_images(tmp_path):
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(folder, **columns):
    file = folder / "scores.csv"
    pd.DataFrame(columns).to_csv(file, index=False)
    return str(file)


def test_csv_needs_nothing_but_images_and_scores(own_images):
    database = csv(write(own_images, image=["a.png", "b.png", "c.png"], score=[10, 20, 35]))
    assert database.scores.tolist() == [10, 20, 35]
    assert database.score_range == (10, 35)
    assert database.table["group"].tolist() == ["a.png", "b.png", "c.png"]
    assert database.table["distortion"].tolist() == ["", "", ""]


def test_csv_takes_groups_types_and_a_range(own_images):
    file = write(own_images, image=["a.png", "b.png"], score=[1, 2], group=["x", "x"], distortion=["jpeg", None])
    database = csv(file, score_range=(0, 100), higher_is_better=False, name="mine")
    assert database.table["group"].tolist() == ["x", "x"]
    assert database.table["distortion"].tolist() == ["jpeg", ""]
    assert (database.name, database.score_range, database.higher_is_better) == ("mine", (0, 100), False)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a.png"], "mos": [1]}, "found image, mos, so score is missing"),
        ({"image": ["a.png", "b.png"], "score": [1, float("nan")]}, "finite number .* in row 2"),
        ({"image": ["a.png", "b.png"], "score": [1, "good"]}, "found 'good' in row 2"),
        ({"image": ["a.png", "b.png"], "score": [3, 3]}, "found 3.0 in every row"),
        ({"image": ["a.png", "d.png"], "score": [1, 2]}, r"d\.png is the first one missing"),
        ({"image": [], "score": []}, "a row per image"),
    ],
)
def test_csv_refuses_what_cannot_be_learned_from(own_images, columns, message):
    with pytest.raises(InputError, match=message):
        csv(write(own_images, **columns))
