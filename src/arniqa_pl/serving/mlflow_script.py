"""What MLflow runs when it loads the model: models from code, so that nothing is unpickled."""

import mlflow

from arniqa_pl.serving.mlflow_model import ScorerModel

mlflow.models.set_model(ScorerModel())
