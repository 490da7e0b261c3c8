"""Scores of any number of images in flat memory: while the network works on some, threads decode the next."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from arniqa_pl.data.sources import Content, Entry, read_content
from arniqa_pl.errors import InputError
from arniqa_pl.quality.scorer import Scorer


class Prepared(NamedTuple):
    """An image that is ready for the network, or the reason why it is not.

    Attributes:
        name: of its entry.
        size: (width, height) in pixels.
        crops: what each scorer's `prepare` made of it.
        error: empty if it could be read.

    """

    name: str
    size: tuple[int, int] | None
    crops: list[Tensor]
    error: str


def name_scorers(scorers: Mapping[str, Scorer]) -> dict[str, Scorer]:
    """Name scorers by the database they were fitted to; where several share it, by their files as well."""
    fitted = [scorer.scale.database for scorer in scorers.values()]
    shared = os.path.commonpath([Path(file).resolve().parent for file in scorers])
    return {
        scorer.scale.database
        if fitted.count(scorer.scale.database) == 1
        else f"{scorer.scale.database} ({os.path.relpath(Path(file).resolve().with_suffix(''), shared)})": scorer
        for file, scorer in scorers.items()
    }


def score_columns(names: Iterable[str]) -> list[str]:
    """Return the columns of the rows that `score_entries` yields: of one scorer without its name, of several with."""
    suffixes = _suffixes(list(names))
    scores = [f"{column}{suffix}" for suffix in suffixes for column in ("score", "quality", "spread")]
    return ["path", *scores, "width", "height", "error"]


def score_entries(
    scorers: Mapping[str, Scorer], entries: Iterable[Entry], *, batch_size: int, num_threads: int
) -> Iterator[list[dict[str, Any]]]:
    """Score images in their order, a batch at a time.

    Args:
        scorers: by name.
        entries: the images.
        batch_size: images of a batch.
        num_threads: that decode ahead of the network, one batch more than it works on.

    Yields:
        A row for each image of a batch, with the columns of `score_columns`: path; score in the database's scale;
        quality in [0, 1], higher is better; spread, the standard deviation of the scores of its crops, None if there
        is only one; width and height in pixels; error, empty or why it cannot be read, and then no numbers.

    """

    def prepare(name: str, content: Content) -> Prepared:
        return _prepare(name, content, scorers.values())

    images = _ahead(entries, prepare, num_threads, 2 * batch_size)
    while batch := list(islice(images, batch_size)):
        rows: list[dict[str, Any]] = [dict.fromkeys(score_columns(scorers)) for _ in batch]
        for row, image in zip(rows, batch, strict=True):
            width, height = image.size or (None, None)
            row.update(path=image.name, width=width, height=height, error=image.error)
        readable = [index for index, image in enumerate(batch) if not image.error]
        if readable:
            for number, (suffix, scorer) in enumerate(zip(_suffixes(list(scorers)), scorers.values(), strict=True)):
                crop_scores = scorer.prepared_scores([batch[index].crops[number] for index in readable]).cpu()
                for index, values in zip(readable, _numbers(scorer, crop_scores), strict=True):
                    rows[index].update({f"{column}{suffix}": value for column, value in values.items()})
        yield rows


def _suffixes(names: list[str]) -> list[str]:
    return [""] if len(names) == 1 else [f"_{name}" for name in names]


def _numbers(scorer: Scorer, crop_scores: Tensor) -> Iterator[dict[str, float | None]]:
    """Turn scores of crops (N, K) into numbers of six digits for each image."""
    scores = crop_scores.mean(dim=1)
    spreads = crop_scores.std(dim=1, correction=0)
    for score, quality, spread in zip(scores, scorer.to_quality(scores), spreads, strict=True):
        yield {
            "score": float(f"{float(score):.6g}"),
            "quality": float(f"{float(quality):.6g}"),
            "spread": float(f"{float(spread):.6g}") if crop_scores.shape[1] > 1 else None,
        }


def _prepare(name: str, content: Content, scorers: Iterable[Scorer]) -> Prepared:
    try:
        image = read_content(name, content)
        same: dict[Any, Tensor] = {}  # scorers of one policy look at the same crops
        crops = []
        for scorer in scorers:
            policy = (scorer.crops, scorer.crop_size, scorer.short_side)
            if policy not in same:
                same[policy] = scorer.prepare(image)
            crops.append(same[policy])
        return Prepared(name, image.size, crops, "")
    except InputError as error:
        return Prepared(name, None, [], str(error))


def _ahead(
    entries: Iterable[Entry], prepare: Callable[[str, Content], Prepared], num_threads: int, count: int
) -> Iterator[Prepared]:
    """Yield prepared entries in their order, while threads prepare up to count more."""
    pending: deque[Future[Prepared]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for entry in entries:
            try:
                pending.append(pool.submit(prepare, entry.name, entry.fetch()))
            except InputError as error:
                pending.append(Future())
                pending[-1].set_result(Prepared(entry.name, None, [], str(error)))
            if len(pending) >= count:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
