import pickle
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from arniqa_pl.errors import InputError
from arniqa_pl.models import Encoder
from arniqa_pl.models.encoder import load_encoder, read_weights


@pytest.mark.parametrize(("name", "dim"), [("resnet18", 512), ("resnet50", 2048), ("mobilenet_v2", 1280)])
def test_features_have_unit_length_and_the_width_of_the_last_layer(name, dim):
    encoder = Encoder(name).eval()
    features = encoder(torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert encoder.dim == dim
    assert features.shape == (3, dim)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


def test_imagenet_weights_are_torchvisions_without_a_download():
    encoder = Encoder("mobilenet_v2", "imagenet").eval()
    reference = torchvision.models.mobilenet_v2()
    (file,) = Path(torch.__file__).parents[1].rglob("mobilenet_v2-b0353104.pth")
    reference.load_state_dict(torch.load(file, weights_only=True))
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled = reference.eval().features(images).mean((2, 3))
        wanted = pooled / pooled.norm(dim=1, keepdim=True)
        torch.testing.assert_close(encoder(images), wanted, atol=1e-5, rtol=1e-4)


def test_weights_that_cannot_be_downloaded_say_how_to_give_a_file(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(InputError, match=r"could not download https://.*encoder\.weights=<file>"):
        Encoder("resnet18", "imagenet")


def test_a_damaged_cached_file_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"half a download")
    with pytest.raises(InputError, match=r"resnet18-f37072fd\.pth has .* delete it"):
        Encoder("resnet18", "imagenet")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_files_load_with_or_without_their_classifier(tmp_path, suffix):
    state = torchvision.models.resnet18().state_dict()
    file = tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    encoder = Encoder("resnet18", str(file))
    assert torch.equal(encoder.trunk.layer4[1].conv2.weight, state["layer4.1.conv2.weight"])
    with pytest.raises(InputError, match="Wanted weights of resnet50"):
        Encoder("resnet50", str(file))


def test_timm_backbones_map_as_timm_does_and_load_a_file(tmp_path):
    reference = timm.create_model("resnet10t").eval()
    save_file(reference.state_dict(), tmp_path / "weights.safetensors")
    encoder = Encoder("timm/resnet10t", str(tmp_path / "weights.safetensors")).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pooled = reference.forward_head(reference.forward_features(images), pre_logits=True)
        torch.testing.assert_close(encoder(images), pooled / pooled.norm(dim=1, keepdim=True), atol=1e-6, rtol=1e-5)
    assert encoder.dim == 512
    with pytest.raises(InputError, match=r"Wanted a model of timm as encoder\.name, found 'timm/resnet51'"):
        Encoder("timm/resnet51")


def test_timm_weights_that_cannot_be_downloaded_say_how_to_give_a_file(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # otherwise it tries for a minute
    with pytest.raises(InputError, match=r"could not download .*encoder\.weights=<file>"):
        Encoder("timm/resnet10t", "imagenet")


class _Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_nothing_foreign_is_unpickled(tmp_path):
    file, trace = tmp_path / "evil.pth", tmp_path / "trace"
    file.write_bytes(pickle.dumps({"conv1.weight": _Payload(trace)}))
    with pytest.raises(InputError, match="Wanted tensors in the weights file"):
        read_weights(file)
    torch.save({"state_dict": _Payload(trace)}, file)
    with pytest.raises(InputError, match="Wanted tensors in the weights file"):
        load_encoder(file)
    assert not trace.exists()


def test_unknown_encoders_and_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match="'resnet51'"):
        Encoder("resnet51")
    with pytest.raises(InputError, match=r"no .*gone\.pth"):
        Encoder("resnet18", str(tmp_path / "gone.pth"))
    with pytest.raises(InputError, match=r"no .*checkpoints/best\.ckpt"):
        load_encoder(tmp_path)
    torch.save({"weight": torch.ones(2)}, tmp_path / "other.ckpt")
    with pytest.raises(InputError, match="holds only weight"):
        load_encoder(tmp_path / "other.ckpt")


def test_a_checkpoint_of_another_encoder_is_refused_in_a_sentence(tmp_path):
    state = {f"encoder.{key}": value for key, value in Encoder("resnet18").state_dict().items()}
    torch.save({"encoder": "resnet34", "state_dict": state}, tmp_path / "mixed.ckpt")
    wanted = r"Wanted the encoder resnet34 in .*mixed\.ckpt, found those of another model"
    with pytest.raises(InputError, match=wanted) as caught:
        load_encoder(tmp_path / "mixed.ckpt")
    assert len(str(caught.value).removeprefix(str(tmp_path))) < 500


def test_crop_features_are_full_scale_then_half_scale():
    encoder = Encoder("resnet18").eval()
    crops = torch.randint(0, 256, (2, 2, 5, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    with torch.no_grad():
        features = encoder.crop_features(crops)
        assert features.shape == (2, 5, 1024)
        one = (crops[1, :, 3] / 255 - mean) / std  # (scale, 3, S, S)
        torch.testing.assert_close(features[1, 3], encoder(one).flatten(), atol=1e-5, rtol=1e-4)
