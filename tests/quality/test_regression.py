import functools
import subprocess
import sys

import lightning
import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arniqa_pl.data.splits import draw_splits, find_splits
from arniqa_pl.errors import InputError
from arniqa_pl.launch import build
from arniqa_pl.models import Encoder
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.regression import reference_differences, regress, thin_splits, validate
from tests.test_configs import composed

ALPHAS = np.geomspace(1e-3, 1e3, 7).tolist()


@pytest.fixture
def problem():
    """Features (60, 5, 24) of 12 references, and scores that are noisily linear in their means."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((60, 5, 24)).astype(np.float32)
    features /= np.linalg.norm(features, axis=2, keepdims=True)
    scores = 3 + features.mean(1) @ rng.standard_normal(24) * 4 + 0.1 * rng.standard_normal(60)
    return features, scores, draw_splits(np.repeat(np.arange(12), 5), count=4)


def predict(features, scores, train, rows, alpha):
    """The protocol, word by word: a row per crop, and the mean over an image's crops."""
    ridge = Ridge(alpha=alpha).fit(
        features[train].reshape(-1, 24).astype(np.float64), [score for score in scores[train] for _ in range(5)]
    )
    return np.array(
        [np.mean([ridge.predict(crop[None].astype(np.float64))[0] for crop in image]) for image in features[rows]]
    )


def test_follows_the_protocol(problem):
    features, scores, splits = problem
    validation = [
        np.median([spearmanr(predict(features, scores, s.train, s.val, alpha), scores[s.val])[0] for s in splits])
        for alpha in ALPHAS
    ]
    best = ALPHAS[int(np.argmax(validation))]
    tests = [predict(features, scores, split.train, split.test, best) for split in splits]

    result = regress(features, scores, splits, ALPHAS, label="test")
    assert result.alpha == best
    truths = [scores[split.test] for split in splits]
    np.testing.assert_allclose(result.srcc, [spearmanr(*pair)[0] for pair in zip(tests, truths, strict=True)])
    np.testing.assert_allclose(result.plcc, [pearsonr(*pair)[0] for pair in zip(tests, truths, strict=True)], atol=1e-6)
    for found, split, wanted in zip(result.tests, splits, tests, strict=True):
        np.testing.assert_array_equal(found.rows, split.test)
        np.testing.assert_array_equal(found.score, scores[split.test])
        np.testing.assert_allclose(found.prediction, wanted, atol=1e-6)
    everything = predict(features, scores, np.arange(60), np.arange(60), best)
    np.testing.assert_allclose(features.mean(1) @ result.weight.numpy() + result.bias, everything, atol=1e-6)


@pytest.mark.parametrize(("standardise", "per_crop"), [(True, True), (False, False)])
def test_switches_change_the_fit_and_not_what_the_result_is_applied_to(problem, standardise, per_crop):
    features, scores, splits = problem
    features *= np.geomspace(0.1, 10, 24, dtype=np.float32)
    result = regress(features, scores, splits, [0.5], standardise=standardise, per_crop=per_crop, label="test")

    def fitted(rows):
        model = make_pipeline(StandardScaler(), Ridge(alpha=0.5)) if standardise else Ridge(alpha=0.5)
        chosen = features[rows].astype(np.float64)
        return model.fit(
            *((chosen.reshape(-1, 24), scores[rows].repeat(5)) if per_crop else (chosen.mean(1), scores[rows]))
        )

    means = features.mean(1, dtype=np.float64)
    wanted = fitted(splits[0].train).predict(means[splits[0].test])
    np.testing.assert_allclose(result.tests[0].prediction, wanted, atol=1e-6 * scores.std())
    wanted = fitted(np.arange(60)).predict(means)
    np.testing.assert_allclose(means @ result.weight.numpy() + result.bias, wanted, atol=1e-6 * scores.std())


_BOUNDED = """
import resource, sys
import numpy as np
from arniqa_pl.data.splits import draw_splits
from arniqa_pl.quality.regression import regress

def run(features):
    scores = np.linspace(0, 1, len(features))
    regress(features, scores, draw_splits(range(len(features)), count=2), [0.1, 1.0], label="test")

features = np.lib.format.open_memmap(sys.argv[1], mode="r")
run(features[:300])  # loads the libraries
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + features.nbytes // 6,) * 2)
try:
    features.mean(axis=1, dtype=np.float64)
    sys.exit("the limit does not bite")
except MemoryError:
    run(features)
"""


