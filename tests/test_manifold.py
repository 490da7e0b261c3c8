"""The manifold of a database and the images nearest to one, through the real command line."""

import mlflow
import pandas as pd
import pytest
from PIL import Image

from tests.test_entries import run


def test_pictures_numbers_and_nearest_images_are_kept(small_data, small_checkpoints, tmp_path):
    images = small_data / "KADID10K/images"
    run(
        tmp_path,
        "manifold",
        f"checkpoint={small_checkpoints[0]}",
        f"paths.data_dir={small_data}",
        f"query={images}/I01_10_05.png",
        "methods=[tsne]",
        "neighbours=5",
        "features.crop_size=64",
        "features.num_workers=0",
        "hydra.run.dir=runs/here",
    )
    folder = tmp_path / "runs/here/kadid10k"
    numbers = pd.read_csv(folder / "results.csv").set_index("type")
    assert numbers.index.tolist() == ["gaussian_blur", "jpeg", "brighten", "all"]
    for name in ("tsne.png", "nearest.png"):
        with Image.open(folder / name) as picture:
            assert len(picture.convert("L").resize((64, 64)).getcolors()) > 20
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("manifold").experiment_id])
    assert tracked.data.metrics["manifold/kadid10k/knn_accuracy"] == pytest.approx(numbers.loc["all", "knn_accuracy"])
    kept = {item.path for item in client.list_artifacts(tracked.info.run_id, "kadid10k")}
    assert {f"kadid10k/{name}" for name in ("tsne.html", "tsne.png", "nearest.png", "results.xlsx")} <= kept
