"""The tables of a run. Everything here is a function of test-side predictions, scores and rows."""

import math
from collections.abc import Collection, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from arniqa_pl.data.databases import Database
from arniqa_pl.quality.correlation import MEASURES
from arniqa_pl.quality.published import published
from arniqa_pl.quality.regression import Regression
from arniqa_pl.quality.summary import summarize_tests

Results = Mapping[str, Mapping[str, Regression]]

LABELS = {
    "srcc": "SRCC",
    "plcc": "PLCC",
    "krcc": "KRCC",
    "rmse": "RMSE",
    "plcc_logistic": "PLCC after a logistic fit",
}
FEWEST = 3  # two points are always perfectly correlated


def results_frame(results: Results) -> pd.DataFrame:
    """Tabulate each database's regression on each encoder, a row for each.

    Every measure has five columns: its median over the splits by its bare name, then `_mean`, `_std`, `_low`, `_high`.
    """
    rows = []
    for database, encoders in results.items():
        for encoder, result in encoders.items():
            row = {"database": database, "encoder": encoder, "alpha": result.alpha, "splits": len(result.tests)}
            rows.append(row | summarize_tests(result.tests))
    return pd.DataFrame(rows)


def parts_frame(results: Results, databases: Mapping[str, Database], column: str) -> pd.DataFrame:
    """Tabulate every measure within each kind of image, as `results_frame` does for all of them.

    Args:
        results: of each database, by encoder.
        databases: under the same names.
        column: of the databases' tables, "distortion" or "distortion_group"; rows that leave it empty have no kind.

    Returns:
        Columns database, encoder, the given one, images (in the whole database), and those of `results_frame`. Test
        sides with fewer than 3 images of a kind say nothing on it, and are left out.

    """
    rows: list[dict[str, Any]] = []
    for database, encoders in results.items():
        kinds = databases[database].table[column].to_numpy(str)
        for encoder, result in encoders.items():
            for kind in filter(None, pd.unique(kinds)):
                tests = [test.within(kinds == kind) for test in result.tests]
                told = [test for test in tests if len(test.rows) >= FEWEST]
                row = {"database": database, "encoder": encoder, column: kind, "images": int((kinds == kind).sum())}
                rows.append(row | {"splits": len(told)} | summarize_tests(told))
    columns = ["database", "encoder", column, "images", "splits", *summarize_tests([])]
    return pd.DataFrame(rows, columns=columns)


def checkpoints_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Tabulate mean and sample standard deviation over encoders of each measure's median, a row for each database."""
    groups = frame.groupby("database", sort=False)
    return pd.concat(
        [groups.size().rename("checkpoints")]
        + [
            groups[name].agg(statistic).rename(f"{name}_{statistic}")
            for name in MEASURES
            for statistic in ("mean", "std")
        ],
        axis=1,
    ).reset_index()


def efficiency_frame(results: Mapping[float, Results]) -> pd.DataFrame:
    """Tabulate regressions on shares of the training references: a `results_frame` with the column fraction."""
    frames = [results_frame(results[fraction]).assign(fraction=fraction) for fraction in sorted(results)]
    return pd.concat(frames, ignore_index=True)


def regression_tables(
    results: Mapping[float, Results],
    frame: pd.DataFrame,
    databases: Mapping[str, Database],
    trained: Collection[str],
) -> dict[str, pd.DataFrame]:
    """Return all tables of a regression by name.

    Args:
        results: by share of the training references; 1.0 is the one that is reported on.
        frame: the `results_frame` of that one.
        databases: under the names in the results.
        trained: the encoders whose mean is of interest, if there are several.

    """
    tables = {
        "overall": frame,
        "by type": parts_frame(results[1.0], databases, "distortion"),
        "by group": parts_frame(results[1.0], databases, "distortion_group"),
    }
    if len(trained) > 1:
        tables["checkpoints"] = checkpoints_frame(frame[frame["encoder"].isin(trained)])
    if len(results) > 1:
        tables["data efficiency"] = efficiency_frame(results)
    return tables


