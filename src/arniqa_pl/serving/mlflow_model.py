"""A scorer as an MLflow model: for `mlflow models serve`, batches of a DataFrame, and Spark."""

import importlib.metadata
import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.pyfunc import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, Schema
from PIL import Image

from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import Scorer
from arniqa_pl.serving import intake

_PACKAGE = Path(__file__).parents[1]
_NOT_CODE = shutil.ignore_patterns("__pycache__", "photos")
SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.binary, "image", required=False),  # in JSON: base64
            ColSpec(DataType.string, "path", required=False),
        ]
    ),
    outputs=Schema(
        [ColSpec(DataType.double, "score"), ColSpec(DataType.double, "quality"), ColSpec(DataType.string, "error")]
    ),
)
REQUIREMENTS = ("imagecodecs", "mlflow", "numpy", "pandas", "pillow", "safetensors", "torch", "torchvision")
"""What scoring imports; the package itself travels with the model, as code."""

_TOLERANCE = 1e-4  # of the range seen in training
_BATCH = 8  # images decoded and scored at a time


class ScorerModel(PythonModel):
    """Scores a DataFrame's images, a row for each; what is wrong with an image costs its own row only."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the scorer, and the limits that `model_config` sets."""
        self.scorer = Scorer.load(context.artifacts["scorer"])
        settings = context.model_config
        self.max_images = int(settings["max_images"])
        self.image_root = None if settings["image_root"] is None else Path(settings["image_root"])
        self.limits = {"max_bytes": int(settings["max_bytes"]), "max_pixels": int(settings["max_pixels"])}

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Score images.

        Args:
            context: not used.
            model_input: N rows with the column image (an image file's bytes) or path (relative to image_root).
            params: not used.

        Returns:
            N rows: score in the database's scale, quality (0 to 1, higher is better), and error, which is "" where
            there are the two numbers.

        Raises:
            mlflow.MlflowException: more rows than max_images, or neither column.

        """
        if len(model_input) > self.max_images:
            raise mlflow.MlflowException.invalid_parameter_value(
                f"Wanted at most {self.max_images} images at a time, got {len(model_input)}: split them, or load the "
                "model with another model_config={'max_images': …}."
            )
        if not {"image", "path"} & set(model_input.columns):
            raise mlflow.MlflowException.invalid_parameter_value(
                f"Wanted the column image or path, got {', '.join(map(str, model_input.columns)) or 'none'}."
            )
        rows: list[tuple[float | None, float | None, str]] = []
        records = model_input.to_dict("records")
        for start in range(0, len(records), _BATCH):
            rows += self._score(records[start : start + _BATCH])
        table = pd.DataFrame(rows, columns=SIGNATURE.outputs.input_names(), index=model_input.index)
        if table["error"].any():  # None becomes null in JSON, which has no NaN
            table[["score", "quality"]] = table[["score", "quality"]].astype(object).where(table["error"] == "", None)
        return table

    def _score(self, records: Sequence[Mapping[Any, Any]]) -> list[tuple[float | None, float | None, str]]:
        images, errors = [], []
        for record in records:
            try:
                images.append(self._image(record))
                errors.append("")
            except InputError as error:
                errors.append(str(error))
        scores = self.scorer.score(images, batch_size=_BATCH)
        scored = iter(zip(scores.tolist(), self.scorer.to_quality(scores).tolist(), strict=True))
        return [(None, None, error) if error else (*next(scored), "") for error in errors]

    def _image(self, record: Mapping[Any, Any]) -> Image.Image:
        content, path = record.get("image"), record.get("path")
        if isinstance(content, bytes):
            return intake.decode(content, **self.limits)
        if not isinstance(path, str):
            raise InputError("Wanted an image's bytes in the column image, or its path in the column path.")
        if self.image_root is None:
            raise InputError(
                "Wanted an image's bytes, got a path: this model reads no files unless its model_config names the "
                "folder, {'image_root': …}."
            )
        return intake.read_below(self.image_root, path, **self.limits)


def log_scorer(scorer: Scorer, photos: Sequence[Image.Image], *, limits: Mapping[str, Any]) -> str:
    """Log a scorer to the active MLflow run, load it again, and keep it only if it gives the same scores.

    Args:
        scorer: in float32.
        photos: to compare on; a small copy of the first one is the input example.
        limits: max_images, max_bytes, max_pixels and image_root of the model_config.

    Returns:
        The model's URI.

    Raises:
        InputError: the scores differ.

    """
    wanted = scorer.score(photos)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scorer.safetensors"
        scorer.save(file)
        logged = mlflow.pyfunc.log_model(
            name="scorer",
            python_model=str(Path(__file__).with_name("mlflow_script.py")),
            artifacts={"scorer": str(file)},
            code_paths=[shutil.copytree(_PACKAGE, Path(folder) / _PACKAGE.name, ignore=_NOT_CODE)],
            signature=SIGNATURE,
            input_example=pd.DataFrame({"image": [_encoded(photos[0].resize((64, 48)), "JPEG")]}),
            pip_requirements=requirements(scorer),
            model_config=dict(limits),
        )
    table = mlflow.pyfunc.load_model(logged.model_uri).predict(
        pd.DataFrame({"image": [_encoded(photo, "PNG") for photo in photos]})
    )
    low, high = scorer.scale.seen
    difference = max(abs(found - float(score)) for found, score in zip(table["score"], wanted, strict=True))
    if not difference <= _TOLERANCE * (high - low):
        mlflow.MlflowClient().delete_logged_model(logged.model_id)
        raise InputError(f"Wanted the scorer's scores from its MLflow model, found a difference of {difference:.2g}.")
    return logged.model_uri


def requirements(scorer: Scorer) -> list[str]:
    """Pin the packages that scoring needs to the versions it was compared with."""
    needed = (*REQUIREMENTS, "timm") if scorer.encoder.name.startswith("timm/") else REQUIREMENTS
    return [f"{name}=={importlib.metadata.version(name)}" for name in needed]


def _encoded(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()
