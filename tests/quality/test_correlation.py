import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import kendall_rank_corrcoef, mean_squared_error, pearson_corrcoef, spearman_corrcoef

from arniqa_pl.quality import plcc, srcc
from arniqa_pl.quality.correlation import fit_logistic, krcc, plcc_logistic, rmse


def test_equal_torchmetrics_on_scores_without_ties():
    prediction, target = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert srcc(prediction.numpy(), target.numpy()) == pytest.approx(
        float(spearman_corrcoef(prediction, target)), abs=1e-5
    )
    assert plcc(prediction.numpy(), target.numpy()) == pytest.approx(
        float(pearson_corrcoef(prediction, target)), abs=1e-5
    )
    assert krcc(prediction.numpy(), target.numpy()) == pytest.approx(
        float(kendall_rank_corrcoef(prediction, target)), abs=1e-5
    )
    assert rmse(prediction.numpy(), target.numpy()) == pytest.approx(
        float(mean_squared_error(prediction, target, squared=False)), abs=1e-5
    )


def test_srcc_shares_ranks_between_ties():
    # By hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    assert srcc([1, 2, 2, 3], [10, 20, 30, 40]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_srcc_sees_order_only():
    values = np.linspace(0.1, 3, 20)
    assert srcc(np.exp(values), values) == pytest.approx(1)
    assert srcc(-values, values) == pytest.approx(-1)
    assert plcc(np.exp(values), values) < 0.95


def test_constant_predictions_have_no_correlation():
    assert math.isnan(srcc([1, 1, 1], [1, 2, 3]))
    assert math.isnan(plcc([1, 2, 3], [1, 1, 1]))


def test_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        srcc([1, 2], [1, 2, 3])


def test_krcc_counts_ties_as_tau_b_does():
    # By hand: of the 6 pairs 5 agree and 1 is tied in the first sequence: 5 / sqrt(5 · 6).
    assert krcc([1, 2, 2, 3], [10, 20, 30, 40]) == pytest.approx(5 / math.sqrt(30))


@pytest.mark.parametrize("sign", [1, -1])
def test_logistic_fit_finds_the_curve_that_made_the_scores(sign):
    """VQEG's formula word by word, rising and falling."""
    x = np.random.default_rng(0).normal(10, 3, 200)
    scores = (80 - 20) / (1 + np.exp(-(sign * (x - 11)) / 1.7)) + 20
    np.testing.assert_allclose(fit_logistic(x, scores), scores, atol=1e-5)
    assert plcc_logistic(x, scores) == pytest.approx(1)
    assert abs(plcc(x, scores)) < 0.99


def test_logistic_fit_is_no_worse_than_the_best_line():
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, 100)
    scores = np.round(x**3 * 5 + rng.normal(0, 0.3, 100))
    line = np.polyval(np.polyfit(x, scores, 1), x)
    assert rmse(fit_logistic(x, scores), scores) < rmse(line, scores)


@pytest.mark.parametrize("x", [np.ones(10), np.arange(4.0), np.repeat([1.0, 2.0], 10)])
def test_no_curve_through_too_few_different_predictions(x):
    assert np.isnan(fit_logistic(x, np.arange(len(x)))).all()
    assert math.isnan(plcc_logistic(x, np.arange(len(x))))


def test_a_fit_that_does_not_converge_is_nan():
    """On noise MINPACK gives up now and then: with its present version on each of these draws."""
    draws = [np.random.default_rng(seed).standard_normal((2, 12)) for seed in (66, 79, 188, 263, 266, 386, 392)]
    fits = [fit_logistic(*draw) for draw in draws]
    assert any(np.isnan(fit).all() for fit in fits)
    assert all(np.isnan(fit).all() or np.isfinite(fit).all() for fit in fits)
