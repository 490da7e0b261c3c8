import re

import numpy as np
import pytest
import torch
from PIL import Image

from arniqa_pl.atlas import TILE, draw_atlas
from arniqa_pl.data.images import read_image, to_tensor, to_unit
from arniqa_pl.distort import main
from arniqa_pl.distortions import CATALOG, distort
from tests.conftest import PHOTOS

PANDA = PHOTOS / "red_panda.jpg"


@pytest.fixture
def command(monkeypatch, tmp_path, capsys):
    """The entry, run in an empty folder; gives what it printed."""

    def run(*overrides: str) -> str:
        monkeypatch.setattr("sys.argv", ["distort", f"image={PANDA}", *overrides])
        main()
        return "".join(capsys.readouterr())

    monkeypatch.chdir(tmp_path)
    return run


def test_the_atlas_has_a_tile_for_every_distortion_and_level():
    photo = read_image(PANDA).crop((300, 200, 300 + TILE, 200 + TILE))  # no larger than a tile: shown as it is
    sheet = np.asarray(draw_atlas(photo, seed=1))
    deterministic = [row.name for row in CATALOG.values() if not row.random]
    assert len(deterministic) > 12
    for name in deterministic:
        for level in (1, 5):
            pixels = distort(to_unit(to_tensor(photo))[None], name, level)[0]
            tile = (pixels * 255).round().byte().permute(1, 2, 0).numpy()
            top = 56 + list(CATALOG).index(name) * (TILE + 28)
            left = 270 + (level - 1) * (TILE + 8)
            assert np.array_equal(sheet[top : top + TILE, left : left + TILE], tile), (name, level)


def test_the_atlas_depends_on_its_seed_alone():
    photo = read_image(PANDA)
    first, again, other = (np.asarray(draw_atlas(photo, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_photograph_smaller_than_a_tile_has_an_atlas_too():
    assert draw_atlas(Image.new("RGB", (40, 300), "teal"), seed=0).size == draw_atlas(read_image(PANDA), seed=0).size


def test_a_drawn_composition_is_printed_so_that_it_can_be_replayed(command, tmp_path):
    printed = command("composition=draw", "seed=4", "output=drawn.png")
    replay = re.search(r"'(composition=\S+)' (seed=\d+)", printed)
    assert replay, printed
    command(*replay.groups(), "output=replayed.png")
    drawn, replayed = (np.asarray(Image.open(tmp_path / name)) for name in ("drawn.png", "replayed.png"))
    assert np.array_equal(drawn, replayed)
    assert drawn.shape[:2] == read_image(PANDA).size[::-1]
    assert not np.array_equal(drawn, np.asarray(read_image(PANDA)))


def test_a_composition_is_applied_in_its_order(command, tmp_path):
    command("composition=[[darken,3],[jpeg,2]]", "degradation.codec=exact", "output=new/two.png")
    image = to_unit(to_tensor(read_image(PANDA)))[None]
    wanted = distort(distort(image, "darken", 3), "jpeg", 2, codec="exact")[0]
    got = to_unit(to_tensor(Image.open(tmp_path / "new/two.png")))
    assert torch.equal(got, (wanted * 255).round() / 255)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("composition=jpeg", ("Wanted composition=draw", "found jpeg")),
        ("composition=[[jpg,1]]", ("'jpg'", "gaussian_blur")),
        ("composition=[[jpeg,6]]", ("1..5", "6")),
        ("image=nowhere.jpg", ("nowhere.jpg",)),
        ("output=picture.xyz", (".png", "picture.xyz")),
        (f"output={PANDA}", ("another file", "red_panda.jpg")),
    ],
)
def test_mistakes_are_told(command, capsys, override, words):
    before = PANDA.read_bytes()
    with pytest.raises(SystemExit) as end:
        command(override)
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert all(word in told for word in words), told
    assert PANDA.read_bytes() == before
