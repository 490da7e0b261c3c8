import csv
import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from arniqa_pl.data import sources
from arniqa_pl.data.sources import find_source, read_content, reopen
from arniqa_pl.errors import InputError

NAMES = ("b/2.png", "a.png", "b/1.JPG", "c.webp")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures of one grey each, and a text."""
    root = tmp_path_factory.mktemp("pictures")
    (root / "b").mkdir()
    for grey, name in enumerate(NAMES):
        Image.new("RGB", (20, 10), (grey * 50,) * 3).save(root / name)
    (root / "b" / "notes.txt").write_text("no picture")
    return root


def entries(given, column="image", every=1) -> dict[str, int]:
    """The names of a source's entries, and the grey of each."""
    source = find_source(str(given), column=column, every=every)
    found = {}
    for entry in source.entries():
        image = read_content(entry.name, entry.fetch())
        found[entry.name] = round(float(np.asarray(image).mean()) / 50)
    assert source.count in (None, len(found))
    return found


def test_a_folder_is_searched_in_sorted_order(folder):
    found = entries(folder)
    assert list(found.items()) == [
        (f"{folder}/{name}", NAMES.index(name)) for name in ("a.png", "b/1.JPG", "b/2.png", "c.webp")
    ]


def test_files_and_patterns(folder):
    assert entries(folder / "a.png") == {f"{folder}/a.png": 1}
    assert list(entries(f"{folder}/**/*")) == list(entries(folder))
    assert list(entries(f"{folder}/b/?.*")) == [f"{folder}/b/1.JPG", f"{folder}/b/2.png"]


def test_lists_and_tables_keep_their_order_and_are_relative_to_themselves(folder):
    (folder / "list.txt").write_text("c.webp\n\nb/2.png\n")
    with (folder / "table.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows([("picture", "note"), ("c.webp", "x"), ("b/2.png", 'a "b",\nc'), ("a.png", "")])
    assert list(entries(folder / "list.txt").items()) == [(f"{folder}/c.webp", 3), (f"{folder}/b/2.png", 0)]
    assert list(entries(folder / "table.csv", "picture").values()) == [3, 0, 1]
    with pytest.raises(InputError, match=r"the column 'image' of paths in .*table\.csv, found picture, note"):
        find_source(str(folder / "table.csv"), column="image", every=1)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz"])
def test_archives_are_read_where_they_are(folder, tmp_path, suffix, monkeypatch):
    archive = tmp_path / f"all.{suffix}"
    if suffix == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for name in (*NAMES, "b/notes.txt"):
                packed.write(folder / name, name)
            packed.writestr("../../evil.png", b"no picture")
    else:
        with tarfile.open(archive, f"w:{suffix[4:]}") as packed:
            for name in (*NAMES, "b/notes.txt"):
                packed.add(folder / name, name)
            info = tarfile.TarInfo("../../evil.png")
            info.size = 10
            packed.addfile(info, io.BytesIO(b"no picture"))
    listed = [*find_source(str(archive), column="", every=1).entries()]
    assert [entry.name for entry in listed] == [f"{archive}/{name}" for name in (*NAMES, "../../evil.png")]
    names = {f"{archive}/b/1.JPG", f"{archive}/c.webp"}
    assert {name: np.asarray(image).mean() > 120 for name, image in reopen(names)} == {
        f"{archive}/b/1.JPG": False,
        f"{archive}/c.webp": True,
    }
    assert [path.name for path in tmp_path.iterdir()] == [archive.name]

    monkeypatch.setattr(sources, "MAX_MEMBER_BYTES", 9)
    for entry in find_source(str(archive), column="", every=1).entries():
        with pytest.raises(InputError, match="Wanted an image of up to 9 bytes"):
            entry.fetch()


def test_damaged_archives_are_named(folder, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(InputError, match=r"Wanted a zip archive in .*a\.zip, it is damaged"):
        find_source(str(tmp_path / "a.zip"), column="", every=1)
    (tmp_path / "a.tar").write_bytes(b"no tar" * 200)
    with pytest.raises(InputError, match=r"Wanted a tar archive in .*a\.tar, it is damaged"):
        list(find_source(str(tmp_path / "a.tar"), column="", every=1).entries())
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as packed:
        packed.write(folder / "a.png", "a.png")
    content = bytearray((tmp_path / "b.zip").read_bytes())
    content[60] ^= 255  # in the picture
    (tmp_path / "b.zip").write_bytes(content)
    listed = find_source(str(tmp_path / "b.zip"), column="", every=1).entries()
    entry = next(listed)
    with pytest.raises(InputError, match=r"could not read .*b\.zip/a\.png: Bad CRC"):
        entry.fetch()


def test_every_nth_frame_of_a_video(tmp_path):
    av = pytest.importorskip("av")
    file = tmp_path / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(8):
            picture = Image.new("RGB", (64, 48), (number * 25,) * 3)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode())
    assert entries(file, every=4) == {f"{file}/000000": 0, f"{file}/000004": 2}
    assert entries(file, every=2) == {f"{file}/00000{number}": number // 2 for number in (0, 2, 4, 6)}
    assert [name for name, _ in reopen({f"{file}/000004"})] == [f"{file}/000004"]
    file.write_bytes(b"no video")
    with pytest.raises(InputError, match=r"Wanted a video in .*clip\.mp4, could not decode it"):
        entries(file)


def test_nothing_to_score_is_said(tmp_path):
    for given in (tmp_path, tmp_path / "gone", tmp_path / "*.png"):
        with pytest.raises(InputError, match=r"Wanted images to score in .*, found none: name an image"):
            find_source(str(given), column="image", every=1)
