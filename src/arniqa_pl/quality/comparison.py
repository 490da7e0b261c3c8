"""The jobs of a sweep side by side: over seeds, as a figure, and which settings were best."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from arniqa_pl.quality.figures import COLORS
from arniqa_pl.quality.report import markdown, sections

OBJECTIVE = "objective"
_SEED = "seed"


def jobs_frame(jobs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> pd.DataFrame:
    """Lay jobs out, a row for each.

    Args:
        jobs: `job`, `status` (finished, failed, unfinished), `error`, `values` (of the keys, as text), `objective`,
            `minutes`, and `metrics` by name.
        keys: the settings that the sweep changes.

    Returns:
        The columns job, status, the keys, objective, the metrics, minutes and error.

    """
    measures = list(dict.fromkeys(name for job in jobs for name in job["metrics"]))
    rows = [
        {
            "job": job["job"],
            "status": job["status"],
            **{key: job["values"].get(key, "") for key in keys},
            OBJECTIVE: _number(job["objective"]),
            **{name: _number(job["metrics"].get(name)) for name in measures},
            "minutes": _number(job["minutes"]),
            "error": " ".join((job["error"] or "").replace("|", "/").split()),
        }
        for job in jobs
    ]
    return pd.DataFrame(rows, columns=["job", "status", *keys, OBJECTIVE, *measures, "minutes", "error"])


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def seeds_frame(jobs: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Average finished jobs that differ in nothing but the seed, best objective first.

    Returns:
        The other keys, runs (how many), and of the objective and each metric `<name>_mean` and `<name>_std` (NaN of a
        single run).

    """
    settings = [key for key in keys if key != _SEED]
    start, end = jobs.columns.get_loc(OBJECTIVE), jobs.columns.get_loc("minutes")
    measures = list(jobs.columns[start:end])
    rows = []
    finished = jobs[jobs["status"] == "finished"]
    for values, group in finished.groupby(settings, sort=False) if settings else [((), finished)]:
        row = dict(zip(settings, values, strict=True)) | {"runs": len(group)}
        for name in measures:
            row |= {f"{name}_mean": group[name].mean(), f"{name}_std": group[name].std()}
        rows.append(row)
    spread = [f"{name}_{statistic}" for name in measures for statistic in ("mean", "std")]
    frame = pd.DataFrame(rows, columns=[*settings, "runs", *spread])
    return frame.sort_values(f"{OBJECTIVE}_mean", ascending=False, kind="stable", ignore_index=True)


def best_values(jobs: pd.DataFrame, keys: Sequence[str]) -> dict[str, str]:
    """Return the settings with the highest mean objective; of a sweep over seeds alone, the best seed."""
    if set(keys) <= {_SEED}:
        jobs = jobs.sort_values(OBJECTIVE, ascending=False, kind="stable")
        return {key: str(jobs[key].iloc[0]) for key in keys}
    best = seeds_frame(jobs, keys).iloc[0]
    return {key: str(best[key]) for key in keys if key != _SEED}


def spread_frame(means: pd.DataFrame) -> pd.DataFrame:
    """Return a `seeds_frame` with one column for each measure: mean ± spread, as text."""
    names = [column.removesuffix("_mean") for column in map(str, means) if column.endswith("_mean")]
    rows = means.to_dict("records")
    spreads = {name: [_spread(row, name) for row in rows] for name in names}
    return means.loc[:, :"runs"].assign(**spreads)


def terminal_frame(means: pd.DataFrame) -> pd.DataFrame:
    """Return the same with names of columns that a terminal can break: no group of a setting, spaces for the rest."""
    frame = spread_frame(means)
    settings = list(frame.columns[: frame.columns.get_loc("runs")])
    short = {name: name.rpartition(".")[2].replace("_", " ") for name in settings}
    return frame.rename(columns=lambda name: short.get(name, name.removeprefix("test/").replace("/", " ")))


