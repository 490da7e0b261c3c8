import io
import logging
import os
import random
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from arniqa_pl.data.images import denormalize, list_images, normalize, read_image, to_tensor, to_unit
from arniqa_pl.errors import InputError


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "CMYK", "CMYK.jpg", "YCbCr", "LAB", "I;16", "1"])
def test_whatever_comes_becomes_rgb(tmp_path, photo, mode):
    mode, _, told = mode.partition(".")
    suffix = f".{told}" if told else ".tif" if mode in ("CMYK", "YCbCr", "LAB") else ".png"
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


def png(pixels: np.ndarray, colour_type: int) -> bytes:
    """A PNG of (H, W, channels) uint16, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    deep = header(width, height, bits=16, colour_type=colour_type)
    return png_of((b"IHDR", deep), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_sixteen_bits_keep_their_upper_half(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for suffix in ("png", "tif"):
        Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
        assert np.array_equal(np.asarray(read_image(tmp_path / f"deep.{suffix}"))[..., 1], values >> 8)
    opaque, clear = np.full_like(values, 65535), np.zeros_like(values)
    colours = [values, values.T, values[::-1]]
    for colour_type, channels in {2: colours, 6: [*colours, opaque]}.items():
        decoded = read_image(io.BytesIO(png(np.dstack(channels), colour_type)))
        assert np.array_equal(np.asarray(decoded), np.dstack(colours) >> 8)
    grey = np.asarray(read_image(io.BytesIO(png(np.dstack([values, np.hstack([opaque, clear])[:, 128:384]]), 4))))
    assert np.array_equal(grey[:, :128, 2], values[:, :128] >> 8)
    assert (grey[:, 128:] == 255).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_range_are_refused(tmp_path, dtype):
    Image.fromarray(np.full((8, 8), 1, dtype)).save(tmp_path / "measured.tif")  # black, or white?
    with pytest.raises(InputError, match=r"could not decode .*measured\.tif: .* 8 or 16 bits a channel"):
        read_image(tmp_path / "measured.tif")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(tmp_path, mode):
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    image.paste((200, 0, 0, 255), (0, 0, 4, 8))
    image.convert(mode).save(tmp_path / "half.png")
    decoded = read_image(tmp_path / "half.png")
    assert decoded.getpixel((6, 4)) == (255, 255, 255)
    assert decoded.getpixel((1, 4)) != (255, 255, 255)


@pytest.mark.parametrize("suffix", ["gif", "webp", "bmp", "tif", "avif"])
def test_formats(tmp_path, photo, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    frames = {"save_all": True, "append_images": [Image.new("RGB", photo.size)]} if suffix in ("gif", "webp") else {}
    photo.save(tmp_path / f"image.{suffix}", **frames)  # of an animation, the first frame is the photograph
    assert [str(path) for path in list_images(tmp_path)] == [f"image.{suffix}"]
    difference = np.int16(read_image(tmp_path / f"image.{suffix}")) - np.int16(photo)
    assert np.abs(difference).mean() < 8


def test_bombs_are_refused_before_they_go_off(tmp_path):
    content = png_of((b"IHDR", header(60000, 60000)), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b""))
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(InputError, match=r"could not decode .*bomb\.png: .*decompression bomb"):
        read_image(tmp_path / "bomb.png")


def test_programs_are_not_run(tmp_path, photo):
    """Encapsulated PostScript, whatever it calls itself."""
    photo.save(tmp_path / "program.jpg", "EPS")
    with pytest.raises(InputError, match=r"could not decode .*program\.jpg: wanted pixels, found PostScript"):
        read_image(tmp_path / "program.jpg")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_orientation_is_applied(tmp_path, photo, suffix):
    turned = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # of Image.Transpose, to view it upright
    photo = photo.resize((48, 30))
    for orientation, how in turned.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        photo.save(tmp_path / f"turned.{suffix}", exif=exif, lossless=True)
        upright = photo.transpose(Image.Transpose(how))
        assert read_image(tmp_path / f"turned.{suffix}").tobytes() == upright.tobytes()


def of_filters(pixels: np.ndarray, filters: list[int]) -> bytes:
    """A PNG of (H, W, 3) uint8 whose rows have these filters in turn, and noise where their differences would be."""
    height, width, _ = pixels.shape
    rows = b"".join(bytes([filters[row % len(filters)]]) + pixels[row].tobytes() for row in range(height))
    return png_of((b"IHDR", header(width, height)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def header(width: int, height: int, *, bits: int = 8, colour_type: int = 2, interlaced: bool = False) -> bytes:
    return struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, interlaced)


def by_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture
def decoded_by_libpng(monkeypatch):
    """Whatever imagecodecs was given."""
    given, decode = [], imagecodecs.png_decode
    monkeypatch.setattr(imagecodecs, "png_decode", lambda content: given.append(content) or decode(content))
    return given


@pytest.mark.parametrize("filters", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4]])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (31, 17), (256, 64)])
def test_plain_pngs_have_the_pixels_that_pillow_finds(decoded_by_libpng, filters, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    content = of_filters(pixels, filters)
    assert np.array_equal(np.asarray(read_image(io.BytesIO(content))), by_pillow(content))
    assert decoded_by_libpng == [content]


def test_photographs_have_the_pixels_that_pillow_finds(tmp_path, decoded_by_libpng, photo):
    metadata = PngImagePlugin.PngInfo()
    metadata.add_text("Software", "a converter")
    metadata.add(b"gAMA", struct.pack(">I", 45455))
    metadata.add(b"tIME", bytes((7, 232, 1, 1, 0, 0, 0)))
    for number, options in enumerate(
        [{}, {"compress_level": 0}, {"optimize": True}, {"pnginfo": metadata, "dpi": (72, 72)}]
    ):
        photo.save(tmp_path / f"{number}.png", **options)
        assert np.array_equal(np.asarray(read_image(tmp_path / f"{number}.png")), np.asarray(photo))
    assert len(decoded_by_libpng) == 4


def test_what_more_than_pixels_says_is_left_to_pillow(decoded_by_libpng, photo):
    """An orientation in any of its places, a colour for transparency, interlacing, more after the end."""
    photo = photo.resize((48, 30))
    stream, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    photo.save(stream, "PNG")
    plain = stream.getvalue()
    before, pixels = plain[:33], plain[33:]
    told = b"\nexif\n%8d\n" % len(exif.tobytes()) + exif.tobytes().hex().encode()
    hidden = [
        (b"eXIf", exif.tobytes()[6:]),
        (b"tEXt", b"Raw profile type exif\0" + told),
        (b"tEXt", b"exif\0" + exif.tobytes()),
    ]
    for chunk in hidden:
        image = read_image(io.BytesIO(before + png_of(chunk)[8:] + pixels))
        assert np.array_equal(np.asarray(image), np.rot90(np.asarray(photo), -1))
    colour = struct.pack(">HHH", *photo.getpixel((3, 4)))
    image = read_image(io.BytesIO(before + png_of((b"tRNS", colour))[8:] + pixels))
    assert image.getpixel((3, 4)) == (255, 255, 255)
    assert np.array_equal(np.asarray(read_image(io.BytesIO(plain + b"more"))), np.asarray(photo))
    passes = png_of((b"IHDR", header(1, 1, interlaced=True)), (b"IDAT", zlib.compress(b"\0abc")), (b"IEND", b""))
    assert read_image(io.BytesIO(passes)).getpixel((0, 0)) == tuple(b"abc")
    assert not decoded_by_libpng


def test_no_bit_of_a_plain_png_can_turn_unseen(decoded_by_libpng, photo):
    stream = io.BytesIO()
    photo.resize((24, 16)).save(stream, "PNG")
    content = stream.getvalue()
    whole = read_image(io.BytesIO(content)).tobytes()
    harmless = []  # lengths and the last check sum: where Pillow, which gets what is not plain, does not look
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            image = read_image(io.BytesIO(damaged))
        except InputError:
            continue
        harmless.append(bit)
        assert image.tobytes() == whole, bit
    assert len(harmless) < 16 * 8
    assert len(decoded_by_libpng) > 0.9 * 8 * len(content)


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_errors_name_the_file(tmp_path, photo, content):
    file = tmp_path / "broken.jpg"
    if content is None:
        photo.save(file)
        content = file.read_bytes()[:5000]
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"Wanted an image, could not decode .*broken\.jpg"):
        read_image(file)


def encoded(photo: Image.Image) -> dict[str, bytes]:
    """The photograph in every format, with metadata where it has some."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    colours, gray, clear = photo.convert("P"), photo.convert("L"), photo.convert("RGBA")
    kinds = {
        "jpg": [(photo, {"exif": exif}), (photo, {"progressive": True}), (photo.convert("CMYK"), {}), (gray, {})],
        "png": [(photo, {}), (photo, {"exif": exif}), (colours, {}), (clear, {}), (deep, {})],
        "gif": [(colours, {"save_all": True, "append_images": [colours]})],
        "webp": [(photo, {"exif": exif}), (clear, {"lossless": True})],
        "bmp": [(photo, {}), (colours, {})],
        "tif": [(photo, {}), (photo, {"compression": "tiff_lzw"}), (photo, {"compression": "jpeg"})],
        "avif": [(photo, {})] if features.check("avif") else [],
    }
    contents = {}
    for suffix, variants in kinds.items():
        for number, (image, options) in enumerate(variants):
            stream = io.BytesIO()
            image.save(stream, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()), **options)
            contents[f"{number}.{suffix}"] = stream.getvalue()
    return contents


