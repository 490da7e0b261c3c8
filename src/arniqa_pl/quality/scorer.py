import importlib.metadata
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from arniqa_pl.data.crops import fixed_crops, half_scale, with_short_side
from arniqa_pl.data.images import read_image, to_rgb
from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import Encoder

Images = Sequence[Path | str | Image.Image | Tensor] | Path | str | Image.Image | Tensor

_VERSIONS = ("arniqa_pl", "torch", "torchvision", "pillow")
_FORMAT = "arniqa_pl scorer 2"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScoreScale:
    """What a score means.

    Attributes:
        database: whose scores the ridge was fitted to.
        higher_is_better: True for opinion scores (MOS), False for differential ones (DMOS).
        nominal: lowest and highest score that the database's scale allows.
        seen: lowest and highest score in the training data.
        alpha: the ridge's penalty.
        srcc: median SRCC over the test splits.
        plcc: median PLCC over the test splits.
        splits: hash of the splits that these were measured on.

    """

    database: str
    higher_is_better: bool
    nominal: tuple[float, float]
    seen: tuple[float, float]
    alpha: float
    srcc: float
    plcc: float
    splits: str


class Scorer(nn.Module):
    """A frozen encoder and a ridge regression: images in, quality scores out.

    Args:
        encoder: the frozen encoder.
        weight: (2·D,) of the ridge.
        bias: its intercept.
        scale: what its scores mean.
        crop_size: side S of the crops an image is scored by, in pixels.
        crops: 1 (centre) or 5 (centre and corners), at full and half scale.
        short_side: an image is first resized to this, in pixels; None: it is not.

    """

    def __init__(
        self,
        encoder: Encoder,
        weight: Tensor,
        bias: float,
        *,
        scale: ScoreScale,
        crop_size: int,
        crops: int,
        short_side: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder.eval().requires_grad_(False)
        self.ridge = nn.Linear(2 * encoder.dim, 1).requires_grad_(False)
        self.ridge.weight.copy_(weight[None])
        self.ridge.bias.fill_(bias)
        self.scale = scale
        self.crop_size = crop_size
        self.crops = crops
        self.short_side = short_side

    def forward(self, crops: Tensor) -> Tensor:
        """Map crops (N, scale 2, K, 3, S, S) uint8 to scores (N,)."""
        return self.ridge(self.encoder.crop_features(crops)).squeeze(2).mean(dim=1)

    @torch.inference_mode()
    def score(self, images: Images, batch_size: int = 8) -> Tensor:
        """Score images in the database's own scale; `self.scale` says what it means.

        Args:
            images: one image or a sequence: paths, Pillow images, or tensors (3, H, W), uint8 or float in
                [0, 1] (rounded to bytes); a tensor (N, 3, H, W) is N images. Sizes may differ.
            batch_size: images per forward pass.

        Returns:
            (N,) float32 on the CPU.

        Raises:
            InputError: an image cannot be read, or is none.

        """
        pending = iter(_as_list(images))
        scores = []
        while batch := list(islice(pending, batch_size)):
            crops = torch.stack([self._crops(image) for image in batch])
            scores.append(self(crops.to(self.ridge.weight.device)).float().cpu())
        return torch.cat(scores) if scores else torch.empty(0)

    def quality(self, images: Images, batch_size: int = 8, *, clamp: bool = True) -> Tensor:
        """Score images from 0 (as bad as the worst seen in training) to 1 (as good as the best); (N,).

        Says in the log how many scores lie outside that range. They are clamped, or else below 0 or above 1.
        """
        scores = self.score(images, batch_size)
        outside = int(self.outside(scores).sum())
        if outside:
            log.warning(
                "%d of %d scores lie outside of %.4g to %.4g, the range of %s that the scorer was fitted to",
                *(outside, len(scores), *self.scale.seen, self.scale.database),
            )
        return self.to_quality(scores, clamp=clamp)

    def to_quality(self, scores: Tensor, *, clamp: bool = True) -> Tensor:
        """Map scores to [0, 1], higher is better, linear over the range seen in training; clamped or beyond it."""
        low, high = self.scale.seen
        share = (scores - low) / (high - low)
        if clamp:
            share = share.clamp(0, 1)
        return share if self.scale.higher_is_better else 1 - share

    def outside(self, scores: Tensor) -> Tensor:
        """Return (N,) bool: which scores left the range seen in training."""
        low, high = self.scale.seen
        return (scores < low) | (scores > high)

    def save(self, path: Path | str) -> None:
        """Write one safetensors file: the weights, and as metadata whatever is needed to use them."""
        facts = {
            "format": _FORMAT,
            "encoder": self.encoder.name,
            "crop_size": self.crop_size,
            "crops": self.crops,
            "short_side": self.short_side,
            "scale": asdict(self.scale),
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONS},
        }
        tensors = {name: value.contiguous() for name, value in self.state_dict().items()}
        safetensors.torch.save_file(tensors, path, metadata={"arniqa_pl": json.dumps(facts)})

    @classmethod
    def load(cls, path: Path | str) -> "Scorer":
        """Read a file that `save` wrote; nothing is unpickled.

        Raises:
            InputError: no such file, or it is damaged or no scorer.

        """
        file = Path(path)
        if not file.is_file():
            raise InputError(
                f"Wanted a scorer file, found no {file}: give the .safetensors file that training or regression wrote."
            )
        try:
            with safetensors.safe_open(file, "pt") as stored:
                facts = json.loads((stored.metadata() or {}).get("arniqa_pl", "{}"))
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  no mapping
        except (safetensors.SafetensorError, json.JSONDecodeError) as error:
            raise InputError(f"Wanted a scorer in {file}, the file is damaged: {error}") from error
        if facts.get("format") != _FORMAT:
            raise InputError(
                f"Wanted a file of the format {_FORMAT!r}, {file} says {facts.get('format')!r}: give the .safetensors "
                "file that training or regression wrote."
            )
        scale: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts["scale"].items()
        }
        scorer = cls(
            Encoder(facts["encoder"]),
            tensors["ridge.weight"][0],
            float(tensors["ridge.bias"]),
            scale=ScoreScale(**scale),
            crop_size=facts["crop_size"],
            crops=facts["crops"],
            short_side=facts["short_side"],
        )
        scorer.load_state_dict(tensors)
        return scorer

    def _crops(self, image: Path | str | Image.Image | Tensor) -> Tensor:
        pixels = with_short_side(_to_image(image), self.short_side)
        return fixed_crops((pixels, half_scale(pixels)), self.crop_size, self.crops)


def _as_list(images: Images) -> Iterable[Path | str | Image.Image | Tensor]:
    if isinstance(images, str | Path | Image.Image):
        return [images]
    if isinstance(images, Tensor) and images.ndim == 3:
        return [images]
    return images


def _to_image(image: Path | str | Image.Image | Tensor) -> Image.Image:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, Image.Image):
        return to_rgb(image)
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3:
        raise InputError(
            f"Wanted a path, a Pillow image or a tensor (3, H, W), got {tuple(getattr(image, 'shape', ())) or image!r}."
        )
    if image.is_floating_point():
        if not 0 <= float(image.min()) <= float(image.max()) <= 1:
            raise InputError(f"Wanted float images in [0, 1], got {float(image.min())} to {float(image.max())}.")
        image = (image * 255).round()
    return Image.fromarray(image.byte().permute(1, 2, 0).cpu().numpy())
