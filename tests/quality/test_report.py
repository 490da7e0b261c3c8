import dataclasses
import statistics

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from arniqa_pl.data.databases import Database, kadid10k
from arniqa_pl.quality.published import beside_published, published
from arniqa_pl.quality.regression import HeldOut, Regression
from arniqa_pl.quality.report import (
    checkpoints_frame,
    headline,
    markdown,
    parts_frame,
    regression_tables,
    regression_text,
    results_frame,
    results_markdown,
    terminal_tables,
    write_tables,
)
from arniqa_pl.quality.summary import summarize

ROWS = 120


@pytest.fixture
def database(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(ROWS)],
            "score": rng.uniform(1, 5, ROWS),
            "group": np.arange(ROWS) // 10,
            "distortion": np.array(["jpeg", "lens_blur", "gaussian_blur", ""])[np.arange(ROWS) % 4],
            "distortion_group": np.array(["jpeg", "blur", "blur", ""])[np.arange(ROWS) % 4],
        }
    )
    return Database("kadid10k", tmp_path, table, (1.0, 5.0), higher_is_better=True)


def make_regression(database, noise, seed=0, splits=5):
    """Predictions of the test sides that are the scores with noise."""
    rng = np.random.default_rng(seed)
    tests = []
    for _ in range(splits):
        rows = np.sort(rng.choice(ROWS, 40, replace=False))
        scores = database.scores[rows]
        tests.append(HeldOut(rows, scores + noise * rng.standard_normal(40), scores))
    return Regression(alpha=0.5, tests=tuple(tests), weight=torch.zeros(4), bias=0.0)


@pytest.fixture
def results(database):
    return {"kadid10k": {"a": make_regression(database, 0.5), "b": make_regression(database, 2.0, seed=1)}}


def test_the_headline_has_a_line_for_each_encoder_with_what_is_published(results):
    frame = results_frame(results).assign(published_srcc=[0.908, np.nan])
    first, second = headline(frame).splitlines()
    row = frame.iloc[0]
    assert first == (
        f"- kadid10k, a: **SRCC {row['srcc']:.3f} ± {row['srcc_std']:.3f}** (published 0.908), "
        f"PLCC {row['plcc']:.3f} ± {row['plcc_std']:.3f}"
    )
    assert "published" not in second


def test_overall_numbers_are_those_of_scipy(database, results):
    frame = results_frame(results).set_index("encoder")
    for encoder in ("a", "b"):
        tests = results["kadid10k"][encoder].tests
        oracles = {
            "srcc": [stats.spearmanr(test.prediction, test.score).statistic for test in tests],
            "plcc": [stats.pearsonr(test.prediction, test.score).statistic for test in tests],
            "krcc": [stats.kendalltau(test.prediction, test.score).statistic for test in tests],
            "rmse": [np.sqrt(((test.prediction - test.score) ** 2).mean()) for test in tests],
        }
        for name, values in oracles.items():
            assert frame.loc[encoder, name] == pytest.approx(statistics.median(values))
            assert frame.loc[encoder, f"{name}_mean"] == pytest.approx(statistics.fmean(values))
            assert frame.loc[encoder, f"{name}_std"] == pytest.approx(statistics.pstdev(values))
        assert frame.loc[encoder, "plcc_logistic"] > frame.loc[encoder, "plcc"] - 0.01
        assert frame.loc[encoder, "logistic_fits"] == frame.loc[encoder, "splits"] == 5


def test_interval_is_the_percentile_bootstrap_of_the_median():
    values = np.random.default_rng(3).normal(0.8, 0.05, 25)
    theirs = stats.bootstrap((values,), np.median, n_resamples=10_000, method="percentile").confidence_interval
    found = summarize(values)
    assert (found["low"], found["high"]) == pytest.approx(theirs, abs=0.01)
    assert found["low"] < found["median"] < found["high"]
    assert summarize(values) == found


def test_splits_without_a_value_are_left_out():
    assert summarize(np.array([0.2, np.nan, 0.4])) == summarize(np.array([0.2, 0.4]))
    assert np.isnan(list(summarize(np.array([np.nan])).values())).all()


def test_a_single_split_has_no_spread(database):
    one = {"kadid10k": {"a": make_regression(database, 0.5, splits=1)}}
    frame = beside_published(results_frame(one), {"kadid10k": database}, {"kadid10k": []})
    assert frame["srcc"][0] == frame["srcc_mean"][0]
    assert np.isnan(frame.loc[0, ["srcc_std", "srcc_low", "srcc_high"]].astype(float)).all()
    assert f"| SRCC | {frame['srcc'][0]:.3f} | {frame['srcc'][0]:.3f} | – | – |" in results_markdown(frame)


