import os
import shutil

import pytest
from PIL import Image

from arniqa_pl.data.pristine import find_photos
from arniqa_pl.errors import InputError


@pytest.fixture
def folders(tmp_path):
    """Two folders of five photographs in all, each of a grey of its own."""
    for grey, name in enumerate(["one/b.png", "one/a/c.png", "one/a.png", "two/z.png", "two/a.png"]):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (grey,) * 3).save(tmp_path / name)
    return tmp_path


def greys(photos) -> list[int]:
    return [photos[index].getpixel((0, 0))[0] for index in range(len(photos))]


def test_a_folder_is_sorted_by_what_lies_in_it_wherever_it_lies(folders):
    photos = find_photos(str(folders / "one"))
    assert greys(photos) == [1, 2, 0]
    assert list(photos.table()["image"]) == ["a/c.png", "a.png", "b.png"]
    assert list(photos.table()["bytes"]) == [
        (folders / "one" / name).stat().st_size for name in photos.table()["image"]
    ]
    shutil.move(folders / "one", folders / "elsewhere")
    moved = find_photos(str(folders / "elsewhere"))
    assert greys(moved) == [1, 2, 0]
    assert moved.table().equals(find_photos(str(folders / "elsewhere") + "/").table())


def test_several_folders_follow_each_other_in_the_order_given(folders):
    assert greys(find_photos([str(folders / "two"), str(folders / "one")])) == [4, 3, 1, 2, 0]


def test_a_list_keeps_its_own_order_and_is_relative_to_its_folder(folders, monkeypatch):
    (folders / "list.txt").write_text("two/z.png\n\none/b.png\n", encoding="utf-8-sig")  # as Windows' editors do
    monkeypatch.chdir("/")
    assert greys(find_photos(os.path.relpath(folders / "list.txt"))) == [3, 0]


def test_what_a_list_names_must_be_there(folders):
    (folders / "list.txt").write_text("two/z.png\ntwo/y.png\nx.png\n")
    with pytest.raises(InputError, match=r"Wanted the 3 photographs .* 2 are not there, the first is 'two/y\.png'"):
        find_photos(str(folders / "list.txt"))


def test_an_image_is_no_list(folders):
    with pytest.raises(InputError, match=r"path of a photograph on each line, .*z\.png is no text"):
        find_photos(str(folders / "two" / "z.png"))


def test_folders_without_photographs_say_what_belongs_there(tmp_path):
    with pytest.raises(
        InputError, match=r"found none\. Put the ref_imgs of KADIS-700k there .*photos\.source=<folder>"
    ):
        find_photos(str(tmp_path))


def test_names_need_not_be_text(tmp_path):
    name = os.fsdecode(b"caf\xe9.png")  # Latin-1 on a disk that is read as UTF-8
    Image.new("RGB", (8, 8), (7,) * 3).save(tmp_path / name)
    photos = find_photos(str(tmp_path))
    assert greys(photos) == [7]
    assert list(photos.table()["image"]) == ["caf\N{REPLACEMENT CHARACTER}.png"]
