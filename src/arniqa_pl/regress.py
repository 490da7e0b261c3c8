"""python -m arniqa_pl.regress checkpoint=<run or file> database=kadid10k: frozen features to opinion scores."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from arniqa_pl import launch
from arniqa_pl.data.databases import Database
from arniqa_pl.data.splits import Split, digest, draw_splits
from arniqa_pl.models.encoder import Encoder, load_encoder
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.regression import Regression, regress
from arniqa_pl.quality.report import (
    results_frame,
    results_markdown,
    results_table,
    scatter_figure,
    type_figure,
)
from arniqa_pl.quality.scorer import Scorer, ScoreScale

log = logging.getLogger(__name__)

TRAINED, UNTRAINED = "pre-trained", "untrained"


@launch.entry("regress")
def main(cfg: DictConfig) -> float:
    """Regress the databases on a checkpoint's features; return the mean over databases of the median test SRCC."""
    lightning.seed_everything(cfg.seed, workers=True)
    databases = launch.build(cfg.databases)
    encoder = load_encoder(str(cfg.checkpoint))
    with launch.tracked_run(cfg) as logger:
        frame = regress_databases(
            {TRAINED: encoder}, databases, draw_database_splits(databases, cfg.ridge), cfg, logger
        )
    return float(frame["srcc"].mean())


def draw_database_splits(databases: Mapping[str, Database], ridge: DictConfig) -> dict[str, list[Split]]:
    """Draw the splits of each database, disjoint by its groups."""
    return {
        name: draw_splits(database.table["group"].tolist(), ridge.num_splits, ridge.split_seed)
        for name, database in databases.items()
    }


def regress_databases(
    encoders: Mapping[str, Encoder],
    databases: Mapping[str, Database],
    splits: Mapping[str, list[Split]],
    cfg: DictConfig,
    logger: Any,
) -> pd.DataFrame:
    """Regress every database on every encoder's features; the first encoder's scorers are kept.

    Writes `<database>.safetensors`, `results.csv` and `results.md` into the run's folder, and all of it with the
    figures on the tracking server.
    """
    Path(cfg.paths.run_dir).mkdir(parents=True, exist_ok=True)
    alphas = instantiate(cfg.ridge.alphas).tolist()
    results: dict[str, dict[str, Regression]] = {name: {} for name in databases}
    for name, database in databases.items():
        for title, encoder in encoders.items():
            log.info("Features of %d images of %s, encoder %s", len(database.table), name, title)
            features = extract_features(
                encoder,
                database.paths,
                trainer=instantiate(cfg.trainer),
                short_side=database.short_side,
                **cfg.features,
            )
            results[name][title] = regress(
                features,
                database.scores,
                splits[name],
                alphas,
                standardise=cfg.ridge.standardise,
                per_crop=cfg.ridge.per_crop,
                label="Ridge, splits",
            )
    frame = results_frame(results)
    _keep(results, frame, next(iter(encoders.values())), databases, splits, cfg, logger)
    return frame


@rank_zero_only
def _keep(
    results: Mapping[str, Mapping[str, Regression]],
    frame: pd.DataFrame,
    encoder: Encoder,
    databases: Mapping[str, Database],
    splits: Mapping[str, list[Split]],
    cfg: DictConfig,
    logger: Any,
) -> None:
    """Write scorers and results into the run's folder and onto the tracking server, and print the table."""
    folder, client, run_id = Path(cfg.paths.run_dir), logger.experiment, logger.run_id
    frame.to_csv(folder / "results.csv", index=False)
    (folder / "results.md").write_text(results_markdown(frame))
    for row in frame.itertuples():
        stage = "test" if row.encoder == TRAINED else "untrained"
        logger.log_metrics({f"{stage}/{row.database}/{name}": getattr(row, name) for name in ("srcc", "plcc")})
    for name, database in databases.items():
        launch.log_dataset(name, database.table, database.root, "regression")
        scorer = Scorer(
            encoder,
            results[name][TRAINED].weight,
            results[name][TRAINED].bias,
            scale=_scale(database, results[name][TRAINED], splits[name]),
            crop_size=cfg.features.crop_size,
            crops=cfg.features.crops,
            short_side=database.short_side,
        )
        scorer.save(folder / f"{name}.safetensors")
        client.log_artifact(run_id, str(folder / f"{name}.safetensors"), "scorers")
        client.log_figure(run_id, scatter_figure(database, results[name]), f"figures/{name}_predictions.png")
        if database.table["distortion"].any():
            client.log_figure(run_id, type_figure(database, results[name]), f"figures/{name}_types.png")
    client.log_table(run_id, frame, "results.json")
    client.log_artifact(run_id, str(folder / "results.md"))
    Console().print(results_table(frame))
    log.info("Scorers and results: %s", folder)


def _scale(database: Database, result: Regression, splits: list[Split]) -> ScoreScale:
    return ScoreScale(
        database=database.name,
        higher_is_better=database.higher_is_better,
        nominal=database.score_range,
        seen=(float(database.scores.min()), float(database.scores.max())),
        alpha=result.alpha,
        srcc=float(np.median(result.srcc)),
        plcc=float(np.median(result.plcc)),
        splits=digest(splits),
    )


if __name__ == "__main__":
    main()