@pytest.mark.parametrize("column", ["distortion", "distortion_group"])
def test_kinds_are_measured_within_each_test_side(database, results, column):
    frame = parts_frame(results, {"kadid10k": database}, column).set_index(["encoder", column])
    kinds = database.table[column]
    assert set(frame.index.get_level_values(column)) == set(kinds) - {""}
    for (encoder, kind), row in frame.iterrows():
        tests = [pd.DataFrame(test._asdict()) for test in results["kadid10k"][encoder].tests]
        within = [test[kinds[test["rows"]].to_numpy() == kind] for test in tests]
        oracles = {
            "srcc": [t["prediction"].corr(t["score"], "spearman") for t in within],
            "plcc": [t["prediction"].corr(t["score"]) for t in within],
            "krcc": [t["prediction"].corr(t["score"], "kendall") for t in within],
            "rmse": [((t["prediction"] - t["score"]) ** 2).mean() ** 0.5 for t in within],
        }
        for name, values in oracles.items():
            assert row[name] == pytest.approx(np.median(values))
            assert row[f"{name}_mean"] == pytest.approx(np.mean(values))
            assert row[f"{name}_std"] == pytest.approx(np.std(values))
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert np.isfinite(row["plcc_logistic"])
        assert row["splits"] == 5
        assert row["images"] == (kinds == kind).sum()


def test_two_images_of_a_kind_say_nothing(database):
    table = database.table.assign(distortion=["rare"] * 2 + [""] * (ROWS - 2))
    few = Database("kadid10k", database.root, table, (1.0, 5.0), True)
    test = HeldOut(np.arange(40), few.scores[:40], few.scores[:40])
    results = {"kadid10k": {"a": Regression(0.1, (test,), torch.zeros(4), 0.0)}}
    (row,) = parts_frame(results, {"kadid10k": few}, "distortion").to_dict("records")
    assert np.isnan(row["srcc"])
    assert (row["images"], row["splits"]) == (2, 0)


def test_checkpoints_are_summed_up_by_mean_and_sample_deviation(results):
    frame = results_frame(results)
    (row,) = checkpoints_frame(frame).to_dict("records")
    assert row["checkpoints"] == 2
    assert row["srcc_mean"] == pytest.approx(statistics.fmean(frame["srcc"]))
    assert row["rmse_std"] == pytest.approx(statistics.stdev(frame["rmse"]))


def test_every_table_is_written_three_ways(database, results, tmp_path):
    databases = {"kadid10k": database}
    frame = beside_published(results_frame(results), databases, {"kadid10k": ["a"]})
    tables = regression_tables({0.1: results, 1.0: results}, frame, databases, ["a", "b"])
    assert set(tables) == {"overall", "by type", "by group", "checkpoints", "data efficiency"}
    files = write_tables(tmp_path, tables, regression_text(tables, databases))
    assert {file.name for file in files} == {
        "results.md",
        "results.xlsx",
        "results.csv",
        "results_by_type.csv",
        "results_by_group.csv",
        "results_checkpoints.csv",
        "results_data_efficiency.csv",
    }
    sheets = pd.read_excel(tmp_path / "results.xlsx", sheet_name=None)
    for name, table in tables.items():
        file = "results.csv" if name == "overall" else f"results_{name.replace(' ', '_')}.csv"
        read = pd.read_csv(tmp_path / file)
        pd.testing.assert_frame_equal(read, table.reset_index(drop=True), check_dtype=False)
        pd.testing.assert_frame_equal(sheets[name], read, check_dtype=False)
    text = (tmp_path / "results.md").read_text()
    assert f"| kadid10k | a | 0.5 | 5 | SRCC | {frame['srcc'][0]:.3f} ± {frame['srcc_std'][0]:.3f} |" in text
    found, spread, low = tables["by group"].loc[0, ["srcc", "srcc_std", "srcc_low"]]
    assert f"| kadid10k | a | jpeg | 30 | {found:.3f} ± {spread:.3f} | {low:.3f} to" in text
    assert "## Published" not in text  # 120 images are no KADID-10k
    assert len(terminal_tables(tables)) == 2


def test_a_fit_that_does_not_converge_is_said(database):
    test = HeldOut(np.arange(4), np.arange(4.0), np.array([1.0, 2, 3, 5]))
    frame = results_frame({"kadid10k": {"a": Regression(0.1, (test,), torch.zeros(4), 0.0)}})
    beside = beside_published(frame, {"kadid10k": database}, {"kadid10k": []})
    tables = {"overall": beside, "by type": frame[:0], "by group": frame[:0]}
    assert "no logistic curve on 1 of 1 test sides" in regression_text(tables, {"kadid10k": database})


def test_published_numbers_stand_beside_their_own_setting_only(database, results):
    complete = pd.DataFrame({"image": ["x"] * 10125, "score": 1.0})
    whole = Database("kadid10k", database.root, complete, (1.0, 5.0), True, release=kadid10k.RELEASE)
    part = dataclasses.replace(whole, table=complete[1:])
    facts = published(whole).set_index("method")
    assert facts.loc["ARNIQA", ["srcc", "plcc"]].tolist() == [0.908, 0.912]
    assert set(facts.index) == {"ARNIQA", "CONTRIQUE", "Re-IQA"}
    assert published(database).empty
    assert published(part).empty
    assert published(whole, trained_on="clive")["srcc"].tolist() == [0.426]
    comparable = {"kadid10k": ["a"]}
    frame = beside_published(results_frame(results), {"kadid10k": whole}, comparable).set_index("encoder")
    assert frame.loc["a", "published_srcc"] == 0.908
    assert np.isnan(frame.loc["b", "published_srcc"])


def test_markdown_aligns_numbers_and_leaves_dashes():
    frame = pd.DataFrame({"name": ["a", "b"], "value": [0.12345, np.nan], "count": [3, 4]})
    assert markdown(frame) == "| name | value | count |\n| --- | --: | --: |\n| a | 0.123 | 3 |\n| b | – | 4 |\n"
