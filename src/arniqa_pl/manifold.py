"""python -m arniqa_pl.manifold checkpoint=<run or file> database=kadid10k: an encoder's feature space, in pictures."""

import logging
from collections.abc import Mapping
from pathlib import Path

import lightning
import numpy as np
import pandas as pd
from hydra.utils import instantiate
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console
from tqdm import tqdm

from arniqa_pl import launch, runs
from arniqa_pl.data.databases import Database
from arniqa_pl.errors import InputError
from arniqa_pl.models.encoder import load_encoder
from arniqa_pl.quality import report
from arniqa_pl.quality.features import extract_features
from arniqa_pl.quality.figures import image_caption, manifold_figure, picture_figure
from arniqa_pl.quality.manifold import METHODS, Array, embed, manifold_frame, manifold_page, nearest, require_packages
from arniqa_pl.tracking import RunLogger

log = logging.getLogger(__name__)


@launch.entry("manifold")
def main(cfg: DictConfig) -> None:
    """Embed each database's features, measure them, and find the images that are nearest to a given one."""
    if unknown := set(cfg.methods) - set(METHODS):
        raise InputError(f"Wanted methods out of {', '.join(METHODS)}, found {', '.join(sorted(unknown))}.")
    if cfg.methods:
        require_packages()
    if cfg.query is not None and not Path(str(cfg.query)).is_file():
        raise InputError(f"Wanted an image to find the nearest ones of, found no file {cfg.query}: name another query.")
    lightning.seed_everything(cfg.seed, workers=True)
    launch.require_databases(cfg)
    databases = launch.build(cfg.databases)
    encoder = load_encoder(str(cfg.checkpoint))
    with runs.tracked_run(cfg, encoder.name) as logger:
        for name, database in databases.items():
            log.info("Features of %d images of %s", len(database.table), name)
            policy = {**cfg.features, "trainer": instantiate(cfg.trainer), "short_side": database.short_side}
            features = _centre(extract_features(encoder, database.paths, **policy))
            paths = [] if cfg.query is None else [Path(str(cfg.query))]
            query = _centre(extract_features(encoder, paths, **policy))[0] if paths else None
            _keep(name, database, features, query, cfg, logger)


def _centre(features: Array) -> Array:
    """Return the centre crop's features (N, 2·D), which the published figures show."""
    return np.asarray(features[:, 0])


@rank_zero_only
def _keep(
    name: str, database: Database, features: Array, query: Array | None, cfg: DictConfig, logger: RunLogger
) -> None:
    """Write pictures and numbers of one database into the run's folder and onto the tracking server."""
    folder = Path(cfg.paths.run_dir) / name
    folder.mkdir(parents=True, exist_ok=True)
    runs.log_dataset(logger, name, database.table, database.root, "manifold")
    if query is not None:
        _write_nearest(Path(str(cfg.query)), query, database, features, cfg.neighbours, folder)
    if len(set(database.table["distortion"]) - {""}) > 1:
        logger.log_metrics(_write_numbers(name, database.table, features, folder))
    _write_pictures(database, features, cfg, folder)
    for file in sorted(folder.iterdir()):
        logger.log_artifact(file, name)
    log.info("Pictures and numbers: %s", folder)


def _write_nearest(path: Path, query: Array, database: Database, features: Array, count: int, folder: Path) -> None:
    others = np.flatnonzero([each.resolve() != path.resolve() for each in database.paths])
    places, similarity = nearest(query, features[others], count)
    rows = others[places]
    pictures = [(path, f"{path.name}\nthe query")]
    for row, cosine in zip(rows, similarity, strict=True):
        facts = database.table.iloc[row]
        caption = f"{image_caption(facts)}\nscore {facts['score']:.2f}, cosine {cosine:.3f}"
        pictures.append((database.paths[row], caption))
    figure = picture_figure(pictures, f"{database.name}: the images nearest to {path.name}, nearest first")
    figure.savefig(folder / "nearest.png")


def _write_numbers(name: str, table: pd.DataFrame, features: Array, folder: Path) -> Mapping[str, float]:
    """Write the numbers by type, print the last line, and return it as metrics."""
    numbers = manifold_frame(features, *(table[name].to_numpy() for name in ("distortion", "level", "group")))
    report.write_tables(folder, {"manifold": numbers}, report.sections(f"Manifold of {name}", {"By type": numbers}))
    Console().print(report.terminal_table(numbers.tail(1), f"{name}: the distortion manifold"))
    overall = numbers.iloc[-1]
    return {f"manifold/{name}/{key}": overall[key] for key in ("silhouette", "knn_accuracy", "level_correlation")}


def _write_pictures(database: Database, features: Array, cfg: DictConfig, folder: Path) -> None:
    steps = [(method, dim) for method in cfg.methods for dim in (2, 3)]
    layouts: dict[str, dict[int, Array]] = {method: {} for method in cfg.methods}
    for method, dim in tqdm(steps, desc="Embeddings", unit="embedding"):
        layouts[method][dim] = embed(features, method, dim, cfg.seed)
    for method, layout in layouts.items():
        title = f"{database.name}, {METHODS[method]}"
        manifold_figure(layout, database.table, title).savefig(folder / f"{method}.png", dpi=120)
        (folder / f"{method}.html").write_text(manifold_page(layout, database.table, title))


if __name__ == "__main__":
    main()
