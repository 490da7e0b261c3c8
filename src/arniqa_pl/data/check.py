"""What a database's folder holds against what it should hold."""

import hashlib
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.table import Table
from tqdm import tqdm

from arniqa_pl.data.databases import Database
from arniqa_pl.data.images import read_image
from arniqa_pl.data.splits import find_splits
from arniqa_pl.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        found: how it is.
        wanted: how it should be, "" where nothing is to be expected.
        fault: what is wrong with it and what to do, "" if nothing is.
        excused: the fault is there on purpose.

    """

    what: str
    found: str
    wanted: str = ""
    fault: str = ""
    excused: bool = False


def check_database(database: Database, *, decode: bool, excerpt: bool) -> list[Finding]:
    """Look at everything that a regression relies on, and do not stop at the first fault.

    Args:
        database: as read; images may be missing.
        decode: also decode every image, with all cores, and look for images that are the same file twice.
        excerpt: the folder holds a part of the release on purpose: counts that differ from it are excused.

    """
    findings = [
        *_counts(database, excerpt),
        _scores(database),
        _images("images", database, database.table["image"]),
        _images("reference images", database, database.table["reference"]),
        _named_twice(database),
        _splits(database, excerpt),
    ]
    return findings + (_decoded(database) if decode else [])


def require_sound(database: Database) -> None:
    """Refuse a database in which a fault of its table would falsify every figure; say if it is a part of its release.

    Raises:
        InputError: scores are on another scale, or an image has several rows; joins what is wrong.

    """
    faults = [finding.fault for finding in (_scores(database), _named_twice(database)) if finding.fault]
    if faults:
        told = " ".join(faults)
        raise InputError(f"Wanted {database.name} in {database.root} without a fault, found {len(faults)}. {told}")
    parts = [f"{each.found} of {each.wanted} {each.what}" for each in _counts(database, excerpt=True) if each.fault]
    if parts:
        log.info(
            "%s is a part of its release, no published number stands beside it: %s", database.name, ", ".join(parts)
        )


def findings_table(title: str, findings: Sequence[Finding]) -> Table:
    """Lay findings out for a terminal."""
    table = Table(title=title, title_justify="left")
    for column in ("", "found", "wanted", ""):
        table.add_column(column)
    for finding in findings:
        verdict = "" if not finding.fault else "excused" if finding.excused else "wrong"
        table.add_row(finding.what, finding.found, finding.wanted, verdict)
    return table


def _counts(database: Database, excerpt: bool) -> list[Finding]:
    """Compare rows, references, types and levels with the release's."""
    table, release = database.table, database.release
    references = table.loc[table["reference"] != "", "group"].nunique()
    types = table.loc[table["distortion"] != "", "distortion"].nunique()
    levels = table.loc[table["level"] > 0, "level"].nunique()
    counts = {"rows": f"{len(table):,}", "references": str(references), "types × levels": f"{types} × {levels}"}
    if release is None:
        return [Finding(what, found) for what, found in counts.items()]
    wanted = (f"{release.rows:,}", str(release.references), f"{release.types} × {release.levels}")
    return [
        Finding(what, found, want, _difference(what, found, want, "" if excerpt else release.url), excused=excerpt)
        for (what, found), want in zip(counts.items(), wanted, strict=True)
    ]


def _difference(what: str, found: str, wanted: str, url: str) -> str:
    remedy = f" Restore the score file from {url}." if url else ""
    return "" if found == wanted else f"{what}: wanted {wanted}, found {found}.{remedy}"


def _scores(database: Database) -> Finding:
    """Compare the range of the scores with the nominal one and with the release's, which may leave it."""
    low, high = database.scores.min(), database.scores.max()
    release = database.release
    seen = release.seen if release and release.seen else database.score_range
    bounds = min(seen[0], database.score_range[0]), max(seen[1], database.score_range[1])
    wanted = f"{bounds[0]:g} to {bounds[1]:g}"
    kind = "MOS, higher is better" if database.higher_is_better else "DMOS, lower is better"
    fault = ""
    whole = release is not None and release.seen is not None and len(database.table) == release.rows
    squeezed = whole and high - low < (seen[1] - seen[0]) / 4  # a part may lack the ends of the scale
    if low < bounds[0] or high > bounds[1] or squeezed:
        fault = (
            f"scores: wanted {wanted}, found {low:g} to {high:g}. They are on another scale: restore the score file, "
            "or, for a table of your own, correct its score_range."
        )
    return Finding(f"scores ({kind})", f"{low:g} to {high:g}", wanted, fault)


