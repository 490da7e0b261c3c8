"""python -m arniqa_pl.predict scorer=<file> input=<folder or image> output=scores.csv: a row for each image."""

import csv
import logging
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from arniqa_pl import launch
from arniqa_pl.data.images import list_images, read_image
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import Scorer

log = logging.getLogger(__name__)


@launch.entry("predict")
def main(cfg: DictConfig) -> None:
    """Score every image, and write path, score (in the database's scale) and quality (0 to 1, higher is better)."""
    scorer = Scorer.load(str(cfg.scorer))
    paths = find_images(Path(str(cfg.input)))
    output = Path(str(cfg.output))
    output.parent.mkdir(parents=True, exist_ok=True)
    unreadable = 0
    with (
        output.open("w", newline="") as stream,
        tqdm(total=len(paths), desc="Scoring", unit="image") as progress,
    ):
        writer = csv.writer(stream)
        writer.writerow(("path", "score", "quality", "error"))
        for start in range(0, len(paths), cfg.batch_size):
            rows = score_rows(scorer, paths[start : start + cfg.batch_size])
            writer.writerows(rows)
            unreadable += sum(bool(error) for *_, error in rows)
            progress.update(len(rows))
    log.info("%d images on the scale of %s: %s", len(paths) - unreadable, scorer.scale.database, output)
    if unreadable:
        raise InputError(f"Wanted {len(paths)} images, could not read {unreadable}: see the column error in {output}.")


def find_images(source: Path) -> list[Path]:
    """Return the images of a folder, or the one that is named."""
    paths = [source / path for path in list_images(source)] if source.is_dir() else [source]
    if not paths or not paths[0].is_file():
        raise InputError(f"Wanted images to score in {source}, found none: name an image, or a folder that holds some.")
    return paths


def score_rows(scorer: Scorer, paths: list[Path]) -> list[tuple[str, str, str, str]]:
    """Return (path, score, quality, error) of each image; an unreadable one costs its own row only."""
    images, errors = [], {}
    for path in paths:
        try:
            images.append(read_image(path))
        except InputError as error:
            errors[path] = str(error)
    scores = scorer.score(images, batch_size=len(paths))
    scored = zip(scores.tolist(), scorer.to_quality(scores).tolist(), strict=True)
    rows = []
    for path in paths:
        score, quality = ("", "") if path in errors else (f"{value:.4f}" for value in next(scored))
        rows.append((str(path), score, quality, errors.get(path, "")))
    return rows


if __name__ == "__main__":
    main()