def test_memory_does_not_grow_with_the_database(tmp_path):
    features = np.lib.format.open_memmap(tmp_path / "f.npy", mode="w+", dtype=np.float32, shape=(30_000, 5, 256))
    features[:, 0] = np.random.default_rng(0).standard_normal((30_000, 256), np.float32)
    features.flush()
    done = subprocess.run([sys.executable, "-c", _BOUNDED, tmp_path / "f.npy"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_validation_is_the_median_on_the_validation_sides(problem):
    features, scores, splits = problem
    pairs = [(predict(features, scores, s.train, s.val, 0.1), scores[s.val]) for s in splits]
    srcc, plcc = validate(features, scores, splits, alpha=0.1)
    assert srcc == pytest.approx(np.median([spearmanr(*pair)[0] for pair in pairs]))
    assert plcc == pytest.approx(np.median([pearsonr(*pair)[0] for pair in pairs]), abs=1e-6)


def test_broken_features_are_named(problem):
    features, scores, splits = problem
    features[17, 2, 3] = np.nan
    with pytest.raises(InputError, match="1 images, the first in row 17"):
        regress(features, scores, splits, ALPHAS, label="test")


def test_a_share_of_the_references_trains_and_the_held_out_sides_stay(problem, caplog):
    features, scores, splits = problem
    groups = np.repeat(np.arange(12), 5)
    thinned = thin_splits(splits, groups, 0.25, repeats=3, seed=5)
    assert len(thinned) == 4 * 3
    for number, split in enumerate(thinned):
        whole = splits[number // 3]
        np.testing.assert_array_equal(split.val, whole.val)
        np.testing.assert_array_equal(split.test, whole.test)
        kept = np.unique(groups[split.train])
        assert len(kept) == round(0.25 * len(np.unique(groups[whole.train])))
        np.testing.assert_array_equal(split.train, whole.train[np.isin(groups[whole.train], kept)])  # whole references
    assert len({tuple(split.train) for split in thinned}) > 4

    larger = thin_splits(splits, groups, 0.5, repeats=3, seed=5)
    assert all(set(few.train) < set(more.train) for few, more in zip(thinned, larger, strict=True))
    assert not caplog.text
    assert len(np.unique(groups[thin_splits(splits, groups, 0.01, 1, 5)[0].train])) == 1
    assert "A share of 0.01 of 9 references is less than one: one is kept" in caplog.text

    result = regress(features, scores, thinned, ALPHAS, label="test")
    for found, split in zip(result.tests, thinned, strict=True):
        wanted = predict(features, scores, split.train, split.test, result.alpha)
        np.testing.assert_allclose(found.prediction, wanted, atol=1e-6)


@pytest.mark.parametrize("fraction", [0, 1.1, -0.5])
def test_shares_outside_0_to_1_are_refused(problem, fraction):
    with pytest.raises(InputError, match=f"above 0 and up to 1, got {fraction}"):
        thin_splits(problem[2], np.arange(60), fraction, 1, 0)


def test_differences_from_the_references_are_absolute(problem, tmp_path):
    features, _, _ = problem
    references = features[:12] * 0.5
    of_row = np.repeat(np.arange(12), 5)
    found = reference_differences(features, references, of_row, tmp_path)
    np.testing.assert_array_equal(found, [np.abs(references[r] - f) for r, f in zip(of_row, features, strict=True)])
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def small_encoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder("resnet18")


@pytest.mark.parametrize("name", composed("prepare_check", "database=all").databases)
def test_every_database_can_be_regressed(replicas, small_encoder, tmp_path, name):
    """From the release's layout to correlations, on the splits that the database brings or that are drawn."""
    config = composed("prepare_check", f"database={name}", f"paths.data_dir={replicas}").databases
    (database,) = build(config).values()
    features = extract_features(
        small_encoder,
        database.paths,
        trainer=functools.partial(lightning.Trainer, accelerator="cpu", devices=1),
        cache_dir=tmp_path,
        crop_size=32,
        crops=1,
        batch_size=16,
        num_workers=0,
    )
    splits = find_splits(database, count=2, seed=27, always_draw=False)
    result = regress(features, database.scores, splits, ALPHAS, label=name)
    for test, split in zip(result.tests, splits, strict=True):
        np.testing.assert_array_equal(test.rows, split.test)
        assert np.isfinite(test.prediction).all()
    fitted = features.mean(1) @ result.weight.numpy() + result.bias
    # Blur shows even in random features, so the ridge follows the scores it was fitted to, whatever their direction.
    assert spearmanr(fitted, database.scores)[0] > 0.4