def _images(what: str, database: Database, images: "pd.Series[str]") -> Finding:
    """Look for the files of a column of the table."""
    named = [database.root / image for image in images.unique() if image]
    missing = [path for path in named if not path.is_file()]
    fault = ""
    if missing:
        fault = (
            f"{what}: {len(missing)} of {len(named)} are missing, the first is {missing[0]}{_variants(missing[0])}. "
            f"{database.remedy}"
        )
    return Finding(what, f"{len(named) - len(missing):,}", f"{len(named):,}", fault)


def _variants(path: Path) -> str:
    """Say which files stand where one is missing because only the letter case tells them apart."""
    if not path.parent.is_dir():
        return ""
    names = sorted(each.name for each in path.parent.iterdir() if each.name.casefold() == path.name.casefold())
    return f" (which of {', '.join(names)} is meant? Keep one)" if names else ""


def _named_twice(database: Database) -> Finding:
    repeated = database.table.loc[database.table["image"].duplicated(), "image"]
    fault = ""
    if len(repeated):
        fault = (
            f"rows of the same image: {len(repeated)}, the first is {repeated.iloc[0]}. Keep one row for each image."
        )
    return Finding("rows of the same image", str(len(repeated)), "0", fault)


def _splits(database: Database, excerpt: bool) -> Finding:
    """Read the splits that the database brings, which proves them, and compare the size of their largest sides."""
    sizes = database.release.split_sizes if database.release else None
    wanted = f"published, at most {_sides(sizes)}" if sizes else ""
    try:
        splits = find_splits(database, count=10, seed=0, always_draw=False)
    except InputError as error:
        return Finding("splits", "unusable", wanted, f"splits: {error}")
    if splits.origin == "drawn":
        return Finding("splits", "none: they are drawn", wanted)
    largest = tuple(max(map(len, side)) for side in zip(*((s.train, s.val, s.test) for s in splits), strict=True))
    fault = ""
    if splits.origin == "published" and sizes and sizes != largest:
        fault = (
            f"splits: wanted sides as large as {_sides(sizes)}, found {_sides(largest)}. The tables in splits/ are "
            "another database's: restore them."
        )
    return Finding("splits", f"{len(splits)} {splits.origin}, at most {_sides(largest)}", wanted, fault, excerpt)


def _sides(sizes: tuple[int, ...]) -> str:
    return f"{'/'.join(map(str, sizes))} rows"


def _decoded(database: Database) -> list[Finding]:
    """Decode every image, and compare their files' bytes."""
    there = database.table.drop_duplicates("image")
    there = there[[(database.root / image).is_file() for image in there["image"]]]
    paths = [database.root / image for image in there["image"]]
    with ThreadPoolExecutor() as pool:
        bar = tqdm(pool.map(_decode, paths), total=len(paths), desc=f"Decoding {database.name}", unit="image")
        errors, digests = zip(*bar, strict=True) if paths else ((), ())
    broken = [error for error in errors if error]
    read = there.assign(digest=digests).query("digest != ''")
    same = read.groupby("digest").filter(lambda files: files["group"].nunique() > 1)
    fault = ""
    if broken:
        fault = "\n".join([f"unreadable images: {len(broken)}. Restore them; the first are:", *broken[:20]])
    twin_fault = ""
    if len(same):
        twins = same.loc[same["digest"] == same["digest"].iloc[0], "image"]
        twin_fault = (
            f"same file in two groups: {len(same)} images, the first are {', '.join(twins)}. A split may put them on "
            "two sides: keep one, or give them one group."
        )
    return [
        Finding("unreadable images", str(len(broken)), "0", fault),
        Finding("same file in two groups", str(len(same)), "0", twin_fault),
    ]


def _decode(path: Path) -> tuple[str, str]:
    """Return what is wrong with an image, or "", and the hash of its file, "" if it cannot be read."""
    digest = ""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        read_image(path)
    except (InputError, OSError) as error:
        return str(error), digest
    return "", digest
