"""python -m arniqa_pl.regress checkpoint=<run or file> database=kadid10k: frozen features to opinion scores."""

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig, ListConfig
from rich.console import Console

from arniqa_pl import launch, runs
from arniqa_pl.data.databases import Database
from arniqa_pl.data.splits import Split, Splits, find_splits
from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import Encoder, load_encoder
from arniqa_pl.quality import figures, report
from arniqa_pl.quality.correlation import MEASURES
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.manifold import principal_components
from arniqa_pl.quality.published import beside_published
from arniqa_pl.quality.regression import Array, Regression, reference_differences, regress, thin_splits
from arniqa_pl.quality.scorer import Scorer, ScoreScale
from arniqa_pl.tracking import RunLogger

log = logging.getLogger(__name__)

TRAINED, UNTRAINED = "pre-trained", "untrained"
PUBLISHED_ALPHAS = np.geomspace(1e-3, 1e3, 100)


@launch.entry("regress", lists=("checkpoint",))
def main(cfg: DictConfig) -> float:
    """Regress the databases on checkpoints' features; return the mean over databases of the median test SRCC."""
    lightning.seed_everything(cfg.seed, workers=True)
    launch.require_databases(cfg)
    databases = launch.build(cfg.databases)
    encoders = load_encoders(cfg.checkpoint)
    names = ", ".join(sorted({encoder.name for encoder in encoders.values()}))
    with runs.tracked_run(cfg, names) as logger:
        frame = regress_databases(encoders, databases, draw_database_splits(databases, cfg.ridge), cfg, logger)
    return float("nan") if frame is None else float(frame["srcc"].mean())


def load_encoders(checkpoint: str | ListConfig) -> dict[str, Encoder]:
    """Read the encoders of one checkpoint, of several, or of all runs of a sweep's folder; named if several."""
    given = [Path(str(each)) for each in (checkpoint if isinstance(checkpoint, ListConfig) else [checkpoint])]
    runs = list(dict.fromkeys(run for path in given for run in _runs_of_sweep(path) or [path]))
    if len(runs) == 1:
        return {TRAINED: load_encoder(runs[0])}
    shared = os.path.commonpath([run.absolute() for run in runs])
    return {os.path.relpath(run, shared): load_encoder(run) for run in runs}


def _runs_of_sweep(folder: Path) -> list[Path]:
    return sorted(file.parents[1] for file in folder.glob("*/checkpoints/best.ckpt"))


def draw_database_splits(databases: Mapping[str, Database], ridge: DictConfig) -> dict[str, Splits]:
    """Take the published or official splits of each database, or draw them; say which they are."""
    splits = {
        name: find_splits(database, count=ridge.num_splits, seed=ridge.split_seed, always_draw=ridge.always_draw)
        for name, database in databases.items()
    }
    for name, found in splits.items():
        log.info("%s: %d %s splits, digest %s", name, len(found), found.origin, found.digest)
    return splits


def regress_databases(
    encoders: Mapping[str, Encoder],
    databases: Mapping[str, Database],
    splits: Mapping[str, Splits],
    cfg: DictConfig,
    logger: RunLogger,
) -> pd.DataFrame | None:
    """Regress every database on every encoder's features, on all training references and on shares of them.

    All ranks extract the features; then the first one regresses, and writes scorers and tables into the run's folder,
    and all of it with the figures on the tracking server.

    Returns:
        The `report.results_frame`; None on the other ranks, whose work ends with the features.

    """
    Path(cfg.paths.run_dir).mkdir(parents=True, exist_ok=True)
    sides = _training_sides(databases, splits, cfg)
    if cfg.regression.full_reference:
        for database in databases.values():
            _check_references(database)
    features: dict[str, dict[str, tuple[Array, ...]]] = {name: {} for name in databases}
    for name, database in databases.items():
        for title, encoder in encoders.items():
            log.info("Features of %d images of %s, encoder %s", len(database.table), name, title)
            features[name][title] = database_features(encoder, database, cfg)
    return _regress_features(features, sides, encoders, databases, splits, cfg, logger)


