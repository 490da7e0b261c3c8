"""python -m arniqa_pl.export scorer=<file> format=onnx|torch_export|aot|torchscript: one graph for other runtimes.

python -m arniqa_pl.export import encoder=ARNIQA.pth regressor=regressor_kadid10k.pth: a scorer of published files.
python -m arniqa_pl.export mlflow scorer=<file> [register=<name>]: an MLflow model, to serve and to batch.
"""

import hashlib
import logging
import re
import sys
from pathlib import Path
from urllib.error import URLError

import torch
from omegaconf import DictConfig
from PIL import Image

from arniqa_pl import launch
from arniqa_pl.data.images import read_image
from arniqa_pl.demo import demo_photos
from arniqa_pl.errors import InputError
from arniqa_pl.quality.checkpoints import read_published
from arniqa_pl.quality.scorer import Scorer
from arniqa_pl.serving.portable import FORMATS, export_scorer

log = logging.getLogger(__name__)


@launch.entry("export")
def graph(cfg: DictConfig) -> None:
    """Write the scorer in another format, and keep it if it gives the same scores."""
    scorer = Scorer.load(str(cfg.scorer))
    suffix = FORMATS[cfg.format].suffix if cfg.format in FORMATS else ""
    output = Path(str(cfg.output or f"{scorer.scale.database}{suffix}"))
    difference = export_scorer(scorer, cfg.format, output, example_photos(), tolerance=cfg.tolerance)
    log.info("%s: scores of ten photographs within %.1e of the range: %s", cfg.format, difference, output)


@launch.entry("export_import")
def published(cfg: DictConfig) -> None:
    """Write a scorer of the files that ARNIQA's authors published."""
    encoder = local_file(str(cfg.encoder_file), cfg.encoder_sha256, "encoder")
    regressor = local_file(str(cfg.regressor), cfg.regressor_sha256, "regressor")
    database = cfg.database or named_database(str(cfg.regressor))
    scorer = read_published(encoder, regressor, database)
    output = Path(str(cfg.output or f"{database}.safetensors"))
    output.parent.mkdir(parents=True, exist_ok=True)
    scorer.save(output)
    log.info("ARNIQA as published for %s: %s", database, output)


@launch.entry("export_mlflow")
def model(cfg: DictConfig) -> None:
    """Log the scorer as an MLflow model, and register it once it gives the same scores."""
    import mlflow  # takes seconds

    from arniqa_pl.serving.mlflow_model import log_scorer

    scorer = Scorer.load(str(cfg.scorer))
    if cfg.logger.tracking_uri.startswith("sqlite:"):
        Path(cfg.paths.runs_dir).mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(cfg.logger.tracking_uri)
    if mlflow.get_experiment_by_name(cfg.name) is None:
        place = cfg.logger.artifact_location  # None: the server knows
        mlflow.create_experiment(cfg.name, place and Path(place).resolve().as_uri())
    mlflow.set_experiment(cfg.name)
    with mlflow.start_run():
        mlflow.log_param("scorer", cfg.scorer)
        uri = log_scorer(scorer, example_photos()[:2], limits=dict(cfg.limits))
        log.info("MLflow model: %s in %s", uri, cfg.logger.tracking_uri)
        if cfg.register:
            try:
                version = mlflow.register_model(uri, str(cfg.register)).version
            except mlflow.MlflowException as error:
                raise InputError(f"Wanted to register {uri} as {cfg.register!r}, could not: {error}") from error
            log.info("Registered: models:/%s/%s", cfg.register, version)


def example_photos() -> list[Image.Image]:
    """Return the ten photographs that exports are compared on, one with odd sides and one smaller than a crop."""
    photos = [read_image(file) for file in demo_photos()[:10]]
    photos[1] = photos[1].crop((0, 0, 601, 501))
    photos[2] = photos[2].resize((150, 101))
    return photos


def named_database(regressor: str) -> str:
    """Return <database> of …/regressor_<database>.pth.

    Raises:
        InputError: the name has another form.

    """
    match = re.search(r"regressor_(\w+)\.pth$", regressor)
    if match is None:
        raise InputError(f"Wanted a file named regressor_<database>.pth, found {regressor}: say which with database=….")
    return match[1]


def local_file(source: str, sha256: str | None, key: str) -> Path:
    """Return a file; fetch it into torch's cache if it is an address, and compare its SHA-256 if one is given.

    Raises:
        InputError: an address without a checksum, or it cannot be fetched, or what came is something else.

    """
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", str(sha256)):
        raise InputError(f"Wanted the 64 hexadecimal digits of a SHA-256 as {key}_sha256, found {sha256!r}.")
    if not re.match(r"https?://", source):
        if sha256 is not None and Path(source).is_file():
            _verify(Path(source), sha256, key)
        return Path(source)
    if sha256 is None:
        raise InputError(
            f"Wanted {key}_sha256 with the address {source}, found none: a file from elsewhere is used only if it is "
            "the one you mean."
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{sha256.lower()}.pth"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        log.info("Fetching %s", source)
        try:
            torch.hub.download_url_to_file(source, str(file), hash_prefix=sha256.lower())
        except (URLError, OSError, RuntimeError) as error:
            raise InputError(f"Wanted the {key} from {source}, could not fetch it: {error}.") from error
    _verify(file, sha256, key)
    return file


def _verify(file: Path, sha256: str, key: str) -> None:
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256.lower():
        raise InputError(f"Wanted the SHA-256 {sha256} of the {key}, {file} has {found}: it is another file.")


VERBS = {"graph": graph, "import": published, "mlflow": model}
"""Each has a root config of its own: conf/export.yaml, or conf/export_<verb>.yaml."""


def main() -> None:
    """Run the verb that the command line names."""
    if sys.argv[1:2] == ["import"]:  # encoder is a group in conf/: Hydra would look for an option of that name there
        sys.argv[1:] = [re.sub("^encoder=", "encoder_file=", argument) for argument in sys.argv[1:]]
    launch.run_verb(VERBS)


if __name__ == "__main__":
    main()