def regression_text(tables: Mapping[str, pd.DataFrame], databases: Mapping[str, Database]) -> str:
    """Return the Markdown of `regression_tables`."""
    parts: dict[str, str | pd.DataFrame] = {"Overall": results_markdown(tables["overall"])}
    if tables["overall"]["published_srcc"].notna().any():
        facts = [published(database).assign(database=name) for name, database in databases.items()]
        parts["Published"] = pd.concat(facts)[["database", "method", "srcc", "plcc", "source"]]
    if "checkpoints" in tables:
        parts["Mean and standard deviation over checkpoints"] = tables["checkpoints"]
    if "data efficiency" in tables:
        columns = ["database", "encoder", "fraction", "splits", "srcc", "srcc_std", "plcc", "plcc_std"]
        parts["Data efficiency"] = tables["data efficiency"][columns]
    for title, name in {"By distortion group": "by group", "By distortion type": "by type"}.items():
        parts[title] = _parts_markdown(tables[name]) if len(tables[name]) else ""
    return sections("Results on the test sides", parts)


def terminal_tables(tables: Mapping[str, pd.DataFrame]) -> list[Table]:
    """Lay out for a terminal what fits there: the medians, and their mean over checkpoints if there are several."""
    shown = [results_table(tables["overall"])]
    if "checkpoints" in tables:
        means = tables["checkpoints"][["database", "checkpoints"]].copy()
        for name in ("srcc", "plcc"):
            rows = tables["checkpoints"].to_dict("records")
            means[name.upper()] = [f"{_cell(row[f'{name}_mean'])} ± {_cell(row[f'{name}_std'])}" for row in rows]
        shown.append(terminal_table(means, "Mean ± standard deviation over checkpoints"))
    return shown


def results_table(frame: pd.DataFrame) -> Table:
    """Lay a `results_frame` out for a terminal; of what was published, ARNIQA's own numbers."""
    with_published = "published_srcc" in frame and frame["published_srcc"].notna().any()
    table = Table(title="Test sides: median ± standard deviation over splits")
    for column in ("database", "encoder"):
        table.add_column(column)
    for column in ("alpha", "SRCC", "PLCC", *(["published"] if with_published else [])):
        table.add_column(column, justify="right")
    for row in frame.to_dict("records"):
        cells = [row["database"], row["encoder"], f"{row['alpha']:.3g}", _spread(row, "srcc"), _spread(row, "plcc")]
        if with_published:
            cells.append(" / ".join(_cell(row[f"published_{name}"]) for name in ("srcc", "plcc")))
        table.add_row(*cells)
    return table


def headline(frame: pd.DataFrame) -> str:
    """Say a `results_frame` as Markdown, a line for each database and encoder: what to know before any table."""
    lines = []
    for row in frame.to_dict("records"):
        published = row.get("published_srcc", math.nan)
        beside = "" if math.isnan(published) else f" (published {published:.3f})"
        srcc, plcc = _spread(row, "srcc"), _spread(row, "plcc")
        lines.append(f"- {row['database']}, {row['encoder']}: **SRCC {srcc}**{beside}, PLCC {plcc}\n")
    return "".join(lines)


def results_markdown(frame: pd.DataFrame) -> str:
    """Lay a `results_frame` out as Markdown, a line for each measure."""
    lines = []
    for row in frame.to_dict("records"):
        for name, label in LABELS.items():
            lines.append(
                {
                    "database": row["database"],
                    "encoder": row["encoder"],
                    "alpha": f"{row['alpha']:.3g}",
                    "splits": row["logistic_fits"] if name == "plcc_logistic" else row["splits"],
                    "measure": label,
                    "median ± std": _spread(row, name),
                    "mean": row[f"{name}_mean"],
                    "95 % interval of the median": _interval(row, name),
                    "published": row.get(f"published_{name}", float("nan")),
                }
            )
    text = markdown(pd.DataFrame(lines))
    failed = frame["splits"] - frame["logistic_fits"]
    if failed.any():
        text += (
            f"\nThere is no logistic curve on {failed.sum()} of {frame['splits'].sum()} test sides (the fit did not "
        )
        text += "converge, or fewer than five predictions differ): its lines leave them out.\n"
    if "split_digest" in frame:
        for row in frame.drop_duplicates("database").to_dict("records"):
            text += f"\nSplits of {row['database']}: {row['split_origin']}, digest {row['split_digest']}.\n"
    return text