@rank_zero_only
def _regress_features(
    features: Mapping[str, Mapping[str, tuple[Array, ...]]],
    sides: Mapping[float, Mapping[str, Sequence[Split]]],
    encoders: Mapping[str, Encoder],
    databases: Mapping[str, Database],
    splits: Mapping[str, Splits],
    cfg: DictConfig,
    logger: RunLogger,
) -> pd.DataFrame:
    """Regress on features that are there, keep everything, return the `report.results_frame`."""
    alphas = instantiate(cfg.ridge.alphas).tolist()
    results: dict[float, dict[str, dict[str, Regression]]] = {
        share: {name: {} for name in databases} for share in sides
    }
    for name, database in databases.items():
        _show_manifold(features[name][next(iter(encoders))][0], database, name, logger)
        for title in encoders:
            regressed_on = _joined(database, features[name][title], cfg)
            for share in sides:
                log.info("Ridge path of %s, encoder %s, on %g of the training references", name, title, share)
                results[share][name][title] = regress(
                    regressed_on,
                    database.scores,
                    sides[share][name],
                    alphas,
                    standardise=cfg.ridge.standardise,
                    per_crop=cfg.ridge.per_crop,
                    label="Ridge, splits",
                )
    comparable = {
        name: [title for title, encoder in encoders.items() if _as_published(title, encoder, splits[name], cfg)]
        for name in databases
    }
    frame = beside_published(report.results_frame(results[1.0]), databases, comparable)
    frame["split_origin"] = [splits[name].origin for name in frame["database"]]
    frame["split_digest"] = [splits[name].digest for name in frame["database"]]
    _keep(results, frame, encoders, databases, splits, cfg, logger)
    return frame


def _training_sides(
    databases: Mapping[str, Database], splits: Mapping[str, Splits], cfg: DictConfig
) -> dict[float, Mapping[str, Sequence[Split]]]:
    """Return the splits as they are (1.0), and with each smaller share of their training references."""
    asked = cfg.regression.train_fraction
    shares = [float(share) for share in (asked if isinstance(asked, ListConfig) else [asked])]
    whole: dict[float, Mapping[str, Sequence[Split]]] = {1.0: splits}
    return whole | {
        share: {
            name: thin_splits(
                splits[name], database.table["group"].tolist(), share, cfg.regression.repeats, cfg.ridge.split_seed
            )
            for name, database in databases.items()
        }
        for share in shares
        if share != 1
    }


def _check_references(database: Database) -> None:
    names = database.table["reference"].to_numpy(str)
    missing = [name for name in np.unique(names) if not (database.root / name).is_file()]
    if missing:
        found = "some without" if "" in missing else f"no file {database.root / missing[0]}"
        raise InputError(
            f"Wanted a reference of every image of {database.name} for regression.full_reference, found {found}: "
            "leave the switch out, or the database."
        )


def database_features(encoder: Encoder, database: Database, cfg: DictConfig) -> tuple[Array, ...]:
    """Return (N, K, 2·D) features of a database's images; of full reference, also its references' (R, K, 2·D)."""
    policy = {**cfg.features, "trainer": instantiate(cfg.trainer), "short_side": database.short_side}
    wanted = [database.paths]
    if cfg.regression.full_reference:
        wanted.append([database.root / name for name in np.unique(database.table["reference"].to_numpy(str))])
    return tuple(extract_features(encoder, paths, **policy) for paths in wanted)


def _joined(database: Database, features: tuple[Array, ...], cfg: DictConfig) -> Array:
    """Return what is regressed on (N, K, 2·D): features, or their difference from those of the references."""
    if not cfg.regression.full_reference:
        return features[0]
    images, references = features
    _, of_row = np.unique(database.table["reference"].to_numpy(str), return_inverse=True)
    return reference_differences(images, references, of_row, Path(cfg.features.cache_dir))


def _as_published(title: str, encoder: Encoder, splits: Splits, cfg: DictConfig) -> bool:
    """Tell whether an encoder was tested as the published ones were: their crops, ridge, penalties and splits."""
    five_crops = (cfg.features.crop_size, cfg.features.crops) == (224, 5)
    as_usual = (cfg.ridge.standardise, cfg.ridge.per_crop, cfg.regression.full_reference) == (False, True, False)
    penalties = np.array_equal(instantiate(cfg.ridge.alphas), PUBLISHED_ALPHAS)
    ten_splits = len(splits) == 10 or splits.origin == "official"
    return title != UNTRAINED and encoder.name == "resnet50" and five_crops and as_usual and penalties and ten_splits


