import numpy as np
import pandas as pd
import pytest
from PIL import Image

from arniqa_pl.data.databases import Database
from arniqa_pl.quality.figures import (
    curve_figure,
    extreme_figures,
    level_opacity,
    manifold_figure,
    matrix_figure,
    parts_figure,
)
from arniqa_pl.quality.regression import HeldOut


@pytest.fixture
def database(tmp_path):
    """Twelve images, each of one grey that is its row number."""
    names = [f"{row:02d}.png" for row in range(12)]
    for row, name in enumerate(names):
        Image.new("RGB", (40, 30), (row, row, row)).save(tmp_path / name)
    table = pd.DataFrame({"image": names, "score": np.linspace(0, 1, 12), "distortion": "", "level": 0})
    table.loc[7, ["distortion", "level"]] = "lens_blur", 3
    return Database("csv", tmp_path, table, (0.0, 1.0), True)


def test_best_and_worst_are_the_smallest_and_largest_differences(database):
    rows = np.array([1, 3, 5, 7, 9, 11])
    errors = np.array([0.5, -0.1, 0.02, -0.9, 0.3, -0.04])
    test = HeldOut(rows, database.scores[rows] + errors, database.scores[rows])
    figures = extreme_figures(database, test, count=2)
    shown = {
        title: [
            (int(panel.images[0].get_array()[0, 0, 0]), panel.get_xlabel()) for panel in figure.axes if panel.images
        ]
        for title, figure in figures.items()
    }
    assert [row for row, _ in shown["best"]] == [5, 11]
    assert [row for row, _ in shown["worst"]] == [7, 1]
    score = database.scores[7]
    assert shown["worst"][0][1] == f"07.png lens blur 3\npredicted {score - 0.9:.2f}, true {score:.2f} (-0.90)"


def test_bars_are_the_medians_of_the_kinds():
    parts = pd.DataFrame(
        {
            "database": "x",
            "encoder": ["a", "a", "b", "b"],
            "distortion": ["jpeg", "lens_blur"] * 2,
            "srcc": [0.9, 0.8, -0.4, np.nan],
            "srcc_std": [0.1, 0.1, 0.2, np.nan],
        }
    )
    panel = parts_figure(parts, "distortion").axes[0]
    assert [bar.get_width() for bar in panel.patches][:3] == [0.9, 0.8, -0.4]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["jpeg", "lens blur"]
    assert panel.get_xlim() == pytest.approx((-0.62, 1.0))


def test_curve_goes_through_the_shares_in_order():
    curve = pd.DataFrame(
        {"database": "x", "encoder": "a", "fraction": [1.0, 0.1], "srcc": [0.9, 0.5], "srcc_std": [0.0, 0.1]}
    )
    panel = curve_figure(curve).axes[0]
    assert panel.lines[0].get_xydata().tolist() == [[0.1, 0.5], [1.0, 0.9]]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["10 %", "100 %"]


def test_matrix_has_scorers_in_rows_and_databases_in_columns():
    matrix = pd.DataFrame(
        {
            "scorer": ["a", "b", "a", "b"],
            "database": ["x", "x", "y", "y"],
            "srcc": [0.9, 0.1, 0.2, 0.3],
            "plcc": [0.8, 0.0, 0.1, 0.2],
            "fitted_here": [True, False, False, False],
        }
    )
    panel = matrix_figure(matrix).axes[0]
    np.testing.assert_array_equal(panel.images[0].get_array(), [[0.9, 0.2], [0.1, 0.3]])
    assert {text.get_position(): text.get_text() for text in panel.texts}[(0, 0)] == "0.900\n0.800*"


@pytest.mark.parametrize("kinds", [["blur", "", "noise", "noise"], [""] * 4])
def test_manifold_is_coloured_by_kind_with_levels_as_opacity_and_by_score(kinds):
    table = pd.DataFrame(
        {
            "distortion": ["lens_blur", "odd", "white_noise", "white_noise"] if any(kinds) else "",
            "distortion_group": kinds,
            "level": [1, 3, 5, 1],
            "score": [1.0, 2, 3, 4],
        }
    )
    assert level_opacity(table).tolist() == [0.25, 0.625, 1.0, 0.25]
    rng = np.random.default_rng(0)
    figure = manifold_figure({2: rng.random((4, 2)), 3: rng.random((4, 3))}, table, "x")
    panels = {panel.get_title(): panel.collections[0] for panel in figure.axes if panel.get_title()}
    assert len(panels) == (4 if any(kinds) else 2)
    assert panels["2-D, by score"].get_array().tolist() == [1, 2, 3, 4]
    if any(kinds):
        colors = panels["2-D, by distortion"].get_facecolors()
        assert colors[:, 3].tolist() == [0.25, 0.625, 1.0, 0.25]
        assert len({tuple(color[:3]) for color in colors}) == 3
