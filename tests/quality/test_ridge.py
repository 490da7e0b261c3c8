import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from arniqa_pl.quality import fit_ridge
from arniqa_pl.quality.ridge import Moments, fit_ridge_moments

ALPHAS = np.geomspace(1e-3, 1e3, 100)


def problem(rows: int, dim: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit-length, strongly correlated features as an encoder gives them, and scores that are linear in them."""
    rng = np.random.default_rng(seed)
    features = np.abs(rng.standard_normal((rows, 8))) @ np.abs(rng.standard_normal((8, dim)))
    features += 0.3 * np.abs(rng.standard_normal((rows, dim)))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, 3 + features @ rng.standard_normal(dim) + 0.05 * rng.standard_normal(rows)


@pytest.mark.parametrize(("rows", "dim"), [(300, 40), (41, 40), (40, 40), (30, 200), (2, 5), (50, 1)])
def test_equals_sklearn_at_every_alpha(rows, dim):
    features, targets = problem(rows, dim)
    weights, intercepts = fit_ridge(*map(torch.from_numpy, (features, targets, ALPHAS)))
    assert weights.shape == (100, dim)
    assert intercepts.shape == (100,)
    for alpha, weight, intercept in zip(ALPHAS, weights.numpy(), intercepts.numpy(), strict=True):
        wanted = Ridge(alpha=alpha).fit(features, targets).predict(features)
        np.testing.assert_allclose(features @ weight + intercept, wanted, atol=1e-8 * targets.std())


def test_float32_features_give_what_their_float64_copies_give():
    features, targets = problem(200, 30)
    single = torch.from_numpy(features).float()
    alphas, scores = torch.from_numpy(ALPHAS), torch.from_numpy(targets)
    torch.testing.assert_close(
        fit_ridge(single, scores, alphas)[0],
        fit_ridge(single.double(), scores, alphas)[0],
        rtol=0,
        atol=1e-12,
    )


def test_float32_scores_of_fewer_rows_than_features_are_summed_in_float64():
    features, targets = map(torch.from_numpy, problem(20, 50))
    single, alphas = targets.float(), torch.from_numpy(ALPHAS)
    got, wanted = fit_ridge(features, single, alphas), fit_ridge(features, single.double(), alphas)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "dim"), [(300, 150), (150, 300)])
@pytest.mark.parametrize("scale", [1e-9, 1.0])
def test_a_path_of_more_than_64_directions_is_followed_to_its_end(rows, dim, scale):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((rows, dim)) * np.geomspace(1, 0.01, dim)
    targets = scale * rng.standard_normal(rows)
    weights, intercepts = fit_ridge(*map(torch.from_numpy, (features, targets, np.array([1e-3, 1.0]))))
    for alpha, weight, intercept in zip([1e-3, 1.0], weights.numpy(), intercepts.numpy(), strict=True):
        wanted = Ridge(alpha=alpha).fit(features, targets).predict(features)
        np.testing.assert_allclose(features @ weight + intercept, wanted, rtol=0, atol=1e-8 * scale)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")
@pytest.mark.parametrize(("rows", "dim"), [(300, 40), (30, 200)])
def test_a_gpu_fits_what_the_cpu_fits(rows, dim):
    features, targets = map(torch.from_numpy, problem(rows, dim))
    alphas = torch.from_numpy(ALPHAS)
    weights, intercepts = fit_ridge(features.cuda(), targets, alphas)
    assert weights.is_cuda
    assert intercepts.is_cuda
    wanted = features @ fit_ridge(features, targets, alphas)[0].T
    torch.testing.assert_close(features @ weights.cpu().T, wanted, rtol=0, atol=1e-8 * float(targets.std()))


def test_moments_of_a_training_side_are_all_rows_minus_the_held_out():
    features, targets = map(torch.from_numpy, problem(5000, 20))  # more rows than a block
    alphas = torch.from_numpy(ALPHAS)
    moments = Moments.zero(20)
    moments.add_(features, targets)
    training = moments.clone()
    training.add_(features[:1500], targets[:1500], sign=-1)
    assert (moments.count, training.count) == (5000, 3500)
    weights, intercepts = fit_ridge_moments(training, alphas)
    wanted_weights, wanted_intercepts = fit_ridge(features[1500:], targets[1500:], alphas)
    torch.testing.assert_close(weights, wanted_weights, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(intercepts, wanted_intercepts, rtol=1e-7, atol=1e-9)


def test_moments_take_as_many_scores_as_rows_and_lie_where_they_are_told():
    with pytest.raises(ValueError, match="shorter"):
        Moments.zero(1).add_(torch.ones(4096, 1), torch.ones(2048))
    moments = Moments.zero(3, "meta")
    assert {each.device.type for each in (moments.x, moments.y, moments.xx, moments.xy)} == {"meta"}


def test_standardised_features_give_what_sklearns_scaler_gives():
    features, targets = problem(300, 40)
    features *= np.geomspace(1e-5, 1e3, 40)
    features[:, 7] = 0.3  # constant but for rounding: neither may blow it up
    moments = Moments.zero(40)
    moments.add_(torch.from_numpy(features), torch.from_numpy(targets))
    weights, intercepts = fit_ridge_moments(moments, torch.from_numpy(ALPHAS), standardise=True)
    for alpha, weight, intercept in zip(ALPHAS, weights.numpy(), intercepts.numpy(), strict=True):
        wanted = make_pipeline(StandardScaler(), Ridge(alpha=alpha)).fit(features, targets).predict(features)
        np.testing.assert_allclose(features @ weight + intercept, wanted, atol=1e-6 * targets.std())


def test_constant_targets_and_repeated_features_have_a_solution():
    features = torch.ones(10, 3)
    weights, intercepts = fit_ridge(features, torch.full((10,), 2.5), torch.tensor([0.1, 1.0]))
    assert torch.equal(weights, torch.zeros(2, 3, dtype=torch.float64))
    torch.testing.assert_close(intercepts, torch.full((2,), 2.5, dtype=torch.float64))


@pytest.mark.parametrize(
    ("features", "targets", "alphas", "message"),
    [
        (torch.ones(4, 2, 2), torch.ones(4), torch.ones(1), r"features \(N, D\)"),
        (torch.ones(4, 2), torch.ones(5), torch.ones(1), r"got \(4, 2\) and \(5,\)"),
        (
            torch.full((4, 2), torch.nan),
            torch.ones(4),
            torch.ones(1),
            "^wanted finite features and targets, got NaN or infinite values$",
        ),
        (torch.rand(4, 2), torch.rand(4), torch.tensor([1.0, 0.0]), "alphas"),
    ],
)
def test_bad_input_is_refused(features, targets, alphas, message):
    with pytest.raises(ValueError, match=message):
        fit_ridge(features, targets, alphas)


# Whole numbers: constant and repeated features, rows and targets are likely, and sums of them are exact.
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
problems = shapes.flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.int8, shape, elements=st.integers(-4, 4)),
        arrays.arrays(np.int8, shape[0], elements=st.integers(-9, 9)),
    )
).map(lambda pair: tuple(torch.from_numpy(each).double() for each in pair))
penalties = st.lists(st.floats(1e-2, 1e3), min_size=1, max_size=4).map(lambda alphas: torch.tensor(alphas).double())


@given(problems, penalties)
def test_no_step_away_from_a_fit_lowers_its_cost(problem, alphas):
    """The gradient of ‖y - Xw - b‖² + α‖w‖² is 0 in w and in b: there is one such place, the minimum."""
    features, targets = problem
    for weight, intercept, alpha in zip(*fit_ridge(features, targets, alphas), alphas, strict=True):
        residual = features @ weight + intercept - targets
        assert abs(float(residual.sum())) < 1e-8
        assert (features.T @ residual + alpha * weight).abs().max() < 1e-8


@given(problems, penalties, st.floats(-100, 100), st.sampled_from([-8.0, 0.25, 3.0]), st.randoms())
def test_a_fit_follows_its_scores_and_knows_no_order_of_rows(problem, alphas, shift, scale, random):
    features, targets = problem
    weights, intercepts = fit_ridge(features, targets, alphas)
    order = random.sample(range(len(targets)), len(targets))
    scaled, shifted = fit_ridge(features[order], scale * targets[order] + shift, alphas)
    torch.testing.assert_close(scaled, scale * weights, rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(shifted, scale * intercepts + shift, rtol=1e-7, atol=1e-8)


@given(problems, st.data())
def test_rows_taken_away_were_never_there(problem, data):
    features, targets = problem
    held_out = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(targets), max_size=len(targets))))
    moments, wanted = Moments.zero(features.shape[1]), Moments.zero(features.shape[1])
    moments.add_(features, targets)
    left = moments.clone()
    left.add_(features[held_out], targets[held_out], sign=-1)
    wanted.add_(features[~held_out], targets[~held_out])
    assert left.count == wanted.count
    for name in ("x", "y", "xx", "xy"):  # whole numbers: to the last bit
        assert torch.equal(getattr(left, name), getattr(wanted, name)), name
