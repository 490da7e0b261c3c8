"""Published results, as facts to set beside one's own: the table is `published.csv`."""

from collections.abc import Collection, Mapping
from importlib import resources

import pandas as pd

from arniqa_pl.data.databases import Database


def published(database: Database, trained_on: str | None = None) -> pd.DataFrame:
    """Return what was published for a database: columns method, srcc, plcc, source.

    Args:
        database: of which every published image must be there: parts of it have no published number.
        trained_on: name of the database that the ridge was fitted to, if it is another one.

    """
    with resources.as_file(resources.files("arniqa_pl.quality") / "published.csv") as file:
        facts = pd.read_csv(file)
    complete = database.release is not None and len(database.table) == database.release.rows
    same = complete & (facts["database"] == database.name) & (facts["trained_on"] == (trained_on or database.name))
    return facts.loc[same, ["method", "srcc", "plcc", "source"]].reset_index(drop=True)


def beside_published(
    frame: pd.DataFrame, databases: Mapping[str, Database], comparable: Mapping[str, Collection[str]]
) -> pd.DataFrame:
    """Set ARNIQA's published numbers beside results of a `results_frame`.

    Args:
        frame: to which the columns published_srcc and published_plcc are added.
        databases: under the names in the frame.
        comparable: of each database, the encoders that were tested in the published setting; others get no number.

    """
    facts = {name: published(database).set_index("method") for name, database in databases.items()}
    for measure in ("srcc", "plcc"):
        frame[f"published_{measure}"] = [
            float(facts[database][measure]["ARNIQA"])
            if encoder in comparable[database] and "ARNIQA" in facts[database].index
            else float("nan")
            for database, encoder in zip(frame["database"], frame["encoder"], strict=True)
        ]
    return frame
