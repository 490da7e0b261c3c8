"""Photographs packed into few large files, for corpora that live in an object store. Needs the extra `streaming`."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from PIL import Image
from tqdm import tqdm

from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import PhotoFiles
from arniqa_pl.errors import InputError, writing

_FORMAT = ["bytes", "bytes"]  # of an item: name, content of the file
_INDEX = "index.json"  # written last: a folder without it holds no shards
_UNFINISHED = "unfinished"  # a file that lies beside the shards until all are written
_NOTE = "python -m arniqa_pl.prepare shards is at work in this folder, or was stopped: then it starts afresh here.\n"
_REMEDY = "copy them again from where they are whole, or pack the photographs into a new folder: prepare shards."


def write_shards(photos: PhotoFiles, output: str, *, shard_bytes: int) -> None:
    """Pack photographs, in their order and as they are: not a pixel changes, and nothing is decoded.

    So a damaged photograph stays damaged in its shard: find those first, with `prepare photos`. Whoever stops before
    the end leaves no shards that could be read; the same command then starts afresh. (In an object store what was
    uploaded has to be removed by hand.)

    Args:
        photos: the files.
        output: a new or empty folder, or a URI that litdata writes to (s3://, gs://, r2://).
        shard_bytes: largest size of a shard, in bytes.

    Raises:
        InputError: a photograph cannot be read; the folder holds something already, or cannot be written; or litdata
            is not installed.

    """
    _litdata()
    if "://" in output:
        _upload_shards(photos, output.rstrip("/"), shard_bytes)
        return
    folder = _new_folder(output)
    _require_readable(photos)
    with writing(folder):
        (folder / _UNFINISHED).write_text(_NOTE)
    for _ in _pack(photos, folder, shard_bytes):
        pass
    (folder / _UNFINISHED).unlink()


def _upload_shards(photos: PhotoFiles, uri: str, shard_bytes: int) -> None:
    from litdata.streaming.fs_provider import _get_fs_provider

    if not urlsplit(uri).path.strip("/"):
        raise InputError(f"Wanted a folder within the store, got {uri}: add its name, output={uri}/<folder>.")
    try:
        store = _get_fs_provider(uri)
    except (ValueError, ModuleNotFoundError) as error:
        raise InputError(f"Wanted a folder, or a URI that litdata writes to, could not use {uri}: {error}") from error
    if not store.is_empty(f"{uri}/"):
        raise InputError(f"Wanted a new place for shards, {uri} holds something: name another one, output=<URI>.")
    _require_readable(photos)
    with TemporaryDirectory() as folder:
        for file in _pack(photos, Path(folder), shard_bytes):
            store.upload_file(str(file), f"{uri}/{file.name}")
            file.unlink()  # the disk need not hold more than two


def _new_folder(output: str) -> Path:
    """Return a folder that holds nothing, or what a packing left that did not come to its end; that is removed."""
    folder = Path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in folder.iterdir()}
        if found and (_UNFINISHED not in found or _INDEX in found):
            raise InputError(
                f"Wanted a new or empty folder for shards, {output} holds {len(found)} files or folders: name another "
                "one, output=<folder>, or empty it."
            )
        for shard in folder.glob("chunk-*.bin"):
            shard.unlink()
    except OSError as error:
        raise InputError(
            f"Wanted a folder for shards, could not use {output}: {error.strerror}. Name another one, output=<folder>."
        ) from error
    return folder


def _require_readable(photos: PhotoFiles) -> None:
    errors = []
    for path in tqdm([photos.path(index) for index in range(len(photos))], desc="Opening", unit="photo"):
        try:
            path.open("rb").close()
        except OSError as error:
            errors.append(f"{path}: {error.strerror}")
    if errors:
        raise InputError(
            f"Wanted {len(photos)} photographs, {len(errors)} cannot be read, the first is {errors[0]}. Restore them, "
            "or have python -m arniqa_pl.prepare photos list the others."
        )


def _pack(photos: PhotoFiles, folder: Path, shard_bytes: int) -> Iterator[Path]:
    """Write shards and yield each as soon as it is whole, the index last.

    Not by litdata.optimize: its processes outlive a failure, it ends Ctrl-C with success, and it deletes what it finds
    in the folder. Copying bytes is no work to share.
    """
    from litdata.streaming.writer import BinaryWriter

    with writing(folder):
        writer = BinaryWriter(str(folder), chunk_bytes=shard_bytes)
        for index in tqdm(range(len(photos)), desc="Packing", unit="photo"):
            if shard := writer.add_item(index, (photos.name(index).encode(), _content(photos.path(index)))):
                yield Path(shard)
        yield from map(Path, writer.done())
        writer._merge_no_wait()  # merge would wait for as many writers as WORLD_SIZE says
        yield folder / _INDEX


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            f"Wanted the photograph {path}, could not read it any more: {error.strerror}. Restore it, and run the "
            "command again."
        ) from error


class PhotoShards:
    """Photographs in shards that `write_shards` wrote, read one at a time, in any order.

    So each sample remains a function of its numbers alone, on any number of workers and ranks, and a run sees the same
    pixels from shards as from the files. The price: from an object store every photograph is two range requests (its
    place, then its bytes), nothing is kept on disk, and two photographs are read for a pair. At 30 ms a request a
    worker gets at most 8 pairs per second, however fast it decodes: give it as many workers as that takes. (S3 and R2
    are read by range; of other stores litdata keeps whole shards in its cache.)

    Args:
        source: the folder, or the URI.

    Raises:
        InputError: no shards of photographs are there; their index is damaged; a shard in a folder is missing or not
            whole; or litdata is not installed.

    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._opened: Any = None  # by each process for itself
        local = "://" not in source
        if local and not (Path(source) / _INDEX).is_file():
            raise InputError(
                f"Wanted shards of photographs in {source}, found no index.json there: write them with "
                f"python -m arniqa_pl.prepare shards input=<folder> output={source}."
            )
        litdata = _litdata()
        try:
            # Of a URI, the folder where litdata keeps its index.
            folder = Path(source if local else litdata.StreamingDataset(source).input_dir.path)
            index = json.loads((folder / _INDEX).read_bytes())
            found = index["config"]["data_format"]
            self._shards = [
                (str(each["filename"]), int(each["chunk_bytes"]), int(each["chunk_size"])) for each in index["chunks"]
            ]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(
                f"Wanted shards of photographs in {source}, could not read their index.json ({error!r}): {_REMEDY}"
            ) from error
        # Any other format could make litdata unpickle what it reads.
        if found != _FORMAT:
            raise InputError(
                f"Wanted shards of photographs in {source}, found items of {found}: "
                "write them with python -m arniqa_pl.prepare shards."
            )
        if local:
            self._require_whole(folder)

    def _require_whole(self, folder: Path) -> None:
        """Compare the sizes of the files with the index: litdata would wait for what is missing, amid a training."""
        damaged = []
        for name, wanted, _ in self._shards:
            try:
                with (folder / name).open("rb") as shard:
                    found = os.fstat(shard.fileno()).st_size
            except OSError as error:
                damaged.append(f"{name}: {error.strerror}")
            else:
                if found != wanted:
                    damaged.append(f"{name}: {found} of {wanted} bytes")
        if damaged:
            raise InputError(
                f"Wanted {len(self._shards)} whole shards in {folder}, {len(damaged)} are not, the first is "
                f"{damaged[0]}: {_REMEDY}"
            )

    def __len__(self) -> int:
        return sum(size for *_, size in self._shards)

    def __getitem__(self, index: int) -> Image.Image:
        if self._opened is None:
            self._opened = _litdata().StreamingDataset(self.source)
        name, content = self._opened[index]
        return read_image(io.BytesIO(content), f"{bytes(name).decode()} in {self.source}")

    def table(self) -> pd.DataFrame:
        """Return a row for each shard instead of each photograph, with the columns image and bytes."""
        return pd.DataFrame(self._shards, columns=["image", "bytes", "photos"])


def _litdata() -> Any:
    try:
        import litdata  # takes a second, and only those who stream need it
    except ImportError as error:
        raise InputError(
            "Wanted litdata for shards, it is not installed: pip install 'arniqa_pl[streaming]'."
        ) from error
    return litdata
