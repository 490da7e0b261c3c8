import math

import numpy as np
import pytest
import torch
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef

from arniqa_pl.quality import plcc, srcc


def test_equal_torchmetrics_on_scores_without_ties():
    prediction, target = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    assert srcc(prediction.numpy(), target.numpy()) == pytest.approx(
        float(spearman_corrcoef(prediction, target)), abs=1e-5
    )
    assert plcc(prediction.numpy(), target.numpy()) == pytest.approx(
        float(pearson_corrcoef(prediction, target)), abs=1e-5
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
