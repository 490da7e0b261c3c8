"""python -m arniqa_pl.evaluate scorer=<file>,<file> database=[csiq,live]: each scorer on each database."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, ListConfig
from rich.console import Console

from arniqa_pl import launch, runs
from arniqa_pl.data.databases import Database
from arniqa_pl.errors import InputError
from arniqa_pl.quality import report
from arniqa_pl.quality.correlation import plcc, srcc
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.figures import matrix_figure
from arniqa_pl.quality.published import published
from arniqa_pl.quality.regression import predict_rows
from arniqa_pl.quality.scorer import WHOLE, Scorer
from arniqa_pl.quality.scoring import name_scorers
from arniqa_pl.tracking import RunLogger

log = logging.getLogger(__name__)


@launch.entry("evaluate", lists=("scorer",))
def main(cfg: DictConfig) -> float:
    """Fill the matrix of scorers and databases; return the mean SRCC on databases that a scorer was not fitted to."""
    lightning.seed_everything(cfg.seed, workers=True)
    launch.require_databases(cfg)
    databases = launch.build(cfg.databases)
    files = [str(each) for each in (cfg.scorer if isinstance(cfg.scorer, ListConfig) else [cfg.scorer])]
    scorers = name_scorers({file: Scorer.load(file) for file in files})
    names = ", ".join(sorted({scorer.encoder.name for scorer in scorers.values()}))
    with runs.tracked_run(cfg, names) as logger:
        matrix = evaluate(scorers, databases, cfg)
        _keep(matrix, databases, cfg, logger)
    return float(matrix.loc[~matrix["fitted_here"], "srcc"].mean())


def evaluate(scorers: Mapping[str, Scorer], databases: Mapping[str, Database], cfg: DictConfig) -> pd.DataFrame:
    """Correlate each scorer's predictions with each database's scores, in the direction that both call better.

    Returns:
        A row for each pair with the columns scorer, database, images, srcc, plcc, fitted_here (the scorer has seen
        these scores: no test), published_srcc, published_plcc (ARNIQA's, where the setting is the same).

    """
    rows = []
    for database_name, database in databases.items():
        for name, scorer in scorers.items():
            log.info("Features of %d images of %s for the scorer %s", len(database.table), database_name, name)
            prediction = predict(scorer, database, cfg)
            if scorer.scale.higher_is_better != database.higher_is_better:
                prediction = -prediction
            rows.append(
                {
                    "scorer": name,
                    "database": database_name,
                    "images": len(database.table),
                    "srcc": srcc(prediction, database.scores),
                    "plcc": plcc(prediction, database.scores),
                    "fitted_here": scorer.scale.database == database.name,
                    **_published(scorer, database),
                }
            )
    return pd.DataFrame(rows)


def predict(scorer: Scorer, database: Database, cfg: DictConfig) -> np.ndarray:
    """Return what the scorer gives a database's images (N,); scorers of one encoder share the features.

    Images are first resized as their database asks for (SPAQ), else as the scorer does: the published way.

    Raises:
        InputError: a scorer of whole images, which have no crops to share.

    """
    if scorer.crops == WHOLE:
        raise InputError("Wanted scorers of crops, one scores whole images: score the database's folder with predict.")
    features = extract_features(
        scorer.encoder,
        database.paths,
        trainer=instantiate(cfg.trainer),
        crop_size=scorer.crop_size,
        crops=scorer.crops,
        short_side=database.short_side or scorer.short_side,
        **cfg.features,
    )
    weight, bias = scorer.ridge.weight[0].double(), float(scorer.ridge.bias)
    return predict_rows(features, np.arange(len(features)), weight[None], torch.tensor([bias]))[0]


def _published(scorer: Scorer, database: Database) -> dict[str, float]:
    """Return ARNIQA's numbers for the pair; those of a database on itself are of test sides, so none for them."""
    five_crops = (scorer.crop_size, scorer.crops) == (224, 5)
    facts = published(database, trained_on=scorer.scale.database)
    if scorer.encoder.name != "resnet50" or not five_crops or scorer.scale.database == database.name or facts.empty:
        return {"published_srcc": float("nan"), "published_plcc": float("nan")}
    return {f"published_{measure}": float(facts[measure].iloc[0]) for measure in ("srcc", "plcc")}


@rank_zero_only
def _keep(matrix: pd.DataFrame, databases: Mapping[str, Database], cfg: DictConfig, logger: RunLogger) -> None:
    """Write the matrix into the run's folder and onto the tracking server, and print it."""
    folder = Path(cfg.paths.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for name, database in databases.items():
        runs.log_dataset(logger, name, database.table, database.root, "evaluation")
    square = report.matrix_frame(matrix)
    for file in report.write_tables(folder, {"overall": matrix, "matrix": square}, report.matrix_text(matrix)):
        logger.log_artifact(file)
    logger.log_table(matrix, "results.json")
    logger.log_metrics(
        {
            re.sub(r"[^/\w.\- :]", "", f"cross/{row['scorer']}/{row['database']}/{measure}"): row[measure]
            for row in matrix.to_dict("records")
            for measure in ("srcc", "plcc")
        }
    )
    logger.log_figure(matrix_figure(matrix), "figures/matrix.png")
    Console().print(report.terminal_table(square, "SRCC / PLCC of scorers on databases (*: fitted to it)"))
    log.info("Results: %s", folder)


if __name__ == "__main__":
    main()