def write_damaged(folder: Path, originals: dict[str, bytes], count: int) -> dict[str, str]:
    """Write the originals in all states of decay; return what was done to each file."""
    dice = random.Random(0)
    done = {}
    names = sorted(originals)
    for number in range(count):
        original = names[number % len(names)]
        content = bytearray(originals[original])
        damage = dice.choice(["truncated", "truncated", "bits", "bits", "header", "suffix", "empty", "folder", "link"])
        name = f"{number:04d}_{original}"
        if damage == "truncated":
            content = content[: dice.randrange(1, len(content))]
        elif damage == "bits":
            for _ in range(dice.choice([1, 2, 8])):
                content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        elif damage == "header":
            for _ in range(4):
                content[dice.randrange(min(len(content), 200))] = dice.randrange(256)
        elif damage == "suffix":
            name = f"{number:04d}.{dice.choice(['png', 'jpg', 'gif', 'webp', 'bmp', 'tif', 'avif'])}"
        elif damage == "empty":
            content = bytearray()
        done[name] = damage
        if damage == "folder":
            (folder / name).mkdir()
        elif damage == "link":
            (folder / name).symlink_to(folder / "nowhere")
        else:
            (folder / name).write_bytes(content)
    return done


@pytest.fixture
def silent_decoders(caplog):
    """Keep what Pillow's plugins and libtiff say of damaged files out of the terminal."""
    caplog.set_level(logging.CRITICAL, "PIL")
    standard, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    yield
    os.dup2(standard, 2)
    os.close(standard)
    os.close(nothing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("silent_decoders")
def test_damaged_files_are_decoded_or_reported(tmp_path, photo):
    originals = encoded(photo.resize((96, 64)))
    done = write_damaged(tmp_path, originals, 2000)
    sound = {name: read_image(io.BytesIO(content), name).tobytes() for name, content in originals.items()}
    outcomes = {damage: [0, 0] for damage in done.values()}  # how many were reported, how many decoded
    reports = {}
    for name, damage in done.items():
        try:
            image = read_image(tmp_path / name)
        except InputError as error:
            reports[name] = str(error)
            outcomes[damage][0] += 1
            continue
        outcomes[damage][1] += 1
        assert image.mode == "RGB"
        assert np.asarray(image).any(), f"{name} is black"
        if damage == "truncated":  # only what comes after the pixels may be lacking
            assert image.tobytes() == sound[name.partition("_")[2]], name
    assert all(name in report for name, report in reports.items())
    assert outcomes["suffix"][0] == 0  # the content decides
    assert all(outcomes[damage][1] == 0 for damage in ("empty", "folder", "link"))
    assert outcomes["truncated"][0] > 10 * outcomes["truncated"][1]
    assert min(outcomes["bits"]) > 50
    listed = {str(path) for path in list_images(tmp_path)}
    assert listed == {name for name, damage in done.items() if damage != "folder"}


def test_pipes_and_devices_are_no_images(tmp_path):
    """Opening one would wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    for name, target in {"to_pipe.png": "pipe.png", "zeros.png": "/dev/zero", "loop.png": "loop.png"}.items():
        (tmp_path / name).symlink_to(target)
    assert [str(path) for path in list_images(tmp_path)] == ["loop.png"]


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
