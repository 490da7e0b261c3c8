"""Runs side by side: the settings in which they differ, and their results."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from arniqa_pl.pages.layout import page_table, render
from arniqa_pl.quality.report import sections
from arniqa_pl.tracking.journal import Story

_PLACES = ("paths/", "logger/", "callbacks/", "trainer/default_root_dir", "features/cache_dir", "resume")
_RESULTS = ("test/", "untrained/", "checkpoint_", "cross/", "manifold/")
_SHOWN = ("srcc", "plcc", "srcc_std", "plcc_std", "silhouette", "knn_accuracy", "level_correlation")


def comparison_tables(stories: Iterable[Story]) -> dict[str, pd.DataFrame]:
    """Tabulate runs, a row for each: their results, the settings in which they differ, and where they come from.

    Args:
        stories: of the runs.

    Returns:
        Tables under "Results", "Settings", "Origin"; each begins with the column run. What a run lacks is missing.

    """
    stories = list(stories)
    results = [{name: points[-1][1] for name, points in story.metrics.items() if _is_result(name)} for story in stories]
    settings = pd.DataFrame(
        [{name: value for name, value in story.params.items() if not name.startswith(_PLACES)} for story in stories]
    )
    stages = [story.tags.get("stage", "") for story in stories]
    differing = [
        name
        for name, column in settings.items()
        if column.nunique() > 1 or column.groupby(stages).nunique(dropna=False).max() > 1
    ]
    origin = [
        {
            "status": story.status,
            "stage": story.tags.get("stage", ""),
            "encoder": story.tags.get("encoder", ""),
            "database": story.tags.get("database", ""),
            "revision": story.tags.get("mlflow.source.git.commit", "")[:9],
            "minutes": story.metrics["minutes"][-1][1] if "minutes" in story.metrics else float("nan"),
        }
        for story in stories
    ]
    tables = {
        "Results": pd.DataFrame(results),
        "Settings": settings[differing].fillna("–"),
        "Origin": pd.DataFrame(origin),
    }
    names = [f"{story.experiment} / {story.name}" for story in stories]
    for table in tables.values():
        table.insert(0, "run", names)
    return tables


def _is_result(name: str) -> bool:
    return name.startswith(_RESULTS) and name.endswith(_SHOWN)


def write_comparison(tables: dict[str, pd.DataFrame], title: str, output: Path) -> list[Path]:
    """Write `comparison_tables` as <output>.md and <output>.html; return the files.

    Where more settings differ than there are runs, a setting is a row.
    """
    settings = tables["Settings"]
    if settings.shape[1] > len(settings) + 1:
        tables = tables | {"Settings": settings.set_index("run").T.rename_axis("setting").reset_index()}
    files = [output.with_name(f"{output.name}{ending}") for ending in (".md", ".html")]
    output.parent.mkdir(parents=True, exist_ok=True)
    files[0].write_text(sections(title, tables))
    shown = {
        name: page_table(table, best=[str(column) for column in table if str(column).endswith(("srcc", "plcc"))])
        for name, table in tables.items()
    }
    files[1].write_text(render("comparison.html", title=title, tables=shown))
    return files
