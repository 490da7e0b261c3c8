"""The cross-database matrix, through its real command line, on databases of opposite directions."""

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from arniqa_pl.data.databases import spaq
from arniqa_pl.models.encoder import load_encoder
from arniqa_pl.quality import Scorer
from arniqa_pl.quality.scorer import ScoreScale
from tests.test_entries import run


def write_scorer(file, checkpoint, database, higher_is_better, crops):
    scale = ScoreScale(
        database=database,
        higher_is_better=higher_is_better,
        nominal=(0.0, 1.0),
        seen=(0.0, 1.0),
        alpha=1.0,
        srcc=0.5,
        plcc=0.5,
        splits="none",
    )
    weight = torch.randn(2 * 1280, generator=torch.Generator().manual_seed(crops))
    Scorer(load_encoder(checkpoint), weight, 0.5, scale=scale, crop_size=64, crops=crops).save(file)


@pytest.fixture(scope="module")
def evaluated(small_data, replicas, small_checkpoints, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    scorers = {"kadid10k": (True, 1), "live": (False, 1), "clive": (True, 5)}
    for name, (higher_is_better, crops) in scorers.items():
        write_scorer(folder / f"{name}.safetensors", small_checkpoints[0], name, higher_is_better, crops)
    output = run(
        folder,
        "evaluate",
        "scorer=kadid10k.safetensors,live.safetensors,clive.safetensors",
        "database=[kadid10k,csv,spaq]",
        f"databases.spaq.root={replicas}/SPAQ",
        f"databases.csv.path={small_data}/KADID10K/own.csv",
        "databases.csv.higher_is_better=false",
        f"paths.data_dir={small_data}",
        "features.num_workers=0",
        "trainer.precision=32-true",
        "hydra.run.dir=runs/matrix",
    )
    return folder, output


def test_cells_are_what_scipy_finds_in_the_scores_of_the_scorers(evaluated, small_data):
    folder, _ = evaluated
    matrix = pd.read_csv(folder / "runs/matrix/results.csv").set_index(["scorer", "database"])
    assert len(matrix) == 3 * 3
    table = pd.read_csv(small_data / "KADID10K/dmos.csv")
    images = [small_data / "KADID10K/images" / name for name in table["dist_img"]]
    for name, sign in {"kadid10k": 1, "live": -1, "clive": 1}.items():  # the direction in which a score is better
        scores = sign * Scorer.load(folder / f"{name}.safetensors").score(images).numpy()
        wanted = stats.spearmanr(scores, table["dmos"]).statistic, stats.pearsonr(scores, table["dmos"]).statistic
        # own.csv holds the negated scores, and calls the low ones better: both corrections cancel out
        for database in ("kadid10k", "csv"):
            assert tuple(matrix.loc[(name, database), ["srcc", "plcc"]]) == pytest.approx(wanted, abs=1e-4)
    assert matrix["fitted_here"].sum() == matrix.loc[("kadid10k", "kadid10k"), "fitted_here"] == 1


def test_scorers_of_one_encoder_share_the_features(evaluated):
    folder, _ = evaluated
    shapes = sorted(np.load(file).shape for file in (folder / "runs/cache/features").iterdir())
    assert [shape[:2] for shape in shapes] == [(16, 1), (16, 5), (60, 1), (60, 5)]


def test_images_are_resized_as_their_database_asks(evaluated, replicas):
    folder, _ = evaluated
    cell = pd.read_csv(folder / "runs/matrix/results.csv").set_index(["scorer", "database"]).loc[("kadid10k", "spaq")]
    scorer = Scorer.load(folder / "kadid10k.safetensors")
    scorer.short_side = 512
    database = spaq.read(str(replicas / "SPAQ"))
    wanted = stats.pearsonr(scorer.score(database.paths).numpy(), database.scores).statistic
    assert cell["plcc"] == pytest.approx(wanted, abs=1e-4)


def test_matrix_is_printed_written_and_tracked(evaluated):
    folder, output = evaluated
    matrix = pd.read_csv(folder / "runs/matrix/results.csv").set_index(["scorer", "database"])
    cell = matrix.loc[("kadid10k", "kadid10k")]
    text = f"{cell['srcc']:.3f} / {cell['plcc']:.3f}*"
    assert text in output
    assert text in (folder / "runs/matrix/results.md").read_text()
    square = pd.read_excel(folder / "runs/matrix/results.xlsx", sheet_name="matrix")
    assert square["scorer"].tolist() == ["kadid10k", "live", "clive"]
    assert square.columns.tolist() == ["scorer", "kadid10k", "csv", "spaq"]
    assert square["kadid10k"][0] == text
    client = mlflow.MlflowClient(f"sqlite:///{folder}/runs/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("evaluation").experiment_id])
    assert tracked.data.metrics["cross/live/csv/srcc"] == pytest.approx(matrix.loc[("live", "csv"), "srcc"])
    assert "figures/matrix.png" in {each.path for each in client.list_artifacts(tracked.info.run_id, "figures")}
