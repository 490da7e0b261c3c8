"""The atlas: every distortion at every level on one photograph, as a picture."""

from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

from arniqa_pl.data.images import to_image, to_tensor, to_unit
from arniqa_pl.distortions import CATALOG, distort
from arniqa_pl.distortions.catalog import LEVELS

TILE = 192  # px
_STEP_X, _STEP_Y = TILE + 8, TILE + 28
_LEFT, _TOP, _MARGIN = 270, 56, 16
_INK, _PALE = "#222222", "#777777"


def draw_atlas(photo: Image.Image, seed: int) -> Image.Image:
    """Draw the atlas of a photograph: a row for each of the 24 distortions, a tile for each of its 5 levels.

    A tile is the middle of the photograph, which is first shrunk to a short side of 384 px, as in KADIS-700k: so a
    distortion looks as strong as it is in training.

    Args:
        photo: RGB, both sides at least 32 px.
        seed: of what the random distortions draw.

    Raises:
        InputError: the photograph is too small.

    """
    pristine = _middle(photo)
    size = (_LEFT + LEVELS * _STEP_X + _MARGIN, _TOP + len(CATALOG) * _STEP_Y + _MARGIN)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for level in range(LEVELS):
        centre = _LEFT + level * _STEP_X + TILE / 2
        draw.text((centre, _TOP - 12), f"level {level + 1}", _INK, ImageFont.load_default(20), anchor="mb")
    for row, (name, distortion) in enumerate(CATALOG.items()):
        top = _TOP + row * _STEP_Y
        draw.text((_MARGIN, top + TILE / 2), name.replace("_", " "), _INK, ImageFont.load_default(18), anchor="lb")
        group = distortion.group.replace("_", " ")
        draw.text((_MARGIN, top + TILE / 2 + 6), group, _PALE, ImageFont.load_default(15), anchor="lt")
        noise = Generator().manual_seed(seed)
        tiles = distort(pristine.expand(LEVELS, -1, -1, -1), name, range(1, LEVELS + 1), noise)
        for column, (tile, value) in enumerate(zip(tiles, distortion.levels, strict=True)):
            left = _LEFT + column * _STEP_X
            sheet.paste(to_image(tile), (left, top))
            place = (left + TILE / 2, top + TILE + 4)
            draw.text(place, f"{value:g}", _PALE, ImageFont.load_default(13), anchor="mt")
    return sheet


def _middle(photo: Image.Image) -> Tensor:
    """Return the middle of the shrunk photograph, (1, 3, H, W) in [0, 1] with sides of at most TILE."""
    scale = min(1.0, 2 * TILE / min(photo.size))
    small = photo.resize((round(photo.width * scale), round(photo.height * scale)), Image.Resampling.LANCZOS)
    width, height = min(small.width, TILE), min(small.height, TILE)
    left, top = (small.width - width) // 2, (small.height - height) // 2
    return to_unit(to_tensor(small.crop((left, top, left + width, top + height))))[None]
