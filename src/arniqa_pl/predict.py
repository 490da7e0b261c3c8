"""python -m arniqa_pl.predict scorer=<file> input=<folder> output=scores.csv: a row for each image.

python -m arniqa_pl.predict summary input=scores.csv: how the scores are distributed, and a sheet of the worst images.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, ListConfig

from arniqa_pl import launch
from arniqa_pl.errors import InputError

if TYPE_CHECKING:  # what computes is imported once the command line is understood: PyTorch takes seconds
    from arniqa_pl.quality.scorer import Scorer

log = logging.getLogger(__name__)


@launch.entry("predict", lists=("scorer",))
def score(cfg: DictConfig) -> None:
    """Score every image that has no row yet, and write path, score, quality and the rest a batch at a time."""
    from tqdm import tqdm

    from arniqa_pl.data.sources import find_source
    from arniqa_pl.quality.score_table import ScoreTable
    from arniqa_pl.quality.scoring import score_columns, score_entries
    from arniqa_pl.quality.tally import Tally

    source = find_source(str(cfg.input), column=cfg.column, every=cfg.every)
    scorers, facts = load_scorers(cfg)
    output = Path(str(cfg.output))
    table = ScoreTable(output, score_columns(scorers), facts, overwrite=cfg.overwrite)
    if table.finished:
        log.info("All scores are there already: %s", output)
        return
    tally = Tally(scorers)
    entries = source.entries()
    for row in table.rows():
        entry = next(entries, None)
        if entry is None or entry.name != row["path"]:
            raise InputError(
                f"Wanted to continue {output}, its row {tally.count + 1} is {row['path']}, but the input has "
                f"{entry.name if entry else 'no more images'} there: name another output, or overwrite=true."
            )
        tally.add(row)
    if tally.count:
        log.info("Continuing %s after %d images", output, tally.count)
    with tqdm(total=source.count, initial=tally.count, desc="Scoring", unit="image") as progress:
        for rows in score_entries(scorers, entries, batch_size=cfg.batch_size, num_threads=cfg.num_threads):
            table.append(rows)
            for row in rows:
                tally.add(row)
            progress.update(len(rows))
    table.finish()
    log.info("%d images on the scale of %s: %s", tally.count - tally.errors, ", ".join(scorers), output)
    for line in tally.agreement():
        log.info(line)
    if tally.errors:
        raise InputError(
            f"Wanted {tally.count} images, could not read {tally.errors}: see the column error in {output}."
        )


def load_scorers(cfg: DictConfig) -> tuple[dict[str, "Scorer"], dict[str, Any]]:
    """Load the scorers by name, and tell what scores depend on, so that rows are not continued by others."""
    import hashlib

    from arniqa_pl.quality.scorer import Scorer
    from arniqa_pl.quality.scorer_file import find_scorer
    from arniqa_pl.quality.scoring import name_scorers

    given = [str(each) for each in (cfg.scorer if isinstance(cfg.scorer, ListConfig) else [cfg.scorer])]
    files = {str(find_scorer(each)): each for each in given}
    options = {"device": cfg.device, "precision": cfg.precision, "crops": cfg.crops}
    scorers = {file: Scorer.load(file, **options) for file in files}
    facts = [
        {
            "scorer": files[file],
            "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
            "database": scorer.scale.database,
            "higher_is_better": scorer.scale.higher_is_better,
            "seen": list(scorer.scale.seen),
            "crops": scorer.crops,
            "crop_size": scorer.crop_size,
            "short_side": scorer.short_side,
        }
        for file, scorer in scorers.items()
    ]
    return name_scorers(scorers), {"input": str(cfg.input), "precision": cfg.precision, "scorers": facts}


@launch.entry("predict_summary")
def summary(cfg: DictConfig) -> None:
    """Print how the scores of a table are distributed, and write a sheet of the worst images."""
    from rich.console import Console

    from arniqa_pl.quality import score_summary

    frame = score_summary.read_scores(Path(str(cfg.input)))
    for table in score_summary.distribution_tables(frame):
        Console().print(table)
    sheet = Path(cfg.output or Path(str(cfg.input)).with_suffix(".worst.jpg"))
    shown = score_summary.write_sheet(frame, sheet, worst=cfg.worst, column=cfg.by)
    log.info("The %d worst of %d images: %s", shown, len(frame), sheet)


VERBS = {"score": score, "summary": summary}


def main() -> None:
    """Run the verb that the command line names."""
    launch.run_verb(VERBS)


if __name__ == "__main__":
    main()
