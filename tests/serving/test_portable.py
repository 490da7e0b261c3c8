import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from arniqa_pl.data.crops import fixed_crops, half_scale
from arniqa_pl.data.images import read_image, to_tensor, to_unit
from arniqa_pl.demo import demo_photos
from arniqa_pl.errors import InputError
from arniqa_pl.export import example_photos
from arniqa_pl.quality import Scorer
from arniqa_pl.serving import portable
from arniqa_pl.serving.portable import FORMATS, PortableScorer, export_scorer
from tests.quality.test_scorer import make_scorer


@pytest.fixture(scope="module")
def scorer(scorer_file) -> Scorer:
    return Scorer.load(scorer_file)


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return example_photos()


@pytest.mark.parametrize("length", [*range(4, 40), 63, 101, 501, 1023, 1025])
def test_an_axis_is_halved_bit_for_bit_as_pytorch_halves_bytes(length):
    pixels = torch.randint(0, 256, (1, 3, 5, length), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(pixels, size=(5, length // 2), mode="bicubic", antialias=True)
    found = portable._halve(pixels.float(), torch.arange(length // 2), portable._halving(length))
    assert torch.equal(found, wanted.float())


@pytest.mark.parametrize("size", [(300, 201), (64, 64), (90, 40), (31, 80), (5, 4)])
@pytest.mark.parametrize("crops", [1, 5])
def test_the_crops_are_the_scorers_byte_for_byte(photo, size, crops):
    module = PortableScorer(make_scorer())
    module.scorer.crops = crops
    module.scorer.encoder = _Keep()
    image = photo.resize(size)
    module(to_unit(to_tensor(image))[None])
    assert torch.equal(module.scorer.encoder.crops[0].byte(), fixed_crops((image, half_scale(image)), 64, crops))


class _Keep(nn.Module):
    def crop_features(self, crops: torch.Tensor) -> torch.Tensor:
        self.crops = crops
        return torch.zeros(1, 1, 1024)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_gives_the_scores_of_ten_photographs(scorer, photos, name, tmp_path):
    file = tmp_path / f"exported{FORMATS[name].suffix}"
    difference = export_scorer(scorer, name, file, photos, tolerance=1e-4)
    assert len(photos) == 10
    assert 0 <= difference < 1e-4
    assert [path.name for path in tmp_path.iterdir()] == [file.name]  # nothing temporary stays
    run, facts = FORMATS[name].load(file), metadata(name, file)
    fresh = [read_image(path).crop((0, 0, 200 + 31 * k, 171)) for k, path in enumerate(demo_photos()[-3:])]
    for image in fresh:  # of sizes that the export has not seen
        found = run(to_unit(to_tensor(image))[None])
        assert float(found) == pytest.approx(float(scorer.score(image)), abs=1e-4 * 60)
    assert facts["input"].startswith("images: float32 (N, 3, H, W), RGB in [0, 1]")
    assert facts["resize_first"] is None
    assert facts["quality"] == "clip((score - 20) / (80 - 20), 0, 1)"
    assert (facts["crop_size"], facts["scale"]["database"]) == (64, "csv")


def metadata(name, file) -> dict:
    extra = {"arniqa_pl.json": ""}
    if name == "onnx":
        import onnxruntime

        return json.loads(onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map["arniqa_pl"])
    if name == "aot":
        return json.loads(torch._inductor.aoti_load_package(str(file)).get_metadata()["arniqa_pl"])
    if name == "torch_export":
        torch.export.load(file, extra_files=extra)
    else:
        torch.jit.load(file, _extra_files=extra)
    return json.loads(extra["arniqa_pl.json"])


def test_a_short_side_is_described_and_dmos_is_turned_round(photos, tmp_path):
    scorer = make_scorer(higher_is_better=False, short_side=100)
    scorer.scale = replace(scorer.scale, seen=(0.0, 1000.0))
    export_scorer(scorer, "torchscript", tmp_path / "a.ts", photos[:2], tolerance=1e-4)
    facts = metadata("torchscript", tmp_path / "a.ts")
    assert facts["resize_first"] == "bicubic (Pillow), short side to 100 pixels"
    assert facts["quality"] == "1 - clip((score - 0) / (1000 - 0), 0, 1)"


@pytest.mark.parametrize("name", ["torch_export", "aot", "torchscript"])
def test_a_scorer_of_whole_images_is_exported_too(photos, name, tmp_path):
    whole = make_scorer(short_side=100)
    whole.crops = "whole"
    file = tmp_path / f"a{FORMATS[name].suffix}"
    export_scorer(whole, name, file, photos[:3], tolerance=1e-4)
    facts = metadata(name, file)
    assert "H and W at least 66" in facts["input"]
    assert (facts["crops"], facts["crop_size"]) == ("whole", None)


def test_compiling_takes_a_compiler(scorer, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"Wanted a C\+\+ compiler .* found no no-such-compiler"):
        export_scorer(scorer, "aot", tmp_path / "a.aot.pt2", [photo], tolerance=1e-4)
    assert not list(tmp_path.iterdir())


def test_an_export_that_differs_is_not_kept(scorer, photo, tmp_path, monkeypatch):
    file = tmp_path / "a.ts"
    file.write_text("an earlier export")
    monkeypatch.setattr(portable, "_cubic", lambda distance: (1 - distance.abs() / 2).clamp(min=0))
    with pytest.raises(InputError, match=r"torchscript file within 0\.0001 of the range .* nothing is kept"):
        export_scorer(scorer, "torchscript", file, [photo], tolerance=1e-4)
    assert file.read_text() == "an earlier export"
    assert list(tmp_path.iterdir()) == [file]
    scorer.ridge.bias.fill_(np.nan)
    with pytest.raises(InputError, match="found a difference of nan"):
        export_scorer(scorer, "torchscript", file, [photo], tolerance=1e-4)
    scorer.ridge.bias.fill_(50)


def test_unknown_formats_are_told_the_known_ones(scorer, photo, tmp_path):
    with pytest.raises(
        InputError, match="Wanted one of onnx, torch_export, aot, torchscript as format, found 'coreml'"
    ):
        export_scorer(scorer, "coreml", tmp_path / "a", [photo], tolerance=1e-4)
