import re

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import silhouette_score

from arniqa_pl.errors import InputError
from arniqa_pl.quality import manifold
from arniqa_pl.quality.manifold import embed, manifold_frame, manifold_page, nearest, require_packages


@pytest.fixture(scope="module")
def curves():
    """Three types on a curve each, 8 references × 5 levels: features are the place on the curve and a little noise."""
    rng = np.random.default_rng(0)
    types, references, levels = (each.ravel() for each in np.mgrid[:3, :8, 1:6])
    place = levels / 5
    directions, bends = rng.standard_normal((2, 3, 16))
    features = 2 + directions[types] * place[:, None] + 0.5 * bends[types] * np.sin(3 * place)[:, None]
    features += 0.02 * rng.standard_normal(features.shape)
    return features, np.array(["jpeg", "lens_blur", "jitter"])[types], levels, references


def test_levels_follow_the_curves_and_types_lie_apart(curves):
    table = manifold_frame(*curves).set_index("type")
    assert table.index.tolist() == ["jpeg", "lens_blur", "jitter", "all"]
    assert table["images"].tolist() == [40, 40, 40, 120]
    assert table["level_correlation"].min() > 0.95
    features, types, levels, references = curves
    rng = np.random.default_rng(1)
    shuffled = manifold_frame(features, rng.permutation(types), levels, references).set_index("type")
    assert shuffled.loc["all", "knn_accuracy"] < 0.6 < table.loc["all", "knn_accuracy"]
    levelless = manifold_frame(features, types, rng.permutation(levels), references).set_index("type")
    assert levelless.loc["all", "level_correlation"] < 0.4


def test_silhouette_and_neighbours_are_those_of_their_definitions(curves):
    features, types, levels, references = curves
    table = manifold_frame(features, types, levels, references).set_index("type")
    assert table.loc["all", "silhouette"] == pytest.approx(silhouette_score(features, types, metric="cosine"))
    # By brute force. With as many folds as references, the neighbours would be all other references' images.
    two = references < 2
    distances = cdist(features[two], features[two], "cosine")
    right = []
    for row in range(two.sum()):
        others = np.flatnonzero(references[two] != references[two][row])
        near = others[np.argsort(distances[row, others])][:10]
        names, votes = np.unique(types[two][near], return_counts=True)
        right.append(names[votes.argmax()] == types[two][row])
    found = manifold_frame(features[two], types[two], levels[two], references[two]).set_index("type")
    assert found.loc["all", "knn_accuracy"] == pytest.approx(np.mean(right))


def test_rows_without_a_type_are_left_out_and_one_type_is_refused(curves):
    features, types, levels, references = curves
    extra = np.concatenate([features, features[:7] + 9])
    padded = manifold_frame(
        extra, [*types, *[""] * 7], np.concatenate([levels, levels[:7]]), np.concatenate([references, references[:7]])
    )
    pd.testing.assert_frame_equal(padded, manifold_frame(*curves))
    with pytest.raises(InputError, match=r"at least 2 distortion types and 2 references .* found 1 and 8"):
        manifold_frame(features, ["jpeg"] * len(types), levels, references)


@pytest.mark.parametrize("method", ["tsne", "umap"])
def test_same_seed_same_picture_in_which_types_stay_together(curves, method):
    features, types, _, _ = curves
    layout = embed(features, method, 3, seed=1)
    assert layout.shape == (120, 3)
    np.testing.assert_array_equal(layout, embed(features, method, 3, seed=1))
    distances = cdist(layout, layout)
    np.fill_diagonal(distances, np.inf)
    assert (types[distances.argmin(1)] == types).mean() > 0.9


def test_nearest_are_the_largest_cosines():
    features = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 3.0], [-1.0, 0.1]])
    rows, cosines = nearest(np.array([0.0, 5.0]), features, 3)
    assert rows.tolist() == [1, 2, 3]
    np.testing.assert_allclose(cosines, [1, np.sqrt(0.5), 0.1 / np.sqrt(1.01)])


def test_page_holds_every_point_and_loads_nothing(curves):
    features, types, levels, _ = curves
    table = pd.DataFrame(
        {
            "image": "folder/name.png",
            "distortion": types,
            "distortion_group": "",
            "level": levels,
            "score": 0.5 * levels,
        }
    )
    page = manifold_page({2: features[:, :2], 3: features[:, :3]}, table, "Here")
    assert not re.findall(r"<script[^>]+src=", page)
    assert not re.findall(r"<link[^>]+href=", page)
    assert len(page) > 1e6  # plotly itself
    assert page.count("jitter 5<br>") == 4 * 8  # in 2-D and 3-D, by type and by score
    assert "scatter3d" in page


def test_missing_packages_are_named_before_the_work(monkeypatch):
    require_packages()
    monkeypatch.setattr(manifold, "_found", lambda module: module != "umap")
    with pytest.raises(InputError, match=r"umap-learn is not installed: pip install 'arniqa_pl\[manifold\]'"):
        require_packages()
