import numpy as np
import pytest
import torch
from PIL import Image

from arniqa_pl.data.images import denormalize, list_images, normalize, read_image, to_tensor, to_unit
from arniqa_pl.errors import InputError


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "I;16", "1"])
def test_whatever_comes_becomes_rgb(tmp_path, photo, mode):
    suffix = ".tif" if mode == "CMYK" else ".png"
    if mode == "I;16":
        source = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        source = photo.convert(mode)
    source.save(tmp_path / f"image{suffix}")
    image = read_image(tmp_path / f"image{suffix}")
    assert image.mode == "RGB"
    assert image.size == photo.size
    blocks = [np.float64(each.convert("L").reduce(16)) for each in (image, photo)]  # dithering averages out
    assert np.abs(blocks[0] - blocks[1]).mean() < 6


def test_transparency_lies_over_white(tmp_path):
    Image.new("RGBA", (8, 8), (200, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png").getpixel((4, 4)) == (255, 255, 255)


def test_orientation_is_applied(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90° to view
    photo.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").size == photo.size[::-1]


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_errors_name_the_file(tmp_path, photo, content):
    file = tmp_path / "broken.jpg"
    if content is None:
        photo.save(file)
        content = file.read_bytes()[:5000]
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"Wanted an image, could not decode .*broken\.jpg"):
        read_image(file)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.png"):
        read_image(tmp_path / "gone.png")


def test_listing_is_sorted_relative_and_of_images_only(tmp_path):
    for name in ("b.PNG", "a.jpg", "sub/c.webp", "notes.txt", "scores.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [str(path) for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "sub/c.webp"]


def test_normalisation_is_imagenets_and_can_be_undone(photo):
    pixels = to_unit(to_tensor(photo))
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() <= pixels.max() <= 1
    red = normalize(pixels)[0]
    torch.testing.assert_close(red, (pixels[0] - 0.485) / 0.229)
    torch.testing.assert_close(denormalize(normalize(pixels)), pixels, atol=1e-6, rtol=0)
