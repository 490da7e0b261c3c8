import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from arniqa_pl.models.measures import measure_views


@pytest.fixture(scope="module")
def views() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(12, 5, generator=generator)
    return first, first + 0.8 * torch.randn(12, 5, generator=generator)


def unit(rows: torch.Tensor) -> np.ndarray:
    return (rows / rows.norm(dim=1, keepdim=True)).numpy()


def test_measures_are_those_of_their_definitions(views):
    measures = {name: float(value) for name, value in measure_views(*views, scales=2).items()}
    a, b = map(unit, views)
    cosines = a @ b.T
    assert measures["positive_similarity"] == pytest.approx(np.diag(cosines).mean(), abs=1e-6)
    assert measures["negative_similarity"] == pytest.approx(cosines[~np.eye(12, dtype=bool)].mean(), abs=1e-6)
    assert measures["hard_negative_similarity"] == pytest.approx((a[:6] * a[6:]).sum(1).mean(), abs=1e-6)
    assert measures["alignment"] == pytest.approx((np.linalg.norm(a - b, axis=1) ** 2).mean(), abs=1e-5)
    uniformity = [math.log(np.exp(-2 * pdist(view) ** 2).mean()) for view in (a, b)]
    assert measures["uniformity"] == pytest.approx(np.mean(uniformity), abs=1e-5)
    rows = np.concatenate([a, b])
    _, nearest = NearestNeighbors(n_neighbors=2).fit(rows).kneighbors(rows)
    retrieved = (nearest[:, 1] == (np.arange(24) + 12) % 24).mean()
    assert 0 < retrieved < 1
    assert measures["retrieved"] == pytest.approx(retrieved)


def test_without_half_scale_crops_there_are_no_hard_negatives(views):
    assert "hard_negative_similarity" not in measure_views(*views, scales=1)


def test_equal_views_are_aligned_and_retrieved_and_a_point_is_not_uniform(views):
    measures = measure_views(views[0], 3 * views[0], scales=1)
    assert float(measures["alignment"]) == pytest.approx(0, abs=1e-6)
    assert float(measures["retrieved"]) == 1
    ones = torch.ones(4, 3)
    assert float(measure_views(ones, ones, scales=1)["uniformity"]) == pytest.approx(0, abs=1e-5)
