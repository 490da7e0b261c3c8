import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torchmetrics.functional.image.arniqa import _ARNIQA, _NoTrainArniqa

from arniqa_pl.data.crops import fixed_crops, half_scale
from arniqa_pl.data.images import to_tensor, to_unit
from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.given import passes
from arniqa_pl.quality.scorer import ScoreScale
from arniqa_pl.quality.scorer_file import find_scorer


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
        (torch.ones(1, 3, 40, 40)[0, :1], r"tensor \(3, H, W\) .* got \(1, 40, 40\)"),
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


def make_whole(**settings) -> Scorer:
    """A scorer of whole images, with numbers in its batch norms as training leaves them."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = Encoder("resnet50")
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.8, 1.2)
        scale = replace(make_scorer().scale, database="kadid10k", nominal=(1.0, 5.0), seen=(1.0, 5.0))
        weight = torch.randn(4096) * 2
        return Scorer(encoder, weight, 3.0, scale=scale, crop_size=224, crops="whole", **settings)


def torchmetrics_arniqa(scorer: Scorer, monkeypatch) -> torch.nn.Module:
    """torchmetrics' ARNIQA with the weights of a scorer, where it would download those that were published."""
    trunk, ridge = scorer.encoder.trunk, scorer.ridge

    def load(self):
        self.encoder.load_state_dict(torch.nn.Sequential(*list(trunk.children())[:-1]).state_dict())
        self.regressor.load_state_dict(ridge.state_dict())

    monkeypatch.setattr(_ARNIQA, "_load_weights", load)
    return _NoTrainArniqa("kadid10k").eval()


