"""The figures of a run, drawn with Matplotlib: each function returns a figure, none writes a file."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from arniqa_pl.data.databases import Database
from arniqa_pl.data.images import read_image
from arniqa_pl.quality.correlation import plcc, srcc
from arniqa_pl.quality.regression import HeldOut, Regression

Points = NDArray[np.floating]

COLORS = ("#2b6cb0", "#a0aec0", "#dd6b20", "#2f855a", "#805ad5", "#b83280", "#b7791f", "#319795")
THUMBNAIL = 320  # px


def regression_figures(
    results: Mapping[str, Mapping[str, Regression]],
    tables: Mapping[str, pd.DataFrame],
    databases: Mapping[str, Database],
    shown: str,
) -> Iterator[tuple[str, Figure]]:
    """Draw every figure of a regression, with its name.

    Args:
        results: of each database, by encoder.
        tables: of `report.regression_tables`.
        databases: under the same names.
        shown: the encoder whose best and worst predictions are shown.

    """
    for name, database in databases.items():
        yield f"{name}_predictions", scatter_figure(database, results[name])
        for title, figure in extreme_figures(database, results[name][shown].tests[0]).items():
            yield f"{name}_{title}", figure
        for key, column in {"type": "distortion", "group": "distortion_group"}.items():
            parts = tables[f"by {key}"]
            if len(parts := parts[parts["database"] == name]):
                yield f"{name}_{key}s", parts_figure(parts, column)
        if "data efficiency" in tables:
            curve = tables["data efficiency"]
            yield f"{name}_data_efficiency", curve_figure(curve[curve["database"] == name])


def scatter_figure(database: Database, results: Mapping[str, Regression]) -> Figure:
    """Draw predicted against true scores of the first split's test side, a panel for each encoder."""
    figure = Figure(figsize=(5 * len(results), 4.8), layout="constrained")
    panels = figure.subplots(1, len(results), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (encoder, result), color in zip(panels, results.items(), _colors(len(results)), strict=True):
        test = result.tests[0]
        panel.scatter(test.score, test.prediction, s=10, alpha=0.5, color=color, linewidths=0)
        ends = [test.score.min(), test.score.max()]
        panel.plot(ends, ends, color="black", linewidth=0.8)
        found = f"SRCC {srcc(test.prediction, test.score):.3f}, PLCC {plcc(test.prediction, test.score):.3f}"
        panel.set_title(f"{encoder}: {found}")
        panel.set_xlabel(f"score in {database.name}")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("predicted score")
    figure.suptitle(f"{database.name}, test side of the first split")
    return figure


def parts_figure(parts: pd.DataFrame, column: str) -> Figure:
    """Draw one database's SRCC within each kind of image, with a whisker for the spread over the splits.

    Args:
        parts: the rows of one database of a `report.parts_frame`.
        column: which names the kinds.

    """
    kinds = list(pd.unique(parts[column]))
    encoders = parts.groupby("encoder", sort=False)
    figure = Figure(figsize=(7.5, 0.3 * len(kinds) + 1.5), layout="constrained")
    panel = figure.subplots()
    height = 0.8 / len(encoders)
    for number, ((encoder, rows), color) in enumerate(zip(encoders, _colors(len(encoders)), strict=True)):
        rows = rows.set_index(column).loc[kinds]
        places = np.arange(len(kinds)) + (number - (len(encoders) - 1) / 2) * height
        whisker = {"ecolor": "#4a5568", "elinewidth": 0.8}
        panel.barh(places, rows["srcc"], height, xerr=rows["srcc_std"], label=encoder, color=color, error_kw=whisker)
    panel.set_yticks(np.arange(len(kinds)), [str(kind).replace("_", " ") for kind in kinds])
    panel.set_ylim(len(kinds) - 0.5, -0.5)
    lowest = float(np.nanmin(parts["srcc"] - parts["srcc_std"].fillna(0), initial=0.0))
    panel.set_xlim(max(lowest - 0.02, -1.0) if lowest < 0 else 0.0, 1.0)
    panel.axvline(0, color="black", linewidth=0.8)
    panel.set_xlabel("SRCC within each kind: median ± standard deviation over splits")
    panel.set_title(str(parts["database"].iloc[0]))
    panel.spines[["top", "right"]].set_visible(False)
    if len(encoders) > 1:
        figure.legend(frameon=False, loc="outside lower center", ncols=len(encoders))
    return figure


def extreme_figures(database: Database, test: HeldOut, count: int = 16) -> dict[str, Figure]:
    """Show the best and the worst predictions of a test side, by absolute difference from the score."""
    difference = test.prediction - test.score
    order = np.argsort(np.abs(difference), kind="stable")
    paths = database.paths
    figures = {}
    for title, places in {"best": order[:count], "worst": order[::-1][:count]}.items():
        pictures = [
            (
                paths[test.rows[place]],
                f"{image_caption(database.table.iloc[test.rows[place]])}\n"
                f"predicted {test.prediction[place]:.2f}, true {test.score[place]:.2f} ({difference[place]:+.2f})",
            )
            for place in places
        ]
        figures[title] = picture_figure(
            pictures, f"{database.name}: the {len(pictures)} {title} predictions of the first split's test side"
        )
    return figures


def image_caption(facts: "pd.Series[Any]") -> str:
    """Return the file name of a row of a database's table, and its distortion with the level where it has one."""
    distortion = f"{facts['distortion']} {facts['level'] or ''}" if facts["distortion"] else ""
    return f"{Path(facts['image']).name} {distortion.replace('_', ' ')}".strip()


def picture_figure(pictures: Sequence[tuple[Path, str]], title: str, columns: int = 4) -> Figure:
    """Show image files in a grid, each over its caption."""
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.9 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels:
        panel.set_xticks([])
        panel.set_yticks([])
        panel.spines[:].set_visible(False)
    for panel, (path, caption) in zip(panels, pictures, strict=False):
        image = read_image(path)
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        panel.imshow(image)
        panel.set_xlabel(caption, fontsize=8)
    figure.suptitle(title)
    return figure


def curve_figure(curve: pd.DataFrame) -> Figure:
    """Draw one database's SRCC against the share of training references (rows of a `report.efficiency_frame`)."""
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    panel = figure.subplots()
    encoders = curve.groupby("encoder", sort=False)
    for (encoder, rows), color in zip(encoders, _colors(len(encoders)), strict=True):
        rows = rows.sort_values("fraction")
        panel.plot(rows["fraction"], rows["srcc"], "o-", color=color, label=encoder, markersize=4)
        band = rows["srcc"] - rows["srcc_std"], rows["srcc"] + rows["srcc_std"]
        panel.fill_between(rows["fraction"], *band, color=color, alpha=0.2, linewidth=0)
    panel.set_xscale("log")
    ticks = sorted(curve["fraction"].unique())
    panel.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    panel.set_xticks([], minor=True)
    panel.set_xlabel("share of the training references")
    panel.set_ylabel("test SRCC: median ± standard deviation")
    panel.set_title(str(curve["database"].iloc[0]))
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside lower center", ncols=min(len(encoders), 4))
    return figure


def matrix_figure(matrix: pd.DataFrame) -> Figure:
    """Draw the cross-database matrix (`evaluate`'s table): a row for each scorer, a column for each database."""
    scorers, databases = (list(dict.fromkeys(matrix[column])) for column in ("scorer", "database"))
    figure = Figure(figsize=(1.5 * len(databases) + 3.2, 0.7 * len(scorers) + 1.6), layout="constrained")
    panel = figure.subplots()
    shades = np.full((len(scorers), len(databases)), np.nan)
    for row in matrix.to_dict("records"):
        place = scorers.index(row["scorer"]), databases.index(row["database"])
        shades[place] = row["srcc"]
        text = f"{row['srcc']:.3f}\n{row['plcc']:.3f}{'*' * row['fitted_here']}"
        color = "white" if row["srcc"] > 0.6 else "black"
        panel.text(place[1], place[0], text, ha="center", va="center", color=color)
    panel.imshow(shades, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    panel.set_xticks(range(len(databases)), databases)
    panel.set_yticks(range(len(scorers)), scorers)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    note = " (*: fitted to it)" if matrix["fitted_here"].any() else ""
    figure.suptitle(f"SRCC over PLCC of scorers (rows)\non databases (columns){note}", fontsize=11)
    return figure


def manifold_figure(layouts: Mapping[int, Points], table: pd.DataFrame, title: str) -> Figure:
    """Draw features as laid out in 2-D and 3-D: by kind of distortion, opaque at high levels, and by score.

    Args:
        layouts: (N, 2) under 2 and (N, 3) under 3.
        table: of the database, N rows.
        title: of the figure.

    """
    kinds, opacity = distortion_kinds(table), level_opacity(table)
    names = [name for name in pd.unique(kinds) if name]
    colors = dict(zip(names, kind_colors(len(names)), strict=True))
    shaded = [to_rgba(colors.get(kind, "#000000"), alpha) for kind, alpha in zip(kinds, opacity, strict=True)]
    figure = Figure(figsize=(11, 10.5 if names else 5.5), layout="constrained")
    for column, (dim, points) in enumerate(sorted(layouts.items()), start=1):
        flat: dict[str, Any] = {"xticks": [], "yticks": []}
        space: dict[str, Any] = {"projection": "3d", "zticks": []} if dim == 3 else {}
        dots: dict[str, Any] = {"s": 9, "linewidths": 0} | ({"depthshade": False} if dim == 3 else {})
        if names:
            figure.add_subplot(2, 2, column, title=f"{dim}-D, by distortion", **flat, **space).scatter(
                *points.T, c=shaded, **dots
            )
        panel = figure.add_subplot(
            2 if names else 1, 2, column + 2 * bool(names), title=f"{dim}-D, by score", **flat, **space
        )
        scores = panel.scatter(*points.T, c=table["score"], cmap="viridis", **dots)
    figure.colorbar(scores, ax=panel, label="score", shrink=0.7)
    if names:
        marks = [Line2D([], [], marker="o", linestyle="", color=color) for color in colors.values()]
        labels = [name.replace("_", " ") for name in names]
        figure.legend(marks, labels, loc="outside lower center", ncols=min(len(names), 7), frameon=False)
    figure.suptitle(title)
    return figure


def distortion_kinds(table: pd.DataFrame) -> NDArray[np.str_]:
    """Return what colours a row (rows,): its group of distortions, or its type where it is in no group; "" if none."""
    groups, types = table["distortion_group"].to_numpy(str), table["distortion"].to_numpy(str)
    return np.where(groups == "", types, groups)


def level_opacity(table: pd.DataFrame) -> Points:
    """Return the opacity of each row (rows,): 0.25 at the lowest level of the table to 1 at its highest."""
    levels = table["level"].to_numpy(np.float64)
    spread = np.ptp(levels)
    return 0.25 + 0.75 * (levels - levels.min()) / spread if spread else np.full(len(levels), 0.8)


def kind_colors(count: int) -> list[str]:
    """Return colours that are told apart as points, as #rrggbb."""
    cycle = colormaps["tab10" if count <= 10 else "tab20"]
    return [to_hex(cycle(number % cycle.N)) for number in range(count)]


def _colors(count: int) -> Sequence[str]:
    return [COLORS[number % len(COLORS)] for number in range(count)]
