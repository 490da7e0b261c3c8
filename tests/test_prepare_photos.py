"""From a folder of photographs to shards that a run trains from, through the real commands."""

import pandas as pd
from hydra.utils import instantiate
from PIL import Image

from tests.conftest import PHOTOS
from tests.test_configs import composed
from tests.test_entries import run


def test_photographs_are_screened_listed_and_packed(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("owl", "cow", "crab", "pika"):
        with Image.open(PHOTOS / f"{name}.jpg") as image:
            image.resize((512, 384)).save(folder / f"{name}.png")
    (folder / "crab.png").write_bytes((folder / "crab.png").read_bytes()[:-5000])
    (folder / "gone.jpg").symlink_to("nowhere")

    output = run(tmp_path, "prepare", "photos", "input=photos", "output=lists/fit.txt", "screening.num_workers=2")
    assert "unreadable: 2, left out" in output
    assert "3 of 5 photographs: lists/fit.txt; what they measure: lists/fit.csv" in output
    assert "photo/s" in output  # progress has a rate
    assert (tmp_path / "lists" / "fit.txt").read_text().split() == [
        f"../photos/{name}.png" for name in ("cow", "owl", "pika")
    ]
    report = pd.read_csv(tmp_path / "lists" / "fit.csv", keep_default_na=False)
    assert list(report["problems"]) == ["", "unreadable", "unreadable", "", ""]

    output = run(tmp_path, "prepare", "shards", "input=lists/fit.txt", "output=packed")
    assert "3 photographs in shards: packed" in output
    assert "Create an account" not in output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lists", "packed", "photos"]
    photos = instantiate(composed("train", "data=streamed", f"photos.source={tmp_path / 'packed'}").photos)
    assert len(photos) == 3
    with Image.open(folder / "owl.png") as owl:
        assert photos[1].tobytes() == owl.tobytes()