def _show_manifold(features: Array, database: Database, name: str, logger: RunLogger) -> None:
    """Log a quick look at the feature space of the centre crop; `arniqa_pl.manifold` takes the time for a good one."""
    layouts = {dim: principal_components(np.asarray(features[:, 0]), dim) for dim in (2, 3)}
    figure = figures.manifold_figure(layouts, database.table, f"{database.name}, principal components of the features")
    logger.log_figure(figure, f"figures/{name}_manifold.png")


def _keep(
    results: Mapping[float, report.Results],
    frame: pd.DataFrame,
    encoders: Mapping[str, Encoder],
    databases: Mapping[str, Database],
    splits: Mapping[str, Splits],
    cfg: DictConfig,
    logger: RunLogger,
) -> None:
    """Write scorers and results into the run's folder and onto the tracking server, and print the table."""
    folder = Path(cfg.paths.run_dir)
    trained = [title for title in encoders if title != UNTRAINED]
    for name, database in databases.items():
        runs.log_dataset(logger, name, database.table, database.root, "regression")
        if cfg.regression.full_reference:
            log.info("No scorer of %s is kept: it would have no references at hand", name)
            continue
        for number, title in enumerate(trained):
            file = folder / (f"{name}.safetensors" if len(trained) == 1 else f"{name}_{number}.safetensors")
            _scorer(encoders[title], database, results[1.0][name][title], splits[name], cfg).save(file)
            logger.log_artifact(file, "scorers")
    tables = report.regression_tables(results, frame, databases, trained)
    for file in report.write_tables(folder, tables, report.regression_text(tables, databases)):
        logger.log_artifact(file)
    for name in tables:
        logger.log_table(tables[name], f"{report.file_stem(name, tables)}.json")
    description = f"{report.headline(frame)}\nAll of it on a page: Artifacts, report.html.\n\n"
    logger.set_tags({"mlflow.note.content": description + report.results_markdown(frame)})
    logger.log_metrics(_metrics(frame, trained))
    for title, figure in figures.regression_figures(results[1.0], tables, databases, trained[0]):
        logger.log_figure(figure, f"figures/{title}.png")
    for table in report.terminal_tables(tables):
        Console().print(table)
    log.info("Scorers and results: %s", folder)


def _metrics(frame: pd.DataFrame, trained: list[str]) -> dict[str, float]:
    """Return the medians as `test/<database>/<measure>`; of several checkpoints their mean, and each by its number."""
    stages = {UNTRAINED: "untrained"} | {title: f"checkpoint_{number}" for number, title in enumerate(trained)}
    if len(trained) == 1:
        stages[trained[0]] = "test"
    metrics = {
        f"{stages[row['encoder']]}/{row['database']}/{measure}": row[measure]
        for row in frame.to_dict("records")
        for measure in MEASURES
    }
    if len(trained) > 1:
        for row in report.checkpoints_frame(frame[frame["encoder"] != UNTRAINED]).to_dict("records"):
            metrics |= {f"test/{row['database']}/{measure}": row[f"{measure}_mean"] for measure in MEASURES}
            metrics |= {f"test/{row['database']}/{measure}_std": row[f"{measure}_std"] for measure in MEASURES}
    return metrics


def _scorer(encoder: Encoder, database: Database, result: Regression, splits: Splits, cfg: DictConfig) -> Scorer:
    return Scorer(
        encoder,
        result.weight,
        result.bias,
        scale=_scale(database, result, splits),
        crop_size=cfg.features.crop_size,
        crops=cfg.features.crops,
        short_side=database.short_side,
    )


def _scale(database: Database, result: Regression, splits: Splits) -> ScoreScale:
    return ScoreScale(
        database=database.name,
        higher_is_better=database.higher_is_better,
        nominal=database.score_range,
        seen=(float(database.scores.min()), float(database.scores.max())),
        alpha=result.alpha,
        srcc=float(np.median(result.srcc)),
        plcc=float(np.median(result.plcc)),
        splits=splits.digest,
    )


if __name__ == "__main__":
    main()