def comparison_text(jobs: pd.DataFrame, keys: Sequence[str], best: str) -> str:
    """Return the Markdown of a sweep: settings with mean ± spread over seeds, the best command, every job."""
    failed = int((jobs["status"] != "finished").sum())
    note = "\nMean ± standard deviation over runs that differ in the seed alone; best objective first.\n"
    parts: dict[str, str | pd.DataFrame] = {
        "Settings": markdown(spread_frame(seeds_frame(jobs, keys))) + note,
        "Best": _wrapped(best),
        f"Jobs ({len(jobs)}, {failed} not finished)": jobs,
    }
    return sections("Sweep", parts)


def _wrapped(command: str, width: int = 80) -> str:
    """Return a command as a block of Markdown, in lines that a shell takes as one: a page is as wide as its lines."""
    lines: list[str] = []
    for word in re.findall(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""", command):
        if lines and len(lines[-1]) + len(word) < width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "    " + " \\\n        ".join(lines) + "\n"


def _spread(row: Mapping[Any, Any], name: str) -> str:
    mean, spread = row[f"{name}_mean"], row[f"{name}_std"]
    return f"{mean:.3f}" if np.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def comparison_figure(jobs: pd.DataFrame, keys: Sequence[str]) -> Figure:
    """Draw the objective: bars over one setting, with every run as a dot; parallel coordinates over several."""
    settings = [key for key in keys if key != _SEED] or list(keys)
    finished = jobs[(jobs["status"] == "finished") & jobs[OBJECTIVE].notna()]
    return _bars(finished, settings) if len(settings) <= 1 else _parallel(finished, settings)


def _bars(jobs: pd.DataFrame, settings: Sequence[str]) -> Figure:
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    labels = jobs[settings[0]] if settings else jobs["job"]
    places, names = pd.factorize(labels)
    means = jobs.groupby(places)[OBJECTIVE].mean()
    panel.bar(means.index, means, color=COLORS[0], alpha=0.6, width=0.6)
    panel.scatter(places, jobs[OBJECTIVE], color=COLORS[2], s=16, zorder=3)
    panel.set_xticks(range(len(names)), names)
    panel.set(xlabel=settings[0] if settings else "job", ylabel=OBJECTIVE)
    return figure


def _parallel(jobs: pd.DataFrame, settings: Sequence[str]) -> Figure:
    """Draw a line for each job across an axis for each setting and one for the objective, which colours it."""
    figure = Figure(figsize=(2 + 1.8 * len(settings), 4), layout="constrained")
    panel = figure.subplots()
    heights = []
    for number, key in enumerate([*settings, OBJECTIVE]):
        height, ticks = _axis(jobs[key])
        heights.append(height)
        panel.axvline(number, color=COLORS[1], linewidth=1)
        for label, place in ticks.items():
            panel.annotate(label, (number, place), textcoords="offset points", xytext=(4, 0), fontsize=8, va="center")
    scale = Normalize(jobs[OBJECTIVE].min(), jobs[OBJECTIVE].max())
    for line, objective in zip(np.transpose(heights), jobs[OBJECTIVE], strict=True):
        panel.plot(line, color=colormaps["viridis"](scale(objective)), alpha=0.8)
    panel.set_xticks(range(len(settings) + 1), [*settings, OBJECTIVE])
    panel.set(yticks=[], ylim=(-0.05, 1.05), xlim=(-0.5, len(settings) + 0.5))
    panel.spines[:].set_visible(False)
    return figure


def _axis(values: pd.Series) -> tuple[np.ndarray, dict[str, float]]:
    """Return heights 0 to 1 of values, (jobs,), and what to write at which height: numbers to scale, words in order."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.isna().any():
        codes, names = pd.factorize(values)
        heights = codes / max(len(names) - 1, 1)
        return heights, {str(name): place / max(len(names) - 1, 1) for place, name in enumerate(names)}
    low, high = numbers.min(), numbers.max()
    heights = ((numbers - low) / ((high - low) or 1)).to_numpy()
    shown = numbers.unique() if numbers.nunique() <= 8 else np.array([low, high])
    return heights, {f"{value:.4g}": float((value - low) / ((high - low) or 1)) for value in shown}