def _parts_markdown(frame: pd.DataFrame) -> str:
    """Lay a `parts_frame` out as Markdown: its medians, and what is known of those of the SRCC."""
    short = frame.iloc[:, :4].copy()
    rows = frame.to_dict("records")
    short["SRCC"] = [_spread(row, "srcc") for row in rows]
    short["95 % interval"] = [_interval(row, "srcc") for row in rows]
    return markdown(short.assign(**{LABELS[name]: frame[name] for name in MEASURES if name != "srcc"}))


def matrix_frame(matrix: pd.DataFrame) -> pd.DataFrame:
    """Lay `evaluate`'s rows out as the matrix SRCC / PLCC, a row for each scorer; * where the scorer was fitted."""
    cells = [f"{_cell(row.srcc)} / {_cell(row.plcc)}{'*' * bool(row.fitted_here)}" for row in matrix.itertuples()]
    square = matrix.assign(cell=cells).pivot(index="scorer", columns="database", values="cell")
    return square.reindex(index=pd.unique(matrix["scorer"]), columns=pd.unique(matrix["database"])).reset_index()


def matrix_text(matrix: pd.DataFrame) -> str:
    """Return the Markdown of a cross-database matrix, with what was published for its pairs."""
    note = (
        "\nSRCC / PLCC of scorers (rows) on databases (columns), in the direction that both call better. "
        "* marks the database that the scorer was fitted to: it has seen these scores.\n"
    )
    columns = ["scorer", "database", "srcc", "plcc", "published_srcc", "published_plcc"]
    beside = matrix.loc[matrix["published_srcc"].notna(), columns]
    parts: dict[str, str | pd.DataFrame] = {
        "Matrix": markdown(matrix_frame(matrix)) + note,
        "Beside ARNIQA's published numbers": beside,
    }
    return sections("Across databases", parts)


def terminal_table(frame: pd.DataFrame, title: str) -> Table:
    """Lay any table out for a terminal."""
    table = Table(title=title)
    for column in frame:
        table.add_column(str(column), justify="left" if pd.api.types.is_string_dtype(frame[column]) else "right")
    for values in frame.itertuples(index=False):
        table.add_row(*map(_cell, values))
    return table


def markdown(frame: pd.DataFrame) -> str:
    """Lay any table out as Markdown; numbers with three decimals, what is missing as a dash."""
    texts = [pd.api.types.is_string_dtype(frame[column]) for column in frame]
    lines = [list(frame.columns), ["---" if text else "--:" for text in texts]]
    lines += [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def write_tables(folder: Path, tables: Mapping[str, pd.DataFrame], text: str) -> list[Path]:
    """Write tables next to a run: `results.md`, `results.xlsx` with a sheet for each, and a CSV file for each.

    Args:
        folder: of the run.
        tables: by name; the first one is `results.csv`, a later one `results_<name>.csv`.
        text: what the Markdown file says.

    Returns:
        The files.

    """
    files = [folder / "results.md", folder / "results.xlsx"]
    files[0].write_text(text)
    with pd.ExcelWriter(files[1]) as book:
        for name, table in tables.items():
            table.to_excel(book, sheet_name=name, index=False, freeze_panes=(1, 0))
    for name, table in tables.items():
        files.append(folder / f"{file_stem(name, tables)}.csv")
        table.to_csv(files[-1], index=False)
    return files


def file_stem(name: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """Return what the files of a table are called: "results" for the first one, "results_<name>" for a later one."""
    return "results" if name == next(iter(tables)) else f"results_{name.replace(' ', '_')}"


def sections(title: str, parts: Mapping[str, str | pd.DataFrame]) -> str:
    """Join Markdown under headings; a table without rows is left out."""
    found = {name: part if isinstance(part, str) else markdown(part) for name, part in parts.items() if len(part)}
    return "\n".join([f"# {title}\n", *(f"## {name}\n\n{part}" for name, part in found.items())])


def _spread(row: Mapping[Hashable, Any], name: str) -> str:
    return _cell(row[name]) if np.isnan(row[f"{name}_std"]) else f"{_cell(row[name])} ± {_cell(row[f'{name}_std'])}"


def _interval(row: Mapping[Hashable, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "–" if np.isnan(low) else f"{_cell(low)} to {_cell(high)}"


def _cell(value: object) -> str:
    if isinstance(value, float | np.floating):
        return "–" if np.isnan(value) else f"{value:.3f}"
    return str(value)
