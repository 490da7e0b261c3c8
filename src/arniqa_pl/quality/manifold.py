"""What the feature space of an encoder looks like: embeddings, numbers on them, nearest images."""

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, Isomap
from sklearn.metrics import silhouette_samples
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from arniqa_pl.errors import InputError
from arniqa_pl.quality.figures import distortion_kinds, kind_colors, level_opacity

Array = NDArray[np.floating]

METHODS = {"tsne": "t-SNE", "umap": "UMAP"}
NEIGHBOURS = 10  # of a point on the manifold


def require_packages() -> None:
    """Refuse to begin without the packages of the extra: they are needed at the end of long work.

    Raises:
        InputError: names those that are missing.

    """
    missing = [name for name, module in {"umap-learn": "umap", "plotly": "plotly"}.items() if not _found(module)]
    if missing:
        raise InputError(
            f"Wanted the packages of the extra manifold, {' and '.join(missing)} is not installed: "
            "pip install 'arniqa_pl[manifold]'."
        )


def embed(features: Array, method: str, dim: int, seed: int) -> Array:
    """Lay features (N, D) out in 2 or 3 dimensions, as ARNIQA's figures do: the same seed, the same picture.

    Args:
        features: (N, D), N above 3.
        method: "tsne" (perplexity 30, or less where there are few rows) or "umap" (25 neighbours, min_dist 0.2).
        dim: of the picture.
        seed: of the optimisation.

    Returns:
        (N, dim) float32.

    """
    if method == "tsne":
        perplexity = min(30.0, (len(features) - 1) / 3)
        return TSNE(dim, perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    import umap  # compiles for seconds

    neighbours = min(25, len(features) - 1)
    layout = umap.UMAP(neighbours, dim, min_dist=0.2, random_state=seed, n_jobs=1)
    return layout.fit_transform(features)


def principal_components(features: Array, dim: int) -> Array:
    """Return features (N, D) along the directions in which they differ most, (N, dim)."""
    return PCA(dim, svd_solver="randomized", random_state=0).fit_transform(features)


def manifold_frame(features: Array, types: ArrayLike, levels: ArrayLike, groups: ArrayLike) -> pd.DataFrame:
    """Measure how far an encoder's features are a manifold of distortions, not of contents.

    - silhouette: mean silhouette of a type's images among all types, by cosine distance; -1 to 1.
    - knn_accuracy: share of a type's images whose type is that of most of their 10 nearest neighbours by cosine
      distance among images of other references (five folds by reference).
    - level_correlation: the local manifold of a type is the graph of its images, each joined to its 10 nearest ones.
      Distances along that graph, laid out on one line (Isomap with one component), give each image a coordinate;
      this is Spearman's correlation of the coordinate with the level, without its sign, which is arbitrary.
      1: who walks along the type's images meets the levels in order. NaN for fewer than 12 images or a single level.

    Args:
        features: (N, D).
        types: (N,) distortion types; rows with "" are left out.
        levels: (N,).
        groups: (N,) references.

    Returns:
        Columns type, images, silhouette, knn_accuracy, level_correlation: a row for each type, and a last one
        named "all": the mean over images of the first two, the mean over types of the third.

    Raises:
        InputError: fewer than two types, or images of fewer than two references.

    """
    kinds, steps, references = np.asarray(types, str), np.asarray(levels), np.asarray(groups, str)
    named = kinds != ""
    points, kinds, steps, references = features[named], kinds[named], steps[named], references[named]
    if min(len(np.unique(kinds)), len(np.unique(references))) < 2:
        raise InputError(
            f"Wanted at least 2 distortion types and 2 references for numbers on a manifold, found "
            f"{len(np.unique(kinds))} and {len(np.unique(references))}."
        )
    neighbours = KNeighborsClassifier(NEIGHBOURS, metric="cosine")
    folds = GroupKFold(min(5, len(np.unique(references))))
    frame = pd.DataFrame(
        {
            "type": kinds,
            "silhouette": silhouette_samples(points, kinds, metric="cosine"),
            "knn_accuracy": cross_val_predict(neighbours, points, kinds, groups=references, cv=folds) == kinds,
        }
    )
    by_type = frame.groupby("type", sort=False)
    table = pd.concat([by_type.size().rename("images"), by_type.mean()], axis=1).reset_index()
    table["level_correlation"] = [
        _level_correlation(points[kinds == kind], steps[kinds == kind]) for kind in table["type"]
    ]
    overall = {"type": "all", "images": len(frame), **frame[["silhouette", "knn_accuracy"]].mean()}
    overall["level_correlation"] = table["level_correlation"].mean()
    return pd.concat([table, pd.DataFrame([overall])], ignore_index=True)


def nearest(query: Array, features: Array, count: int) -> tuple[NDArray[np.int64], Array]:
    """Return the rows of features (N, D) that are nearest to a query (D,) by cosine, and their similarity (count,)."""
    lengths = np.linalg.norm(features, axis=1) * np.linalg.norm(query)
    similarity = features @ query / lengths
    rows = np.argsort(-similarity, kind="stable")[:count]
    return rows, similarity[rows]


def manifold_page(layouts: Mapping[int, Array], table: pd.DataFrame, title: str) -> str:
    """Return the panels of `figures.manifold_figure` as an HTML page to turn and to hover over; it loads nothing.

    Args:
        layouts: (N, 2) under 2 and (N, 3) under 3.
        table: of the database, N rows.
        title: of the page.

    """
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    kinds, opacity = distortion_kinds(table), level_opacity(table)
    names = [name for name in pd.unique(kinds) if name]
    colorings = ["distortion", "score"] if names else ["score"]
    page = make_subplots(
        len(colorings),
        2,
        specs=[[{"type": "xy"}, {"type": "scene"}]] * len(colorings),
        subplot_titles=[f"{dim}-D, by {coloring}" for coloring in colorings for dim in (2, 3)],
        vertical_spacing=0.06,
    )
    hover = table["image"] + "<br>" + table["distortion"] + " " + table["level"].astype(str)
    hover += "<br>score " + table["score"].round(3).astype(str)

    def draw(row: int, dim: int, here: NDArray[np.int64], marker: dict[str, Any], **legend: Any) -> None:
        trace, size = (go.Scattergl, 5) if dim == 2 else (go.Scatter3d, 3)
        axes = dict(zip("xyz", layouts[dim][here].T, strict=False))
        text = {"mode": "markers", "text": hover.iloc[here], "hoverinfo": "text"}
        page.add_trace(trace(**axes, **text, marker=marker | {"size": size}, **legend), row, dim - 1)

    for name, color in zip(names, kind_colors(len(names)), strict=True):
        here = np.flatnonzero(kinds == name)
        here = here[np.argsort(-opacity[here], kind="stable")]  # the legend shows the colour of the first point
        rgb = ",".join(str(int(color[place : place + 2], 16)) for place in (1, 3, 5))
        shades = [f"rgba({rgb},{each:.2f})" for each in opacity[here]]
        for dim in (2, 3):
            legend = {"name": name.replace("_", " "), "legendgroup": name, "showlegend": dim == 2}
            draw(1, dim, here, {"color": shades}, **legend)
    scale = {"color": table["score"], "colorscale": "Viridis", "colorbar": {"title": "score", "len": 0.4, "y": 0.2}}
    for dim in (2, 3):
        marker = scale | {"showscale": dim == 2}
        draw(len(colorings), dim, np.arange(len(table)), marker, name="score", showlegend=False)
    page.update_layout(
        title=title, height=700 * len(colorings), template="plotly_white", legend={"itemsizing": "constant"}
    )
    return page.to_html(include_plotlyjs=True, full_html=True)


def _level_correlation(points: Array, levels: NDArray[np.int64]) -> float:
    if len(points) < NEIGHBOURS + 2 or np.ptp(levels) == 0:
        return float("nan")
    coordinate = Isomap(n_neighbors=NEIGHBOURS, n_components=1).fit_transform(points)[:, 0]
    return abs(float(stats.spearmanr(coordinate, levels).statistic))


def _found(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