def test_a_whole_image_scores_as_with_torchmetrics(photo, monkeypatch):
    scorer = make_whole()
    theirs = torchmetrics_arniqa(scorer, monkeypatch)
    images = to_unit(torch.stack([to_tensor(photo.resize(size)) for size in ((301, 200), (200, 301))][:1]))
    images = torch.cat([images, torch.rand(images.shape, generator=torch.Generator().manual_seed(2))])
    with torch.no_grad():
        wanted = theirs(images, normalize=True)[:, 0]
    assert abs(float(wanted[0] - wanted[1])) > 1e-3
    torch.testing.assert_close(scorer.quality(images, clamp=False), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(scorer.to_quality(scorer(images), clamp=False), wanted, rtol=0, atol=1e-5)
    assert float(scorer.score(photo.resize((301, 200)))) == pytest.approx(float(wanted[0]) * 4 + 1, abs=4e-5)


def test_whole_images_of_any_sizes_are_scored_in_the_order_given(photo):
    scorer = make_scorer()
    scorer.crops = "whole"
    images = [photo.resize(size) for size in ((90, 70), (64, 64), (90, 70), (1, 1), (64, 64))]
    together = scorer.score(images, batch_size=5)
    torch.testing.assert_close(together, torch.cat([scorer.score(image) for image in images]), rtol=0, atol=1e-3)
    assert len(set(together.round(decimals=2).tolist())) == 3
    assert scorer.features(images).shape == (5, 1, 1024)


def test_images_of_one_size_go_through_the_encoder_together_up_to_a_number_of_pixels():
    small, large = torch.zeros(3, 8, 8), torch.zeros(3, 1024, 2048)
    assert list(passes([small, large, small.byte(), large, small, large])) == [[0, 4], [1, 3], [5], [2]]


def test_the_policy_is_the_scorers_own_unless_another_is_asked_for(scorer, photo, tmp_path):
    scorer.save(tmp_path / "a.safetensors")
    assert Scorer.load(tmp_path / "a.safetensors").crops == 5
    other = Scorer.load(tmp_path / "a.safetensors", crops="whole")
    assert other.score_crops(photo).shape == (1, 1)
    assert abs(float(other.score(photo) - scorer.score(photo))) > 1e-2
    with pytest.raises(InputError, match="Wanted a scorer of 1 or 5 crops, or of the image as a whole, got 3"):
        Scorer.load(tmp_path / "a.safetensors", crops=3)


def test_features_and_crop_scores_are_what_the_score_is_made_of(scorer, photo):
    images = [photo, photo.resize((80, 90))]
    features, crops = scorer.features(images), scorer.score_crops(images)
    assert (features.shape, crops.shape) == ((2, 5, 1024), (2, 5))
    torch.testing.assert_close(features.unflatten(2, (2, 512)).norm(dim=3), torch.ones(2, 5, 2))
    torch.testing.assert_close(crops, features @ scorer.ridge.weight[0] + 50, rtol=0, atol=1e-3)
    torch.testing.assert_close(crops.mean(dim=1), scorer.score(images))


def test_numpy_arrays_score_as_the_pictures_they_are(scorer, photo):
    pixels = np.array(photo)
    scores = scorer.score([pixels, pixels.astype(np.float32) / 255, photo])
    # On some processors an image's place in the batch decides about the last bit.
    torch.testing.assert_close(scores, scores[:1].expand(3))
    torch.testing.assert_close(scorer.score(np.stack([pixels, pixels])), scores[:2])
    with pytest.raises(InputError, match="Wanted an image of bytes, or of floats in"):
        scorer.score(pixels.astype(np.int32))


@pytest.mark.parametrize("precision", ["bfloat16", "float16", "auto"])
def test_lower_precision_changes_scores_little_and_cannot_be_saved(photo, tmp_path, precision):
    exact = make_scorer()
    exact.save(tmp_path / "a.safetensors")
    fast = Scorer.load(tmp_path / "a.safetensors", precision=precision)
    low, high = exact.scale.seen
    images = [photo, photo.resize((100, 100)), photo.convert("L")]
    difference = (fast.score(images) - exact.score(images)).abs().max()
    assert difference < 0.005 * (high - low)
    kinds = {type(module) for module in fast.encoder.modules()}
    assert torch.nn.Conv2d in kinds
    assert torch.nn.BatchNorm2d not in kinds
    with pytest.raises(InputError, match=f"in float32 to write to .*b.safetensors, it was loaded in {precision}"):
        fast.save(tmp_path / "b.safetensors")


def test_devices_and_precisions_that_are_not_there_are_refused(scorer, tmp_path):
    scorer.save(tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="Wanted a precision out of float32, bfloat16, float16 and auto, got 'int4'"):
        Scorer.load(tmp_path / "a.safetensors", precision="int4")
    with pytest.raises(InputError, match="found no 'gpu' here"):
        Scorer.load(tmp_path / "a.safetensors", device="gpu")
    assert next(Scorer.load(tmp_path / "a.safetensors", device="auto").parameters()).device.type in ("cpu", "cuda")


@pytest.mark.parametrize(("crops", "short_side"), [(5, None), ("whole", 40)])
def test_the_gradient_of_the_score_is_that_of_finite_differences(crops, short_side):
    scorer = make_scorer(short_side=short_side).double()
    scorer.crops, scorer.crop_size = crops, 32
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(1, 3, 50, 46, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    image.requires_grad_()
    (gradient,) = torch.autograd.grad(scorer(image).sum(), image)
    step = 1e-7  # larger ones cross kinks of the ReLUs
    with torch.no_grad():
        for _ in range(3):
            direction = torch.randn(image.shape, generator=generator, dtype=torch.float64)
            difference = (scorer(image + step * direction) - scorer(image - step * direction)) / (2 * step)
            assert float(difference) == pytest.approx(float((gradient * direction).sum()), rel=1e-4)
    assert gradient.abs().max() > 0
    assert all(parameter.grad is None for parameter in scorer.parameters())


@pytest.mark.parametrize("short_side", [None, 100])
def test_the_differentiable_score_is_the_score_but_for_rounding(photo, short_side):
    scorer = make_scorer(short_side=short_side)
    images = to_unit(torch.stack([to_tensor(photo), to_tensor(photo.rotate(180))]))
    low, high = scorer.scale.seen
    with torch.no_grad():
        torch.testing.assert_close(scorer(images), scorer.score(images), rtol=0, atol=0.001 * (high - low))


def test_a_scorer_inside_a_model_that_trains_keeps_its_batch_norms(scorer):
    model = torch.nn.Sequential(scorer).train()
    model(torch.rand(2, 3, 64, 64))
    assert not any(module.training for module in scorer.modules())
    assert int(scorer.encoder.trunk.bn1.num_batches_tracked) == 0


def test_threads_may_share_a_scorer(scorer, photo):
    images = [photo.resize((64 + 8 * number, 80)) for number in range(6)]
    wanted = [scorer.score(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scorer.score, images * 3))
    assert torch.equal(torch.stack(found), torch.stack(wanted * 3))


def test_a_scorer_is_found_in_a_folder_and_behind_an_mlflow_uri(scorer, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    (folder / "deep").mkdir(parents=True)
    scorer.save(folder / "deep" / "csv.safetensors")
    assert find_scorer(folder) == folder / "deep" / "csv.safetensors"

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.create_experiment("scores", artifact_location=(tmp_path / "artifacts").as_uri())
    run = client.create_run(experiment).info.run_id
    client.log_artifact(run, folder / "deep" / "csv.safetensors", "scorers")
    client.create_registered_model("mine")
    client.create_model_version("mine", (tmp_path / "artifacts" / run / "artifacts" / "scorers").as_uri(), run)
    for uri in (f"runs:/{run}/scorers/csv.safetensors", f"runs:/{run}/scorers", "models:/mine/1"):
        loaded = Scorer.load(uri)
        assert torch.equal(loaded.ridge.weight, scorer.ridge.weight), uri
    with pytest.raises(InputError, match=f"Wanted a scorer at models:/other/1, MLflow at sqlite:///{tmp_path}"):
        find_scorer("models:/other/1")

    scorer.save(folder / "live.safetensors")
    with pytest.raises(InputError, match=r"one scorer in .*found deep/csv\.safetensors, live\.safetensors"):
        find_scorer(folder)


def test_the_package_gives_the_scorer_without_importing_it_beforehand():
    code = "import sys, arniqa_pl; assert 'torch' not in sys.modules; print(arniqa_pl.Scorer.__module__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "arniqa_pl.quality.scorer"
