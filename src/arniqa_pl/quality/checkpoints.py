"""The files that ARNIQA's authors published, read without running anything that is in them."""

import io
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import Encoder, load_into, read_weights
from arniqa_pl.quality.scorer import Scorer, ScoreScale


class Published(NamedTuple):
    """What the published system knows of a database it was regressed on.

    Attributes:
        nominal: lowest and highest score, mapped to 0 and 1 (or 1 and 0) for users.
        higher_is_better: False for DMOS.
        short_side: what its images are resized to first, in pixels; None: as they are.

    """

    nominal: tuple[float, float]
    higher_is_better: bool = True
    short_side: int | None = None


PUBLISHED = {
    "live": Published((1.0, 100.0), higher_is_better=False),
    "csiq": Published((0.0, 1.0), higher_is_better=False),
    "tid2013": Published((0.0, 9.0)),
    "kadid10k": Published((1.0, 5.0)),
    "flive": Published((1.0, 100.0)),
    "spaq": Published((1.0, 100.0), short_side=512),
    "clive": Published((1.0, 100.0)),
    "koniq10k": Published((1.0, 100.0)),
}
"""The databases that a regressor was published for, as their readers describe them (koniq10k: 0 to 100 there)."""


def read_published(encoder: Path, regressor: Path, database: str) -> Scorer:
    """Make a scorer of `ARNIQA.pth` and a `regressor_<database>.pth`.

    Its quality is the published one: linear over the database's nominal range, as the files do not say which scores
    were seen in training. The penalty was not published (NaN).

    Args:
        encoder: a state dict of torchvision's ResNet-50 by the position of its children (`model.0.weight`, …).
        regressor: a TorchScript module with `weights` (1, 4096) and `biases`; its code is not run.
        database: whose scores the regressor gives: a key of `PUBLISHED`.

    Raises:
        InputError: a file is missing, damaged or of another structure, or no regressor was published for the database.

    """
    if database not in PUBLISHED:
        raise InputError(f"Wanted one of {', '.join(PUBLISHED)} as database, found {database!r}.")
    facts = PUBLISHED[database]
    srcc, plcc = _published_correlation(database)
    network = read_encoder(encoder)
    weight, bias = read_regressor(regressor, 2 * network.dim)
    scale = ScoreScale(
        database=database,
        higher_is_better=facts.higher_is_better,
        nominal=facts.nominal,
        seen=facts.nominal,
        alpha=float("nan"),
        srcc=srcc,
        plcc=plcc,
        splits="published",
    )
    return Scorer(network, weight, bias, scale=scale, crop_size=224, crops=5, short_side=facts.short_side)


def read_encoder(file: Path) -> Encoder:
    """Read the published encoder into a ResNet-50; the projector beside it is not needed to score.

    Raises:
        InputError: the file is missing, damaged or holds something else.

    """
    encoder = Encoder("resnet50")
    children = dict(enumerate(name for name, _ in encoder.trunk.named_children()))
    state = {}
    for key, value in read_weights(file).items():
        part, _, rest = str(key).partition(".")
        if part == "projector":
            continue
        position, _, name = rest.partition(".")
        if part != "model" or not position.isdecimal() or int(position) not in children:
            raise InputError(
                f"Wanted ARNIQA's encoder in {file}, keys like model.0.weight, found {key!r}: give the published "
                "ARNIQA.pth."
            )
        state[f"{children[int(position)]}.{name}"] = value
    load_into(encoder.trunk, state, f"ARNIQA's ResNet-50 in {file}")
    return encoder


def read_regressor(file: Path, length: int) -> tuple[Tensor, float]:
    """Read the weights (length,) and the intercept of a published regressor, a TorchScript archive.

    TorchScript is code: `torch.jit.load` would hand the archive to PyTorch's C++ reader and compile what is in it.
    Here only the zip's table of tensors is read, by an unpickler that knows tensors and plain values and refuses
    every other name, so nothing of the file is called.

    Raises:
        InputError: the file is missing, damaged, holds something else, or names a function to call.

    """
    if not file.is_file():
        raise InputError(f"Wanted a regressor file, found no {file}: give the published regressor_<database>.pth.")
    try:
        with zipfile.ZipFile(file) as archive:
            found = _TensorUnpickler(archive).load()
    except _DAMAGE as error:
        raise InputError(f"Wanted a TorchScript regressor in {file}, could not read it: {error}") from error
    values = {name: value for name, value in getattr(found, "__dict__", {}).items() if isinstance(value, Tensor)}
    sizes = [values[name].numel() if name in values else 0 for name in ("weights", "biases")]
    if sizes != [length, 1]:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in values.items()) or "no tensors"
        raise InputError(f"Wanted weights (1, {length}) and one bias in the regressor {file}, found {shapes}.")
    return values["weights"].flatten().float(), float(values["biases"])


# What reading a damaged archive may raise, besides its own errors.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    MemoryError,
    OverflowError,
    zlib.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
_STORAGES = {"FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16}
_MOST_BYTES = 2**20  # of one entry: the published ones hold 16 KiB, and a zip may promise any size


class _TensorUnpickler(pickle.Unpickler):
    """Reads `data.pkl` of a TorchScript archive: tensors, plain values, and objects as bare attributes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        (name,) = (each for each in archive.namelist() if each.count("/") == 1 and each.endswith("/data.pkl"))
        self.folder = name.removesuffix("data.pkl")
        super().__init__(io.BytesIO(self._entry("data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the file; no name reaches an import."""
        if module.split(".")[0] == "__torch__":
            return type("Attributes", (), {})
        known: dict[tuple[str, str], Callable[..., Any] | torch.dtype] = {
            # what stands for a function is made anew each time, so that a file cannot change it
            ("torch._utils", "_rebuild_tensor_v2"): lambda storage, offset, shape, stride, *_: storage.as_strided(
                shape, stride, offset
            ),
            ("collections", "OrderedDict"): OrderedDict,
        }
        known |= {("torch", storage): dtype for storage, dtype in _STORAGES.items()}
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"it wants to call {module}.{name}, which was refused")
        return known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers of ("storage", dtype, key, device, count) as a flat tensor."""
        _, dtype, key, _, _ = pid
        return torch.frombuffer(bytearray(self._entry(f"data/{key}")), dtype=dtype)

    def _entry(self, name: str) -> bytes:
        info = self.archive.getinfo(self.folder + name)
        if info.file_size > _MOST_BYTES:
            raise pickle.UnpicklingError(f"its entry {name} promises {info.file_size} bytes")
        return self.archive.read(info)


def _published_correlation(database: str) -> tuple[float, float]:
    """Return ARNIQA's published SRCC and PLCC on a database, medians over its splits."""
    with resources.as_file(resources.files("arniqa_pl.quality") / "published.csv") as file:
        facts = pd.read_csv(file)
    same = (facts[["trained_on", "database"]] == database).all(axis=1) & (facts["method"] == "ARNIQA")
    (row,) = facts[same].to_dict("records")
    return float(row["srcc"]), float(row["plcc"])
