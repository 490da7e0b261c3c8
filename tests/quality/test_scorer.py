import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from arniqa_pl.data.crops import fixed_crops, half_scale
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.scorer import ScoreScale


def make_scorer(higher_is_better: bool = True, short_side: int | None = None) -> Scorer:
    scale = ScoreScale(
        database="csv",
        higher_is_better=higher_is_better,
        nominal=(0.0, 100.0),
        seen=(20.0, 80.0),
        alpha=0.1,
        srcc=0.9,
        plcc=0.91,
        splits="abc",
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = Encoder("resnet18")
        return Scorer(encoder, torch.randn(1024) * 20, 50.0, scale=scale, crop_size=64, crops=5, short_side=short_side)


@pytest.fixture(scope="module")
def scorer():
    return make_scorer()


def test_score_is_the_ridge_of_the_mean_crop(scorer, photo):
    crops = fixed_crops((photo, half_scale(photo)), 64, 5)
    with torch.no_grad():
        mean = scorer.encoder.crop_features(crops[None])[0].mean(0)
    wanted = float(mean @ scorer.ridge.weight[0] + 50)
    assert float(scorer.score(photo)) == pytest.approx(wanted, abs=1e-3)


def test_files_pillow_images_and_tensors_of_any_size_may_be_mixed(scorer, photo, tmp_path):
    photo.save(tmp_path / "photo.png")
    pixels = torch.from_numpy(np.array(photo)).permute(2, 0, 1)
    small = photo.resize((50, 40))
    scores = scorer.score([tmp_path / "photo.png", photo, pixels, pixels / 255, small, str(tmp_path / "photo.png")])
    assert scores.shape == (6,)
    torch.testing.assert_close(scores[[1, 2, 3, 5]], scores[[0, 0, 0, 0]])
    torch.testing.assert_close(scores[4:5], scorer.score(small))
    assert abs(float(scores[4] - scores[0])) > 1e-3
    torch.testing.assert_close(scorer.score(torch.stack([pixels, pixels])), scores[[0, 0]])
    assert scorer.score([]).shape == (0,)


def test_images_are_resized_to_the_short_side_they_were_trained_at(scorer, photo):
    width, height = photo.size
    short = 100
    resized = photo.resize((width * short // min(photo.size), height * short // min(photo.size)), Image.BICUBIC)
    same = make_scorer(short_side=short)
    assert float(same.score(photo)) == pytest.approx(float(scorer.score(resized)), abs=1e-4)
    assert abs(float(same.score(photo) - scorer.score(photo))) > 1e-3


def test_quality_says_when_scores_leave_the_range_seen_in_training(photo, caplog):
    scorer = make_scorer()
    score = float(scorer.score(photo))
    scorer.scale = replace(scorer.scale, seen=(score + 1, score + 3))
    assert float(scorer.quality([photo])) == 0
    assert "1 of 1 scores lie outside of" in caplog.text
    assert float(scorer.quality([photo], clamp=False)) == pytest.approx(-0.5, abs=1e-4)
    caplog.clear()
    scorer.scale = replace(scorer.scale, seen=(score - 1, score + 3))
    assert float(scorer.quality([photo])) == pytest.approx(0.25, abs=1e-4)
    assert not caplog.text


def test_quality_is_higher_for_better_and_clamped_on_request():
    values = torch.tensor([10.0, 20.0, 50.0, 80.0, 110.0])
    assert make_scorer().outside(values).tolist() == [True, False, False, False, True]
    assert make_scorer(True).to_quality(values, clamp=False).tolist() == pytest.approx([-1 / 6, 0, 0.5, 1, 1.5])
    assert make_scorer(False).to_quality(values, clamp=False).tolist() == pytest.approx([7 / 6, 1, 0.5, 0, -0.5])
    assert make_scorer(True).to_quality(values).tolist() == [0, 0, 0.5, 1, 1]
    assert make_scorer(False).to_quality(values).tolist() == [1, 1, 0.5, 0, 0]


def test_one_file_holds_everything(photo, tmp_path):
    scorer = make_scorer(short_side=100)
    scorer.save(tmp_path / "a.safetensors")
    loaded = Scorer.load(tmp_path / "a.safetensors")
    assert torch.equal(loaded.score(photo), scorer.score(photo))
    assert (loaded.scale, loaded.crop_size, loaded.crops, loaded.short_side) == (scorer.scale, 64, 5, 100)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        facts = json.loads(file.metadata()["arniqa_pl"])
    assert facts["encoder"] == "resnet18"
    assert {"arniqa_pl", "torch", "torchvision"} <= set(facts["versions"])


def test_what_is_no_scorer_is_refused(scorer, tmp_path):
    with pytest.raises(InputError, match=r"found no .*gone\.safetensors"):
        Scorer.load(tmp_path / "gone.safetensors")
    scorer.save(tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        Scorer.load(tmp_path / "cut.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="format 'arniqa_pl scorer 2'"):
        Scorer.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.ones(1, 3, 40, 40)[0, :1], r"tensor \(3, H, W\), got \(1, 40, 40\)"),
        (torch.full((3, 40, 40), 255.0), "float images in"),
        ("no/such/file.png", r"no/such/file\.png"),
        (Image.new("RGB", (1, 1)), None),
    ],
)
def test_images_that_cannot_be_scored_are_named(scorer, image, message):
    if message is None:
        assert torch.isfinite(scorer.score(image)).all()
        return
    with pytest.raises(InputError, match=message):
        scorer.score([image])
