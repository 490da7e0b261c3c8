import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from arniqa_pl.data.crops import (
    fixed_crops,
    half_scale,
    tensor_crops,
    tensor_half_scale,
    tensor_with_short_side,
    with_short_side,
)
from arniqa_pl.data.images import normalize, to_tensor, to_unit
from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import Encoder
from arniqa_pl.models.inference import for_inference
from arniqa_pl.models.precision import find_device, inference_dtype
from arniqa_pl.quality.given import Given, Images, as_list, given_image, given_pixels, passes
from arniqa_pl.quality.scorer_file import find_scorer, read_scorer, write_scorer

WHOLE: Literal["whole"] = "whole"
Policy = Literal[1, 5, "whole"]


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

    Scoring changes nothing in it: threads may share one.

    Args:
        encoder: the frozen encoder.
        weight: (2·D,) of the ridge.
        bias: its intercept.
        scale: what its scores mean.
        crop_size: side S of the crops an image is scored by, in pixels; whole images have none.
        crops: 1 (centre) or 5 (centre and corners), at full and half scale; or "whole": the image itself at both
            scales, as torchmetrics' ARNIQA scores it.
        short_side: an image is first resized to this, in pixels; None: it is not.

    Attributes:
        precision: of the encoder; the ridge computes in float32.

    Raises:
        InputError: another number of crops.

    """

    precision = "float32"

    def __init__(
        self,
        encoder: Encoder,
        weight: Tensor,
        bias: float,
        *,
        scale: ScoreScale,
        crop_size: int,
        crops: Policy,
        short_side: int | None = None,
    ) -> None:
        super().__init__()
        if crops not in (1, 5, WHOLE):
            raise InputError(f"Wanted a scorer of 1 or 5 crops, or of the image as a {WHOLE}, got {crops!r}.")
        self.encoder = encoder.eval().requires_grad_(False)
        self.ridge = nn.Linear(2 * encoder.dim, 1).requires_grad_(False)
        self.ridge.weight.copy_(weight[None])
        self.ridge.bias.fill_(bias)
        self.scale = scale
        self.crop_size = crop_size
        self.crops = crops
        self.short_side = short_side

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever model this is a part of: training would move the batch norms."""
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Score images in one differentiable function: for a loss, a metric or an export.

        Where `score` rounds a resized image to bytes, as the features were that the ridge was fitted to, this does
        not, so the two differ a little (less than 0.1 % of the range on photographs). Of whole images they are equal.

        Args:
            images: (N, 3, H, W) floats in [0, 1], on the scorer's device.

        Returns:
            (N,) in the database's own scale.

        """
        if self.short_side is not None:
            images = tensor_with_short_side(images, self.short_side)
        if self.crops == WHOLE:
            features = self._whole_features(images)
        else:
            half = tensor_half_scale(images, "bicubic")
            crops = torch.stack([tensor_crops(each, self.crop_size, self.crops) for each in (images, half)], dim=1)
            found = self.encoder(normalize(crops).flatten(0, 2)).unflatten(0, crops.shape[:3])
            features = found.transpose(1, 2).flatten(2)
        return self.ridge(features).squeeze(2).mean(dim=1)

    def score(self, images: Images, batch_size: int = 8) -> Tensor:
        """Score images in the database's own scale; `self.scale` says what it means.

        Args:
            images: one image or a sequence: paths, Pillow images, tensors (3, H, W) or arrays (H, W, 3), uint8 or
                float in [0, 1]; a tensor (N, 3, H, W) is N images. Sizes may differ. Floats are rounded to bytes,
                except by a scorer of whole images.
            batch_size: images per forward pass.

        Returns:
            (N,) float32 on the CPU.

        Raises:
            InputError: an image cannot be read, or is none.

        """
        return self.score_crops(images, batch_size).mean(dim=1)

    def score_crops(self, images: Images, batch_size: int = 8) -> Tensor:
        """Score the crops of images, whose means are the images' scores; (N, K) as `score` takes and returns them."""
        scores = [self.prepared_scores(batch).cpu() for batch in self._batches(images, batch_size)]
        return torch.cat(scores) if scores else torch.empty(0, 1)

    @torch.no_grad()
    def features(self, images: Images, batch_size: int = 8) -> Tensor:
        """Return the features of images' crops, full scale then half scale: (N, K, 2·D) as `score` takes them."""
        found = [self._prepared_features(batch).cpu() for batch in self._batches(images, batch_size)]
        return torch.cat(found) if found else torch.empty(0, 1, self.ridge.in_features)

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
        """Write one safetensors file: the weights, and as metadata whatever is needed to use them.

        Raises:
            InputError: the weights are no longer those that were fitted.

        """
        if self.precision != "float32":
            raise InputError(f"Wanted a scorer in float32 to write to {path}, it was loaded in {self.precision}.")
        facts = {
            "encoder": self.encoder.name,
            "crop_size": self.crop_size,
            "crops": self.crops,
            "short_side": self.short_side,
            "scale": asdict(self.scale),
        }
        write_scorer(Path(path), facts, self.state_dict())

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        device: torch.device | str = "cpu",
        precision: str = "float32",
        crops: Policy | None = None,
    ) -> "Scorer":
        """Read a file that `save` wrote; nothing is unpickled.

        Args:
            path: of the file; or of a run's folder that holds one, or an MLflow URI, see `find_scorer`.
            device: where to compute: "cpu", "cuda", "cuda:1", … or "auto": a GPU if there is one.
            precision: of the encoder. "float32" gives the scores that were measured; "bfloat16" and "float16" are
                faster where the hardware has them, and their scores differ a little; "auto" is what is fast on the
                device, which on a CPU without bfloat16 is float32.
            crops: score by another policy than the ridge was fitted to, see `Scorer`; the scale may then be off.

        Raises:
            InputError: no such file, or it is damaged or no scorer; or no such device or precision.

        """
        place = find_device(device)
        facts, tensors = read_scorer(find_scorer(path))
        scale: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in facts["scale"].items()
        }
        scorer = cls(
            Encoder(facts["encoder"]),
            tensors["ridge.weight"][0],
            float(tensors["ridge.bias"]),
            scale=ScoreScale(**scale),
            crop_size=facts["crop_size"],
            crops=facts["crops"] if crops is None else crops,
            short_side=facts["short_side"],
        )
        scorer.load_state_dict(tensors)
        scorer.to(place)
        if precision != "float32":
            for_inference(scorer.encoder, inference_dtype(precision, place))
            scorer.precision = precision
        return scorer

    def prepare(self, image: Given) -> Tensor:
        """Decode an image and cut its crops: (scale 2, K, 3, S, S) uint8; of a whole image, its pixels (3, H, W).

        This is the part that needs no network: do it in threads, and give `prepared_scores` what comes out.

        Raises:
            InputError: it cannot be read, or is no image.

        """
        if self.crops == WHOLE and self.short_side is None:
            return given_pixels(image)
        pixels = with_short_side(given_image(image), self.short_side)
        if self.crops == WHOLE:
            return to_tensor(pixels)
        return fixed_crops((pixels, half_scale(pixels)), self.crop_size, self.crops)

    @torch.no_grad()
    def prepared_scores(self, prepared: Sequence[Tensor]) -> Tensor:
        """Score what `prepare` made of N images, in one batch as far as sizes allow: (N, K) on the scorer's device."""
        return self.ridge(self._prepared_features(prepared)).squeeze(2)

    def _batches(self, images: Images, batch_size: int) -> Iterator[list[Tensor]]:
        pending = iter(as_list(images))
        while batch := [self.prepare(image) for image in islice(pending, batch_size)]:
            yield batch

    def _prepared_features(self, prepared: Sequence[Tensor]) -> Tensor:
        """Return (N, K, 2·D)."""
        device = self.ridge.weight.device
        if self.crops != WHOLE:
            return self.encoder.crop_features(torch.stack(list(prepared)).to(device))
        features = torch.empty(len(prepared), 1, self.ridge.in_features, device=device)
        for rows in passes(prepared):
            images = torch.stack([prepared[row] for row in rows]).to(device)
            features[rows] = self._whole_features(images if images.is_floating_point() else to_unit(images))
        return features

    def _whole_features(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) in [0, 1] to (N, 1, 2·D)."""
        half = tensor_half_scale(images, "bilinear")
        return torch.cat([self.encoder(normalize(each)) for each in (images, half)], dim=1)[:, None]
