"""What a person sees of a run: the results table and its figures."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.table import Table

from arniqa_pl.data.databases import Database
from arniqa_pl.quality.regression import Regression

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#a0aec0"


def results_frame(results: Mapping[str, Mapping[str, Regression]]) -> pd.DataFrame:
    """Tabulate each database's regression on each encoder: alpha, median and standard deviation over splits."""
    return pd.DataFrame(
        {
            "database": database,
            "encoder": encoder,
            "alpha": result.alpha,
            "srcc": float(np.median(result.srcc)),
            "srcc_std": float(np.std(result.srcc)),
            "plcc": float(np.median(result.plcc)),
            "plcc_std": float(np.std(result.plcc)),
            "splits": len(result.srcc),
        }
        for database, encoders in results.items()
        for encoder, result in encoders.items()
    )


def results_table(frame: pd.DataFrame) -> Table:
    """Lay the results out for a terminal."""
    table = Table(title="Test sides: median ± standard deviation over splits")
    for column in ("database", "encoder"):
        table.add_column(column)
    for column in ("alpha", "SRCC", "PLCC", "splits"):
        table.add_column(column, justify="right")
    for cells in _cells(frame):
        table.add_row(*cells)
    return table


def results_markdown(frame: pd.DataFrame) -> str:
    """Lay the results out as a Markdown table."""
    lines = ["| database | encoder | alpha | SRCC | PLCC | splits |", "|---|---|--:|--:|--:|--:|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in _cells(frame))]) + "\n"


def _cells(frame: pd.DataFrame) -> list[list[str]]:
    return [
        [
            row["database"],
            row["encoder"],
            f"{row['alpha']:.3g}",
            f"{row['srcc']:.3f} ± {row['srcc_std']:.3f}",
            f"{row['plcc']:.3f} ± {row['plcc_std']:.3f}",
            str(row["splits"]),
        ]
        for row in frame.to_dict("records")
    ]


def scatter_figure(database: Database, results: Mapping[str, Regression]) -> Figure:
    """Draw predicted against true scores of the first split's test side, a panel for each encoder."""
    figure = Figure(figsize=(5 * len(results), 4.8), layout="constrained")
    panels = figure.subplots(1, len(results), sharex=True, sharey=True, squeeze=False)[0]
    for panel, (encoder, result), color in zip(panels, results.items(), _colors(len(results)), strict=True):
        truth = database.scores[result.rows]
        panel.scatter(truth, result.prediction, s=10, alpha=0.5, color=color, linewidths=0)
        ends = [truth.min(), truth.max()]
        panel.plot(ends, ends, color="black", linewidth=0.8)
        panel.set_title(f"{encoder}: SRCC {result.srcc[0]:.3f}, PLCC {result.plcc[0]:.3f}")
        panel.set_xlabel(f"score in {database.name}")
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("predicted score")
    figure.suptitle(f"{database.name}, test side of the first split")
    return figure


def type_figure(database: Database, results: Mapping[str, Regression]) -> Figure:
    """Draw SRCC by distortion type on the first split's test side, for a database that names its types."""
    rows = next(iter(results.values())).rows
    kinds = database.table["distortion"].to_numpy()[rows]
    names = [name for name in pd.unique(kinds) if name]
    figure = Figure(figsize=(7, 0.28 * len(names) + 1.4), layout="constrained")
    panel = figure.subplots()
    height = 0.8 / len(results)
    for number, ((encoder, result), color) in enumerate(zip(results.items(), _colors(len(results)), strict=True)):
        truth = pd.Series(database.scores[result.rows])
        values = [
            truth[kinds == name].corr(pd.Series(result.prediction)[kinds == name], method="spearman") for name in names
        ]
        panel.barh(np.arange(len(names)) - number * height, values, height, label=encoder, color=color)
    panel.set_yticks(np.arange(len(names)), [name.replace("_", " ") for name in names])
    panel.invert_yaxis()
    panel.set_xlabel("SRCC within the distortion type")
    panel.set_title(f"{database.name}, test side of the first split")
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="lower left", bbox_to_anchor=(1, 0))
    return figure


def _colors(count: int) -> Sequence[str]:
    return (BLUE, GREY, ORANGE)[:count]
