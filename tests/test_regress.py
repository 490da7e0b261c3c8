"""The regression stage on several checkpoints, on shares of its references, and with references at hand."""

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from omegaconf import ListConfig

from arniqa_pl.data.splits import Splits, draw_splits
from arniqa_pl.models import Encoder
from arniqa_pl.regress import _as_published, load_encoders
from tests.test_configs import composed
from tests.test_entries import run

TINY = ("features.crop_size=64", "features.crops=1", "features.num_workers=0", "ridge.num_splits=3")


def test_one_command_gives_mean_and_spread_over_a_sweep_and_a_curve_over_shares(
    small_data, small_checkpoints, tmp_path
):
    output = run(
        tmp_path,
        "regress",
        f"checkpoint={small_checkpoints[0].parents[2]}",
        f"paths.data_dir={small_data}",
        "regression.train_fraction=[0.3,0.6]",
        "regression.repeats=2",
        "hydra.run.dir=runs/sweep",
        *TINY,
    )
    folder = tmp_path / "runs/sweep"
    frame = pd.read_csv(folder / "results.csv", dtype={"encoder": str})
    assert frame["encoder"].tolist() == ["0", "1"]
    mean, spread = np.mean(frame["srcc"]), np.std(frame["srcc"], ddof=1)
    assert f"{mean:.3f} ± {spread:.3f}" in output
    (row,) = pd.read_csv(folder / "results_checkpoints.csv").to_dict("records")
    assert (row["srcc_mean"], row["srcc_std"]) == pytest.approx((mean, spread))
    curve = pd.read_csv(folder / "results_data_efficiency.csv", dtype={"encoder": str})
    assert curve["fraction"].tolist() == [0.3, 0.3, 0.6, 0.6, 1.0, 1.0]
    assert curve["splits"].tolist() == [6, 6, 6, 6, 3, 3]
    measured = [column for column in frame if column in curve]
    pd.testing.assert_frame_equal(curve[measured].tail(2).reset_index(drop=True), frame[measured])
    assert sorted(file.name for file in folder.glob("*.safetensors")) == [
        "kadid10k_0.safetensors",
        "kadid10k_1.safetensors",
    ]

    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (tracked,) = client.search_runs([client.get_experiment_by_name("regression").experiment_id])
    metrics = tracked.data.metrics
    assert metrics["test/kadid10k/srcc"] == pytest.approx(mean)
    assert metrics["test/kadid10k/srcc_std"] == pytest.approx(spread)
    assert metrics["checkpoint_1/kadid10k/krcc"] == pytest.approx(frame["krcc"][1])
    artifacts = {item.path for folder in ("", "figures") for item in client.list_artifacts(tracked.info.run_id, folder)}
    names = ("best", "worst", "predictions", "types", "groups", "data_efficiency")
    assert {f"figures/kadid10k_{name}.png" for name in names} <= artifacts
    assert {"results.md", "results.xlsx", "results.csv", "results_by_type.csv", "results.json"} <= artifacts


def test_full_reference_needs_references_and_keeps_no_scorer(small_data, replicas, small_checkpoints, tmp_path):
    command = (f"checkpoint={small_checkpoints[0]}", f"paths.data_dir={replicas}", "regression.full_reference=true")
    run(tmp_path, "regress", *command, "database=[kadid10k,csiq]", "hydra.run.dir=runs/full", *TINY)
    frame = pd.read_csv(tmp_path / "runs/full/results.csv")
    assert frame["database"].tolist() == ["kadid10k", "csiq"]
    assert frame["split_origin"].tolist() == ["drawn", "published"]
    assert not list((tmp_path / "runs/full").glob("*.safetensors"))
    files = sorted((tmp_path / "runs/cache/features").iterdir(), key=by_size)
    assert [len(np.load(file)) for file in files] == [31, 24, 4, 4]  # images and references of each
    own = f"databases.csv.path={small_data}/KADID10K/own.csv"
    output = run(tmp_path, "regress", *command, "database=csv", own, *TINY, code=1)
    assert "Wanted a reference of every image of csv for regression.full_reference, found some without" in output


def test_checkpoints_may_be_named_from_here_and_from_the_root(small_checkpoints, monkeypatch):
    first, second = (file.parents[1] for file in small_checkpoints)
    monkeypatch.chdir(first.parent)
    assert set(load_encoders(ListConfig([first.name, str(second)]))) == {first.name, second.name}


@pytest.mark.parametrize(
    ("override", "comparable"),
    [
        ("seed=1", True),
        ("features.crops=1", False),
        ("ridge.num_splits=3", False),
        ("ridge.standardise=true", False),
        ("ridge.alphas.num=50", False),
        ("regression.full_reference=true", False),
    ],
)
def test_published_numbers_are_for_the_published_setting(override, comparable):
    cfg = composed("regress", "checkpoint=x", override)
    splits = Splits(draw_splits(range(50), cfg.ridge.num_splits), "drawn")
    with torch.device("meta"):
        encoder = Encoder("resnet50")
    assert _as_published("a", encoder, splits, cfg) == comparable


def by_size(file):
    return -file.stat().st_size
