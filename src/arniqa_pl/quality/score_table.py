"""A table of scores on disk: it grows row by row, and goes on where it was interrupted."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from arniqa_pl.errors import InputError, writing

Row = Mapping[str, Any]

SUFFIXES = (".csv", ".jsonl", ".parquet")
TEXT_COLUMNS = ("path", "error")
_BLOCK_ROWS = 10_000
_ROW_END = "\r\n"


class ScoreTable:
    """Rows in a .csv, .jsonl or .parquet file, and beside it what they are scores of, in a .json file.

    A Parquet file cannot grow: until its last row is there, the rows are in a .jsonl file beside it.

    Args:
        output: the file.
        columns: of every row; path and error are texts, all others numbers or None.
        facts: what the rows depend on; rows of other facts are not continued.
        overwrite: start from nothing, whatever is there.

    Attributes:
        finished: a Parquet file is there, so nothing is left to do.

    Raises:
        InputError: another suffix; or there are rows of other facts, or of another origin.

    """

    def __init__(self, output: Path, columns: Sequence[str], facts: Mapping[str, Any], *, overwrite: bool) -> None:
        if output.suffix not in SUFFIXES:
            raise InputError(f"Wanted an output that ends in {', '.join(SUFFIXES)}, got {output}.")
        self.output = output
        self.columns = list(columns)
        self.file = output.with_name(f"{output.name}.jsonl") if output.suffix == ".parquet" else output
        about = output.with_name(f"{output.name}.json")
        if overwrite:
            for each in (self.output, self.file, about):
                each.unlink(missing_ok=True)
        if output.exists() or self.file.exists():
            self._check(about, facts)
        else:
            with writing(about):
                output.parent.mkdir(parents=True, exist_ok=True)
                about.write_text(json.dumps(facts, indent=1) + "\n")
        self.finished = output.suffix == ".parquet" and output.exists()

    def _check(self, about: Path, facts: Mapping[str, Any]) -> None:
        found = json.loads(about.read_text()) if about.is_file() else {}
        different = [key for key in facts if found.get(key) != facts[key]]
        if different:
            raise InputError(
                f"Wanted to continue {self.output}, what is there was scored with other settings "
                f"({', '.join(different)}): name another output, or replace it with overwrite=true."
            )

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows that are there, then cut off what an interruption left of one more."""
        if not self.file.exists():
            return
        whole = 0
        with self.file.open("rb") as stream:
            for row, end in (self._csv_rows if self.file.suffix == ".csv" else _json_rows)(stream):
                whole = end
                if row is not None:
                    yield row
        os.truncate(self.file, whole)

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows behind those that are there, so that they outlive this process.

        Raises:
            InputError: the disk is full, or cannot be written.

        """
        opened = partial(self.file.open, "a", encoding="utf-8", errors="surrogateescape", newline="")
        with writing(self.file), opened() as stream:
            if self.file.suffix == ".csv":
                # Python before 3.13 quotes a carriage return in a name only where rows end with one.
                lines = SimpleNamespace(write=lambda line: stream.write(f"{line.removesuffix(_ROW_END)}\n"))
                writer = csv.DictWriter(lines, self.columns, lineterminator=_ROW_END)
                if not stream.tell():
                    writer.writeheader()
                writer.writerows(rows)
            else:
                stream.writelines(json.dumps({key: row[key] for key in self.columns}) + "\n" for row in rows)

    def finish(self) -> None:
        """Turn the rows into a Parquet file, if that is the output."""
        if self.file == self.output:
            return
        import pyarrow
        from pyarrow import parquet

        kinds = [(name, pyarrow.string() if name in TEXT_COLUMNS else pyarrow.float64()) for name in self.columns]
        schema = pyarrow.schema(kinds)
        part = self.output.with_name(f"{self.output.name}.part")
        with writing(part), parquet.ParquetWriter(part, schema) as writer:
            rows = map(_as_unicode, self.rows())
            while block := list(islice(rows, _BLOCK_ROWS)):
                writer.write_table(pyarrow.Table.from_pylist(block, schema))
        part.rename(self.output)
        self.file.unlink(missing_ok=True)

    def _csv_rows(self, stream: BinaryIO) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """Yield the header as None, then each whole row, with where it ends in the file."""
        end, whole = 0, False

        def lines() -> Iterator[str]:
            nonlocal end, whole
            for line in stream:
                end, whole = end + len(line), line.endswith(b"\n")
                yield line.decode("utf-8", "surrogateescape")

        header = True
        for values in csv.reader(lines()):
            if not whole or len(values) != len(self.columns):
                return
            if header and values != self.columns:
                raise InputError(f"Wanted the columns {', '.join(self.columns)} in {self.file}, found {values}.")
            yield None if header else dict(zip(self.columns, map(_value, self.columns, values), strict=True)), end
            header = False


def _value(column: str, text: str) -> Any:
    if column in TEXT_COLUMNS:
        return text
    return float(text) if text else None


def _json_rows(stream: BinaryIO) -> Iterator[tuple[dict[str, Any], int]]:
    end = 0
    for line in stream:
        if not line.endswith(b"\n"):
            return
        end += len(line)
        yield json.loads(line), end


def _as_unicode(row: Row) -> dict[str, Any]:
    """Return a row whose names of files are Unicode; Linux allows any bytes in them, Parquet does not."""
    return {
        key: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace") if isinstance(value, str) else value
        for key, value in row.items()
    }
