"""Photographs packed into few large files, for corpora that live in an object store. Needs the extra `streaming`."""

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from arniqa_pl.data.images import read_image
from arniqa_pl.data.pristine import PhotoFiles
from arniqa_pl.errors import InputError

_FORMAT = ["bytes", "bytes"]  # of an item: name, content of the file


def write_shards(photos: PhotoFiles, output: str, *, shard_bytes: int, num_workers: int) -> None:
    """Pack photographs, in their order and as they are: not a pixel changes.

    Args:
        photos: the files.
        output: a new folder, or a URI that litdata writes to (s3://, gs://, r2://).
        shard_bytes: largest size of a shard, in bytes.
        num_workers: processes.

    Raises:
        InputError: the folder holds shards already, or litdata is not installed.

    """
    litdata = _litdata()
    if (Path(output) / "index.json").exists():
        raise InputError(f"Wanted a new folder for shards, {output} holds some: name another one, output=<folder>.")
    litdata.optimize(
        _read,
        [(photos.name(index), str(photos.path(index))) for index in range(len(photos))],
        output_dir=output,
        chunk_bytes=shard_bytes,
        num_workers=num_workers,
        # Shards must hold the photographs in their order: sample i of a run is then the same as from the files.
        reorder_files=False,
        keep_data_ordered=True,
        start_method="fork",
        verbose=False,
    )


def _read(photo: tuple[str, str]) -> tuple[bytes, bytes]:
    name, path = photo
    return name.encode(), Path(path).read_bytes()


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
        InputError: no shards of photographs are there, or litdata is not installed.

    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._opened: Any = None  # by each process for itself
        if "://" not in source and not (Path(source) / "index.json").is_file():
            raise InputError(
                f"Wanted shards of photographs in {source}, found no index.json there: write them with "
                f"python -m arniqa_pl.prepare shards input=<folder> output={source}."
            )
        folder = Path(_litdata().StreamingDataset(source).input_dir.path)  # of a URI, where litdata keeps its index
        index = json.loads((folder / "index.json").read_text())
        # Any other format could make litdata unpickle what it reads.
        if index["config"]["data_format"] != _FORMAT:
            raise InputError(
                f"Wanted shards of photographs in {source}, found items of {index['config']['data_format']}: "
                "write them with python -m arniqa_pl.prepare shards."
            )
        self._shards = [(each["filename"], each["chunk_bytes"], each["chunk_size"]) for each in index["chunks"]]

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
