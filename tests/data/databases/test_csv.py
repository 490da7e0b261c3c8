from functools import partial

import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.databases import csv
from arniqa_pl.errors import InputError

read = partial(csv.read, score_range=None, higher_is_better=True, name="csv")


@pytest.fixture
def own_images(tmp_path):
    for name in ("a.png", "b.png", "C.PNG"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(folder, **columns):
    file = folder / "scores.csv"
    pd.DataFrame(columns).to_csv(file, index=False)
    return str(file)


def test_nothing_but_images_and_scores_is_needed(own_images):
    database = read(write(own_images, image=["a.png", "b.png", "c.png"], score=[10, 20, 35])).require_images()
    assert database.scores.tolist() == [10, 20, 35]
    assert database.score_range == (10, 35)
    assert database.table["image"].tolist() == ["a.png", "b.png", "C.PNG"]
    assert database.table["group"].tolist() == ["a.png", "b.png", "c.png"]
    assert database.table["distortion"].tolist() == ["", "", ""]
    assert database.release is None


def test_what_else_it_takes(own_images):
    file = write(
        own_images,
        image=["a.png", "b.png", "c.png"],
        score=[1, 2, 3],
        reference=["x.png", None, "x.png"],
        distortion=["jpeg", None, "blur"],
        level=[3, None, 1],
        split=["train", "validation", None],
    )
    database = read(file, score_range=(0, 100), higher_is_better=False, name="mine")
    assert database.table["reference"].tolist() == ["x.png", "", "x.png"]
    assert database.table["group"].tolist() == ["x.png", "b.png", "x.png"]
    assert database.table["distortion"].tolist() == ["jpeg", "", "blur"]
    assert database.table["level"].tolist() == [3, 0, 1]
    assert database.table["split"].tolist() == ["train", "val", ""]
    assert (database.name, database.score_range, database.higher_is_better) == ("mine", (0, 100), False)


def test_a_group_goes_before_a_reference(own_images):
    file = write(own_images, image=["a.png", "b.png"], score=[1, 2], group=["g", "g"], reference=["x.png", "y.png"])
    assert read(file).table["group"].tolist() == ["g", "g"]


def test_letter_case_makes_no_groups(own_images):
    """The same image, or images of the same reference, must not stand on two sides of a split."""
    file = write(own_images, image=["a.png", "A.png", "b.png", "c.png"], score=[1, 2, 3, 4])
    table = read(file).table
    assert table["image"].tolist() == ["a.png", "a.png", "b.png", "C.PNG"]
    assert table["group"].tolist() == ["a.png", "a.png", "b.png", "c.png"]  # whatever the files are called
    file = write(own_images, image=["a.png", "b.png"], score=[1, 2], reference=["X.png", "x.png"])
    assert read(file).table["group"].nunique() == 1


def test_images_may_lie_anywhere(own_images, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paths = [str(own_images / "a.png"), f"../{own_images.name}/b.png"]
    file = write(elsewhere, image=paths, score=[1, 2])
    read(file)  # the second path is not below this folder
    (own_images / "sub").mkdir()
    file = write(own_images / "sub", image=[str(own_images / "a.png"), "../B.png"], score=[1, 2])
    assert read(file).require_images().table["image"].tolist() == [str(own_images / "a.png"), "../b.png"]


def test_cells_are_taken_as_they_are_written(own_images):
    """pandas would read the first words as empty, ids beside an empty cell as 1e+17, and 000 as 0."""
    words = ["NA", "None", "nan", "null", "007", "100000000000000001", ""]
    (own_images / "000").touch()
    for suffix in (".csv", ".xlsx"):
        file = own_images / f"scores{suffix}"
        columns = {"image": "000", "score": [str(n) for n in range(7)], "group": words, "distortion": words}
        table = pd.DataFrame(columns)
        table.to_csv(file, index=False) if suffix == ".csv" else table.to_excel(file, index=False)
        database = read(str(file)).require_images()
        assert database.table["image"].tolist() == ["000"] * 7
        assert database.table["distortion"].tolist() == words
        assert database.table["group"].tolist() == [*map(str.lower, words[:-1]), "000"]


def test_one_file_in_two_spellings_is_one(own_images):
    (own_images / "img").mkdir()
    absolute = str(own_images / "img" / "x.png")
    spellings = ["img/x.png", "./img/x.png", " img//x.png ", absolute]
    table = read(write(own_images, image=spellings, score=[1, 2, 3, 4])).table
    assert table["image"].tolist() == ["img/x.png"] * 4
    columns = {"image": ["a.png", "b.png", "c.png", "d.png", "img/x.png"], "score": [1, 2, 3, 4, 5]}
    table = read(write(own_images, **columns, reference=[*spellings, None])).table
    assert table["group"].tolist() == ["img/x.png"] * 5
    table = read(write(own_images, **columns, group=["kitchen", " Kitchen", "kitchen ", "KITCHEN", "garden"])).table
    assert table["group"].tolist() == ["kitchen"] * 4 + ["garden"]


def test_an_absolute_path_through_a_link_is_the_same_image(own_images, tmp_path_factory):
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(own_images)
    write(own_images, image=["a.png", str(own_images / "a.png"), str(link / "a.png")], score=[1, 2, 3])
    assert read(str(link / "scores.csv")).table["image"].tolist() == ["a.png"] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "image,score,score\na.png,1,2\nb.png,2,1\n",
            "Wanted one column score with commas between the columns in .*csv, found 2",
        ),
        ("image,score,group,group\na.png,1,2,3\nb.png,2,1,4\n", "Wanted one column group .* in .*csv, found 2"),
        ("image;score\na.png;1\nb.png;2\n", "with commas between the columns in .*csv.* found image;score, so"),
        ("image;score\na.png;1,5\nb.png;2,5\n", "Wanted a table with commas between the columns in .*csv"),
        ("image,score\na.png,1,5\nb.png,2,5\n", "Wanted a table with commas between the columns in .*csv"),
    ],
)
def test_a_table_that_can_be_misread_is_refused(own_images, text, message):
    (own_images / "scores.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read(str(own_images / "scores.csv"))


@pytest.mark.parametrize("told", [[1], [5, 1], [1, 2, 3], "abc", 5, ["a", "b"]])
def test_a_range_is_two_numbers(own_images, told):
    file = write(own_images, image=["a.png", "b.png"], score=[1, 2])
    with pytest.raises(InputError, match=r"Wanted the lowest and the highest .* as databases\.csv\.score_range, got"):
        read(file, score_range=told)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"image": ["a.png"], "mos": [1]}, "found image, mos, so score is missing"),
        (
            {"image": ["a.png", "b.png"], "score": [1, None]},
            r"a value in every row of the column score in .*csv.* row 2",
        ),
        ({"image": ["a.png", "b.png"], "score": [1, "NA"]}, "finite number .* found 'NA' in row 2"),
        ({"image": ["a.png", "b.png"], "score": [1, "good"]}, "found 'good' in row 2"),
        ({"image": ["a.png", None], "score": [1, 2]}, r"every row of the column image .* in row 2 \(1 in all\)"),
        ({"image": ["a.png", "b.png"], "score": [1, 2], "level": [1, "low"]}, r"level in .*csv, found 'low' in row 2"),
        ({"image": ["a.png", "b.png"], "score": [1, 2], "level": [1.5, 2]}, r"found '1\.5' in row 1"),
        ({"image": ["a.png", "b.png"], "score": [1, 2], "level": [None, -1]}, r"found '-1\.0' in row 2"),
        ({"image": ["a.png", "b.png"], "score": [3, 3]}, "found 3.0 in every row"),
        ({"image": ["a.png", "d.png"], "score": [1, 2]}, r"all but 1: .*d\.png is the first one missing\. Correct"),
        ({"Image": ["a.png"], "Score": [1]}, "in this letter case; found Image, Score, so image, score is missing"),
        ({"image": ["a.png"], "score": [1], "Group": ["g"]}, "found image, score, Group, so group is missing"),
        ({"image": [], "score": []}, "a row per image"),
        ({"image": ["a.png", "b.png"], "score": [1, 2], "split": ["train", "dev"]}, "split in .*csv, found 'dev'"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(own_images, columns, message):
    with pytest.raises(InputError, match=message):
        read(write(own_images, **columns)).require_images()


def test_no_table_is_told_with_its_place(tmp_path):
    with pytest.raises(InputError, match=r"your table of images and scores at .*gone\.csv"):
        read(str(tmp_path / "gone.csv"))
