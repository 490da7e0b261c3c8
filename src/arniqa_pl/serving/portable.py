"""A scorer as one graph that other runtimes execute: ONNX, torch.export, AOTInductor, TorchScript."""

import copy
import importlib.metadata
import json
import math
import os
import shlex
import shutil
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from arniqa_pl.data.crops import crop_places, with_short_side
from arniqa_pl.data.images import to_tensor, to_unit
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import WHOLE, Scorer

Run = Callable[[Tensor], Tensor]

INPUT, OUTPUT = "images", "score"


class PortableScorer(nn.Module):
    """What `Scorer.score` does from decoded images on, in tensor operations that hold for any size."""

    def __init__(self, scorer: Scorer) -> None:
        super().__init__()
        self.scorer = copy.copy(scorer)  # shares the weights
        self.scorer.short_side = None  # the caller resizes: to a size that depends on which side is the short one

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, 3, H, W) RGB in [0, 1], of the scorer's short side if it has one, to scores (N,)."""
        scorer = self.scorer
        if scorer.crops == WHOLE:
            return scorer(images)
        pixels = (images * 255).round()
        height, width = pixels.shape[2:]
        full = [_crop(pixels, rows, columns) for rows, columns in self._places(height, width)]
        kernels = _halving(width), _halving(height)
        places = self._places(height // 2, width // 2)
        half = [_half_scale_crop(pixels, rows, columns, *kernels) for rows, columns in places]
        crops = torch.stack([torch.stack(full, dim=1), torch.stack(half, dim=1)], dim=1)
        return scorer.ridge(scorer.encoder.crop_features(crops)).squeeze(2).mean(dim=1)

    def _places(self, height: int, width: int) -> list[tuple[Tensor, Tensor]]:
        """Return the rows (S,) and the columns (S,) of each crop."""
        size, steps = self.scorer.crop_size, torch.arange(self.scorer.crop_size)
        places = crop_places(width, height, size)[: int(self.scorer.crops)]
        return [(top + steps, left + steps) for left, top in places]


def _crop(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Cut rows (S,) and columns (S,) out of images (N, 3, H, W); outside of them there are zeros."""
    height, width = pixels.shape[2:]
    crop = pixels[:, :, rows.clamp(0, height - 1)][..., columns.clamp(0, width - 1)]
    return crop * _inside(rows, height)[:, None] * _inside(columns, width)


def _inside(places: Tensor, length: int) -> Tensor:
    return (places >= 0) & (places < length)


class Halving(NamedTuple):
    """How an axis is halved: the pixels that each output sees, their weights (both (outputs, taps)), and their sum."""

    taps: Tensor
    weights: Tensor
    one: Tensor


_TAPS = 11  # source pixels that a pixel at half scale may see: 8 of an even side, 11 of a side of 5


def _halving(length: int) -> Halving:
    """Compute PyTorch's antialiased bicubic kernel for bytes, whose weights are whole numbers of 16 bits."""
    places = torch.arange(length // 2, dtype=torch.float64)
    ratio = torch.ones_like(places) * length / (length // 2)
    centre = (places + 0.5) * ratio
    first = (centre - 2 * ratio + 0.5).floor().clamp(min=0)
    last = (centre + 2 * ratio + 0.5).floor().clamp(max=length)
    taps = first[:, None] + torch.arange(_TAPS, dtype=torch.float64)
    weights = _cubic((taps - centre[:, None] + 0.5) / ratio[:, None]) * (taps < last[:, None])
    weights = weights / weights.sum(dim=1, keepdim=True)
    one = torch.where(weights.max() * 2**16 + 0.5 < 2**15, 2.0**16, 2.0**15)
    weights = (weights * one + 0.5 * weights.sign()).trunc()
    return Halving(taps.long().clamp(max=length - 1), weights.int(), one)


def _half_scale_crop(pixels: Tensor, rows: Tensor, columns: Tensor, across: Halving, down: Halving) -> Tensor:
    """Cut rows (S,) and columns (S,) out of the half-scale versions of images (N, 3, H, W) of whole numbers up to 255.

    Bit for bit what `half_scale` computes on bytes, rounding after each axis: one pixel in 250 that is off by 1 moves
    a score by more than 1e-4 of its range.
    """
    height, width = pixels.shape[2:]
    halved = _halve(pixels, columns.clamp(0, width // 2 - 1), across)
    halved = _halve(halved.transpose(2, 3), rows.clamp(0, height // 2 - 1), down).transpose(2, 3)
    return halved * _inside(rows, height // 2)[:, None] * _inside(columns, width // 2)


def _halve(pixels: Tensor, outputs: Tensor, kernel: Halving) -> Tensor:
    """Halve the last axis of (N, 3, H, W), at some outputs (S,) of it only."""
    source = pixels[..., kernel.taps[outputs]].int()  # (N, 3, H, S, taps)
    total = (source * kernel.weights[outputs]).sum(dim=4).double()
    return ((total + kernel.one / 2) / kernel.one).floor().clamp(0, 255).float()


def _cubic(distance: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5, of support 2."""
    x = distance.abs()
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, far) * (x < 2)


def least_side(scorer: Scorer) -> int:
    """Return the least height and width that an export takes, in pixels: at less PyTorch would write another graph.

    Of an image of 3 pixels the half-scale version has one, and of a whole image at half scale one pixel would be left
    after the five halvings inside a usual encoder.
    """
    return 2 * 33 if scorer.crops == WHOLE else 4


class Format(NamedTuple):
    """A way to write a `PortableScorer`: the suffix of its files, how to write one, and how to run one."""

    suffix: str
    write: Callable[[PortableScorer, str, Path], None]
    load: Callable[[Path], Run]


def export_scorer(scorer: Scorer, name: str, output: Path, images: Sequence[Image.Image], *, tolerance: float) -> float:
    """Write a scorer in a format, load it again, and keep it only if it scores images as the scorer does.

    Args:
        scorer: on the CPU.
        name: of one of `FORMATS`.
        output: the file to write; an earlier one is replaced, at the end.
        images: RGB, of any sizes, to compare on: one by one, and the first one twice in a batch.
        tolerance: the largest difference allowed, as a share of the range seen in training.

    Returns:
        The largest difference, as such a share.

    Raises:
        InputError: no such format, its packages are missing, or the difference is larger.

    """
    if name not in FORMATS:
        raise InputError(f"Wanted one of {', '.join(FORMATS)} as format, found {name!r}.")
    shape = FORMATS[name]
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".export-") as folder:
        file = Path(folder) / output.name
        shape.write(PortableScorer(scorer).eval(), json.dumps(describe(scorer)), file)
        difference = _largest_difference(scorer, shape.load(file), images)
        if not difference <= tolerance:
            raise InputError(
                f"Wanted the scores of the {name} file within {tolerance:g} of the range seen in training, found a "
                f"difference of {difference:.2g}: nothing is kept. Choose another format, or raise the tolerance."
            )
        file.replace(output)
    return difference


@torch.inference_mode()
def _largest_difference(scorer: Scorer, run: Run, images: Sequence[Image.Image]) -> float:
    low, high = scorer.scale.seen
    inputs = [to_unit(to_tensor(with_short_side(image, scorer.short_side)))[None] for image in images]
    wanted = scorer.score(images)
    found = torch.cat([run(each) for each in inputs])
    twice = run(inputs[0].expand(2, -1, -1, -1))
    return float(torch.cat([found - wanted, twice - wanted[0]]).abs().max()) / (high - low)


def describe(scorer: Scorer) -> dict[str, Any]:
    """Say what goes into the graph, what comes out, and what it means: the metadata of every export."""
    low, high = scorer.scale.seen
    share = f"clip((score - {low:g}) / ({high:g} - {low:g}), 0, 1)"
    whole, least = scorer.crops == WHOLE, least_side(scorer)
    return {
        "input": f"{INPUT}: float32 (N, 3, H, W), RGB in [0, 1] (bytes / 255), upright, H and W at least {least}; "
        "crops, half scale and normalisation are inside",
        "resize_first": scorer.short_side and f"bicubic (Pillow), short side to {scorer.short_side} pixels",
        "output": f"{OUTPUT}: float32 (N,), on the scale of {scorer.scale.database}",
        "quality": share if scorer.scale.higher_is_better else f"1 - {share}",
        "encoder": scorer.encoder.name,
        "crop_size": None if whole else scorer.crop_size,
        "crops": scorer.crops,
        "scale": scale_facts(scorer),
        "versions": {name: importlib.metadata.version(name) for name in ("arniqa_pl", "torch", "torchvision")},
    }


def scale_facts(scorer: Scorer) -> dict[str, Any]:
    """Return what a score means in plain values; JSON has no NaN for a penalty that nobody told."""
    facts = asdict(scorer.scale)
    return facts | {"alpha": None if math.isnan(facts["alpha"]) else facts["alpha"]}


def _example(module: PortableScorer) -> Tensor:
    """Images to trace with: two, and of sides that differ, so that no number of theirs is taken for a constant."""
    side = 2 * module.scorer.crop_size
    return torch.rand(2, 3, side + 32, side + 47)


def _dynamic(module: PortableScorer) -> dict[int, Any]:
    """Say which dimensions of the input may be of any size."""
    height, width = (torch.export.Dim(name, min=least_side(module.scorer)) for name in ("height", "width"))
    return {0: torch.export.Dim("batch", min=1), 2: height, 3: width}


def _write_onnx(module: PortableScorer, facts: str, file: Path) -> None:
    try:
        import onnxruntime  # noqa: F401  not after the long export
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"Wanted the packages of the extra export, {error.name} is not installed: pip install 'arniqa_pl[export]'."
        ) from error
    program = torch.onnx.export(
        module,
        (_example(module),),
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=(_dynamic(module),),
        opset_version=20,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    if program is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    program.model.metadata_props[_METADATA] = facts
    program.save(file)


def _load_onnx(file: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])


def _write_program(module: PortableScorer, facts: str, file: Path) -> None:
    program = torch.export.export(module, (_example(module),), dynamic_shapes=(_dynamic(module),))
    torch.export.save(program, file, extra_files={_FACTS: facts})


def _load_program(file: Path) -> Run:
    return torch.export.load(file).module()


def _write_compiled(module: PortableScorer, facts: str, file: Path) -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(shlex.split(compiler)[0]) is None:
        raise InputError(
            f"Wanted a C++ compiler for the format aot, found no {compiler}: install it, or name another with CXX=…."
        )
    program = torch.export.export(module, (_example(module),), dynamic_shapes=(_dynamic(module),))
    package = file.with_name("compiled.pt2")  # PyTorch insists on this suffix
    settings = {"aot_inductor.metadata": {_METADATA: facts}, "cpp.dynamic_threads": True}  # not those of this process
    torch._inductor.aoti_compile_and_package(program, package_path=str(package), inductor_configs=settings)
    package.replace(file)


def _load_compiled(file: Path) -> Run:
    package = torch._inductor.aoti_load_package(str(file))
    return lambda images: package(images.contiguous())  # it takes any other layout for this one, without a word


def _write_torchscript(module: PortableScorer, facts: str, file: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)  # PyTorch deprecates it: that is its point
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # comparisons of sizes hold from least_side on
        torch.jit.save(torch.jit.trace(module, _example(module)), file, _extra_files={_FACTS: facts})


def _load_torchscript(file: Path) -> Run:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit", FutureWarning)
        return torch.jit.load(file)


_FACTS, _METADATA = "arniqa_pl.json", "arniqa_pl"
FORMATS = {
    "onnx": Format(".onnx", _write_onnx, _load_onnx),
    "torch_export": Format(".pt2", _write_program, _load_program),
    "aot": Format(".aot.pt2", _write_compiled, _load_compiled),
    "torchscript": Format(".ts", _write_torchscript, _load_torchscript),
}
