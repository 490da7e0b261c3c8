"""A scorer's file: where it is found, and what is in it."""

import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from arniqa_pl.errors import InputError, writing

_FORMAT = "arniqa_pl scorer 2"
_VERSIONS = ("arniqa_pl", "torch", "torchvision", "pillow", "imagecodecs")
_URIS = ("models:/", "runs:/", "mlflow-artifacts:/")


def find_scorer(source: Path | str) -> Path:
    """Return the file of a scorer.

    Args:
        source: a file; a folder, as of a run, that holds one; or a URI of MLflow, whose artifact is downloaded:
            `models:/<name>/<version>`, `runs:/<run id>/scorers/<file>`. MLflow's own variable MLFLOW_TRACKING_URI says
            which server or database to ask.

    Raises:
        InputError: there is none, or there are several.

    """
    found = _download(str(source)) if str(source).startswith(_URIS) else Path(source)
    if found.is_file():
        return found
    files = sorted(found.rglob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    if files:
        names = ", ".join(str(file.relative_to(found)) for file in files)
        raise InputError(f"Wanted one scorer in {source}, found {names}: name one of these files.")
    raise InputError(
        f"Wanted a scorer file, found no {source}: give the .safetensors file that training or regression wrote, or "
        "the folder that holds it."
        if not found.is_dir()
        else f"Wanted a scorer in the folder {source}, found no .safetensors file in it."
    )


def _download(uri: str) -> Path:
    """Fetch an artifact into a folder of MLflow's choice, which is temporary for what is not on this machine."""
    import mlflow  # takes seconds

    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except (mlflow.MlflowException, OSError) as error:
        raise InputError(
            f"Wanted a scorer at {uri}, MLflow at {mlflow.get_tracking_uri()} has none: {error}. Set "
            "MLFLOW_TRACKING_URI if it is elsewhere."
        ) from error


def write_scorer(file: Path, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write tensors and facts (plain values) into a file, with the versions of what computed them, in one move.

    Raises:
        InputError: the disk is full, or cannot be written.

    """
    versions = {name: importlib.metadata.version(name) for name in _VERSIONS}
    metadata = {"arniqa_pl": json.dumps({"format": _FORMAT, **facts, "versions": versions})}
    contiguous = {name: value.contiguous() for name, value in tensors.items()}
    unfinished = file.with_suffix(".unfinished")
    with writing(file):
        try:
            unfinished.write_bytes(safetensors.torch.save(contiguous, metadata=metadata))
            unfinished.replace(file)
        finally:
            unfinished.unlink(missing_ok=True)


def read_scorer(file: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the facts and the tensors of a scorer's file; nothing is unpickled.

    Raises:
        InputError: the file is damaged, or no scorer.

    """
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
    return facts, tensors
