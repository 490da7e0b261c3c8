"""Where the pristine photographs are that pre-training learns from."""

import codecs
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from PIL import Image

from arniqa_pl.data.images import list_images, read_image
from arniqa_pl.errors import InputError


class Photos(Protocol):
    """Photographs in a fixed order, decoded one at a time, by any process.

    Attributes:
        source: where they come from, for the record of a run.

    """

    source: str

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Return photograph `index` in RGB; raise an InputError that names it if it cannot be decoded."""
        ...

    def table(self) -> pd.DataFrame:
        """Return the columns image (a name that is the same on every machine) and bytes, for the record of a run."""
        ...


class PhotoFiles:
    """Photographs in image files.

    Args:
        paths: the files.
        names: what to call them, the same on every machine.
        source: where they come from.

    """

    def __init__(self, paths: Sequence[Path], names: Sequence[str], source: str) -> None:
        # Arrays of bytes: looping over a list of objects would copy its memory into every loader process.
        self._paths = np.array([os.fsencode(path) for path in paths])
        self._names = np.array([name.encode(errors="surrogateescape") for name in names])
        self.source = source

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self.path(index))

    def path(self, index: int) -> Path:
        """Return the file of a photograph."""
        return Path(os.fsdecode(self._paths[index]))

    def name(self, index: int) -> str:
        """Return what to call a photograph: the same on every machine."""
        return self._names[index].decode(errors="replace")

    def table(self) -> pd.DataFrame:
        """Return the columns image and bytes; a file that is not there has -1."""
        rows = [(self.name(index), self.path(index)) for index in range(len(self))]
        return pd.DataFrame(
            [(name, path.stat().st_size if path.exists() else -1) for name, path in rows], columns=["image", "bytes"]
        )


def find_photos(source: str | Sequence[str]) -> PhotoFiles:
    """Find pristine photographs for pre-training, in an order that does not depend on the machine.

    Args:
        source: a folder, searched recursively and sorted by path within it; or several, one after the other; or a text
            file with a path on each line, relative to its own folder, in its own order.

    Raises:
        InputError: there are none, or a file that the list names is not there.

    """
    sources = [source] if isinstance(source, str) else list(source)
    files: list[tuple[Path, str]] = []
    for each in map(Path, sources):
        found = _listed(each) if each.is_file() else [str(path) for path in list_images(each)]
        root = each.parent if each.is_file() else each
        if not found:
            raise InputError(
                f"Wanted pristine photographs for pre-training in {each.resolve()}, found none. Put the ref_imgs of "
                "KADIS-700k there (https://database.mmsp-kn.de/kadis-700k-database.html), or name photographs of your "
                "own, a folder, [several] or a text file of paths: photos.source=<folder>."
            )
        files += [(root / name, name) for name in found]
    return PhotoFiles([path for path, _ in files], [name for _, name in files], ", ".join(sources))


def _listed(file: Path) -> list[str]:
    content = file.read_bytes()
    if b"\0" in content:
        raise InputError(f"Wanted a text file with the path of a photograph on each line, {file} is no text.")
    text = os.fsdecode(content.removeprefix(codecs.BOM_UTF8))  # of names that need not be text
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    names = [line for line in lines if line.strip()]
    missing = [name for name in names if not (file.parent / name).is_file()]
    if missing:
        raise InputError(
            f"Wanted the {len(names)} photographs that {file} names, {len(missing)} are not there, the first is "
            f"{missing[0]!r}: paths in it are relative to its own folder."
        )
    return names
