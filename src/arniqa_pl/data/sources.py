"""Images one after the other, whatever holds them: a folder, a list, an archive, a video."""

import csv
import glob
import io
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from arniqa_pl.data.images import DECODING_ERRORS, IMAGE_SUFFIXES, read_image, walk_images
from arniqa_pl.errors import InputError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".webm"})
MAX_MEMBER_BYTES = 2**28  # of a file in an archive: what is larger is no photograph, or a bomb
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

_ARCHIVE_ERRORS = (zipfile.BadZipFile, tarfile.TarError, zlib.error)

Content = Path | bytes | Image.Image


class Entry(NamedTuple):
    """An image that has not been read yet.

    Attributes:
        name: its path; of what is in an archive or a video, the path of that and the member's or frame's behind it.
        fetch: returns its content, undecoded except from a video; to be called before the next entry is asked for.

    """

    name: str
    fetch: Callable[[], Content]


@dataclass(frozen=True)
class Source:
    """Images to go through.

    Attributes:
        entries: starts from the first.
        count: how many there are; None: nobody knows before the end.

    """

    entries: Callable[[], Iterator[Entry]]
    count: int | None


def find_source(given: str, *, column: str, every: int) -> Source:
    """Return the images of a source, in an order that does not depend on the machine.

    Nothing is read before it is needed, and nothing of an archive is extracted.

    Args:
        given: an image; a folder, searched recursively and sorted; a pattern with * or **; a text file with a path
            on each line, or a .csv with them in a column, both relative to the file's own folder; a .zip or .tar; or
            a video.
        column: of a .csv.
        every: of a video, every n-th frame.

    Raises:
        InputError: there is no such source, or no image in it.

    """
    source = _source(given, column, every)
    if source.count == 0:
        raise InputError(
            f"Wanted images to score in {given}, found none: name an image, or a folder, list, archive or video that "
            "holds some."
        )
    return source


def _source(given: str, column: str, every: int) -> Source:
    path = Path(given)
    if path.is_dir():
        return _counted(lambda: (_file(path / name) for name in walk_images(path)))
    if not path.is_file():
        found = sorted(glob.iglob(given, recursive=True))  # noqa: PTH207  Path.glob takes no absolute pattern
        return _counted(lambda: (_file(Path(each)) for each in found if Path(each).suffix.lower() in IMAGE_SUFFIXES))
    suffix = path.suffix.lower()
    if suffix == ".zip":
        return Source(lambda: _zipped(path), _count_zipped(path))
    if path.name.lower().endswith(_TAR_SUFFIXES):
        return Source(lambda: _tarred(path), None)
    if suffix == ".csv":
        return _counted(lambda: (_file(path.parent / name) for name in _column(path, column)))
    if suffix == ".txt":
        return _counted(lambda: (_file(path.parent / name) for name in _lines(path)))
    if suffix in VIDEO_SUFFIXES:
        return Source(lambda: _frames(path, every), None)
    return _counted(lambda: iter([_file(path)]))


def read_content(name: str, content: Content) -> Image.Image:
    """Decode an entry's content as `read_image` does."""
    if isinstance(content, Image.Image):
        return content
    return read_image(io.BytesIO(content) if isinstance(content, bytes) else content, name)


def reopen(names: set[str]) -> Iterator[tuple[str, Image.Image]]:
    """Yield images by the names that their entries had, in no order; archives and videos are gone through once."""
    holders: dict[Path, set[str]] = {}
    for name in names:
        holder = next((each for each in (Path(name), *Path(name).parents) if each.is_file()), None)
        if holder is not None:
            holders.setdefault(holder, set()).add(name)
    for holder, wanted in holders.items():
        for entry in _source(str(holder), "", 1).entries():
            if entry.name in wanted:
                yield entry.name, read_content(entry.name, entry.fetch())


def _counted(entries: Callable[[], Iterator[Entry]]) -> Source:
    return Source(entries, sum(1 for _ in entries()))


def _file(path: Path) -> Entry:
    return Entry(str(path), lambda: path)


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8", errors="surrogateescape") as stream:
        yield from (line.rstrip("\n") for line in stream if line.strip())


def _column(file: Path, column: str) -> Iterator[str]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        rows = csv.DictReader(stream)
        if column not in (rows.fieldnames or ()):
            raise InputError(
                f"Wanted the column {column!r} of paths in {file}, found {', '.join(rows.fieldnames or ())}: name the "
                "right one, column=<name>."
            )
        yield from (row[column] or "" for row in rows)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def _count_zipped(file: Path) -> int:
    try:
        with zipfile.ZipFile(file) as archive:
            return sum(map(_is_image, archive.namelist()))
    except zipfile.BadZipFile as error:
        raise InputError(f"Wanted a zip archive in {file}, it is damaged: {error}") from error


def _zipped(file: Path) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            if _is_image(member):
                name = f"{file}/{member}"
                yield Entry(name, partial(_limited, partial(archive.open, member), name))


def _tarred(file: Path) -> Iterator[Entry]:
    try:
        with tarfile.open(file) as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or it would remember every member
                if member.isfile() and _is_image(member.name):
                    name = f"{file}/{member.name}"
                    yield Entry(name, partial(_limited, partial(archive.extractfile, member), name))
    except (*_ARCHIVE_ERRORS, EOFError, OSError) as error:
        raise InputError(f"Wanted a tar archive in {file}, it is damaged: {error}") from error


def _limited(opener: Callable[[], Any], name: str) -> bytes:
    """Read a member of an archive, up to a number of bytes, whatever the archive says of its size."""
    try:
        with closing(opener()) as stream:
            content: bytes = stream.read(MAX_MEMBER_BYTES + 1)
    except (*DECODING_ERRORS, *_ARCHIVE_ERRORS) as error:
        raise InputError(f"Wanted an image, could not read {name}: {error}") from error
    if len(content) > MAX_MEMBER_BYTES:
        raise InputError(f"Wanted an image of up to {MAX_MEMBER_BYTES} bytes, {name} has more.")
    return content


def _frames(file: Path, every: int) -> Iterator[Entry]:
    try:
        import av
    except ImportError as error:
        raise InputError(f"Wanted PyAV for the video {file}: pip install 'arniqa_pl[video]'.") from error
    try:
        with av.open(str(file)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number % every == 0:
                    yield Entry(f"{file}/{number:06d}", frame.to_image)
    except (av.FFmpegError, IndexError) as error:  # IndexError: no pictures in it
        raise InputError(f"Wanted a video in {file}, could not decode it: {error}") from error
