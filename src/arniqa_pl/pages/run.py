"""The page of a run: what a reviewer asks for, on one page, in one file."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from arniqa_pl.pages.layout import cell, drawing, page_table, picture, render
from arniqa_pl.quality.figures import COLORS
from arniqa_pl.tracking.journal import Journal, Story

PAGE = "report.html"
# Sections by the ends of the figures' names, in the order in which they are asked for; the last takes the rest.
_SECTIONS = {
    "Predicted against true scores": ("_predictions",),
    "Best and worst predictions": ("_best", "_worst"),
    "Curves": (),
    "Where it is good": ("_groups", "_types", "_data_efficiency"),
    "What the encoder saw": ("degraded_pairs",),
    "Manifold": ("_manifold", "tsne", "umap"),
    "Figures": ("",),
}
_FIRST = ("train/loss", "val/srcc")  # of the curves
_MOST_POINTS = 500


def write_page(folder: Path) -> Path:
    """Write the page of a run into its folder, from what else is there; return the file.

    Raises:
        InputError: the folder holds no run.

    """
    story = Journal(folder).story()
    file = folder / PAGE
    file.write_text(
        render(
            "run.html",
            title=f"{story.experiment} / {story.name}",
            facts=_facts(story),
            figures=_figures(folder, story),
            settings=story.params,
            data=page_table(_data(story)),
            environment={
                name.partition(".")[2]: value
                for name, value in story.tags.items()
                if name.startswith(("machine.", "version."))
            },
            revision=story.tags.get("mlflow.source.git.commit"),
            command=story.tags.get("command", ""),
            **_results(folder),
        )
    )
    return file


def _facts(story: Story) -> dict[str, str]:
    """Return what the line below the title says."""
    tags = story.tags
    found = {name: tags.get(name, "") for name in ("stage", "encoder", "database")}
    found["revision"] = tags.get("mlflow.source.git.commit", "")[:9]
    found["minutes"] = f"{story.metrics['minutes'][-1][1]:.1f}" if "minutes" in story.metrics else ""
    gpu = tags.get("machine.gpu", "none")
    found["on"] = tags.get("machine.processor", "") if gpu == "none" else gpu
    return {name: value for name, value in found.items() if value}


def _results(folder: Path) -> dict[str, object]:
    """Return the tables of a regression, or of an evaluation across databases."""
    overall, matrix = folder / "results.csv", folder / "results_matrix.csv"
    if matrix.exists():
        return {"results": None, "matrices": [page_table(pd.read_csv(matrix))]}
    if not overall.exists():
        return {"results": None, "matrices": []}
    frame = pd.read_csv(overall)
    shown = frame[["database", "encoder", "alpha", "splits"]].copy()
    for name in ("srcc", "plcc", "krcc", "rmse"):
        pairs = zip(frame[name], frame[f"{name}_std"], strict=True)
        shown[name.upper()] = [f"{cell(median)} ± {cell(spread)}" for median, spread in pairs]
        if frame.get(f"published_{name}", pd.Series(dtype=float)).notna().any():
            shown[f"published {name.upper()}"] = frame[f"published_{name}"]
    return {"results": page_table(shown), "matrices": []}


def _figures(folder: Path, story: Story) -> dict[str, dict[str, str]]:
    """Return the run's figures as data URIs, by section and name."""
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    for path in dict.fromkeys(story.artifacts):
        file = folder / path
        if file.suffix == ".png" and file.exists():
            section = next(name for name, ends in _SECTIONS.items() if file.stem.endswith(ends))
            sections[section][path] = picture(file)
    if curves := curve_figure(story):
        sections["Curves"]["curves"] = drawing(curves)
    return {name: figures for name, figures in sections.items() if figures}


def _data(story: Story) -> pd.DataFrame:
    columns = ["name", "digest", "context", "source"]
    return pd.DataFrame([{name: data.get(name, "") for name in columns} for data in story.datasets], columns=columns)


def curve_figure(story: Story) -> Figure | None:
    """Draw everything that was logged along the training, a panel each; None: nothing was."""
    logged = {name for name, points in story.metrics.items() if len(points) > 1} - {"train/minutes_left"}
    names = [name for name in logged if name.startswith(("train/", "val/"))]
    names.sort(key=lambda name: (_FIRST.index(name) if name in _FIRST else len(_FIRST), name))
    if not names:
        return None
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(11, 2.3 * rows), layout="constrained")
    panels = figure.subplots(rows, 3, squeeze=False).ravel()
    for panel, name in zip(panels, names, strict=False):
        points = np.array(sorted(story.metrics[name]))
        shown = points[np.unique(np.linspace(0, len(points) - 1, _MOST_POINTS).round().astype(int))]
        panel.plot(*shown.T, "o-" if len(shown) < 20 else "-", markersize=3, linewidth=1.2, color=COLORS[0])
        panel.set_title(name, fontsize=10, loc="left")
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        panel.grid(color="#e2e8f0", linewidth=0.6)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel in panels[max(len(names) - 3, 0) : len(names)]:
        panel.set_xlabel("step", fontsize=9)
    return figure
