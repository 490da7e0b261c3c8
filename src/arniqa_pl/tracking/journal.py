"""What a run has to tell, on the disk beside it: the truth, of which a tracking server gets a copy."""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from arniqa_pl.errors import InputError, writing

JOURNAL = "tracking.jsonl"


@dataclass(frozen=True)
class Sent:
    """How much of a journal which server has.

    Attributes:
        server: the tracking URI, without credentials.
        run_id: of the MLflow run there.
        position: bytes of the journal that it has got.

    """

    server: str
    run_id: str
    position: int


@dataclass
class Story:
    """A journal as a whole: what a run's page and tables are made of.

    Attributes:
        name: of the run.
        experiment: it belongs to.
        status: RUNNING, FINISHED or FAILED.
        params: settings by their flattened names.
        tags: by name.
        metrics: of each name, (step, value) in the order of logging.
        artifacts: files, by their paths in the run's folder.
        datasets: facts of each, with its `context`.

    """

    name: str
    experiment: str
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)
    datasets: list[dict[str, str]] = field(default_factory=list)


class Journal:
    """A run's records in the order in which they were made, a line of JSON each, in its folder's `JOURNAL`.

    Lines are only ever added. The first one says which run this is; each later one holds one of `params`, `tags`,
    `metrics` with their `step`, `artifact` with the `folder` it goes to, `dataset`, or `status`; and the `time`, in
    milliseconds since 1970. Several threads may add lines.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / JOURNAL
        self._sent_file = folder / "tracking.sent"

    def start(self, **facts: Any) -> None:
        """Begin anew: with a line that says which run this is."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._sent_file.unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
        self.add(**facts)

    def begun(self) -> bool:
        """Return whether there is a journal that says which run it is of: a crash may have left less than that."""
        try:
            return "run_name" in self.facts()
        except InputError:
            return False

    def mend(self) -> None:
        """Cut off the half line that a crash may have left at the end."""
        whole = self.file.read_bytes().rfind(b"\n") + 1
        os.truncate(self.file, whole)

    def add(self, **record: Any) -> None:
        """Write a record, with the time, as a whole line or not at all.

        Raises:
            InputError: the disk is full, or cannot be written.

        """
        line = (json.dumps(record | {"time": int(time.time() * 1000)}) + "\n").encode()
        with writing(self.file), self.file.open("ab", buffering=0) as stream:
            written = stream.write(line)
            if written != len(line):  # the disk is full, which a second call would say
                stream.truncate(stream.tell() - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self, position: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the records from a position on, each with the position after it."""
        with self.file.open("rb") as stream:
            stream.seek(position)
            for line in stream:
                if not line.endswith(b"\n"):  # is being written
                    return
                position += len(line)
                yield position, json.loads(line)

    def facts(self) -> dict[str, Any]:
        """Return the first line: which run this is.

        Raises:
            InputError: the folder holds no journal.

        """
        try:
            return next(self.read())[1]
        except (FileNotFoundError, StopIteration):
            raise InputError(f"Wanted the folder of a run, found no {self.file.name} in {self.folder}.") from None

    def story(self) -> Story:
        """Read all records."""
        facts = self.facts()
        story = Story(name=facts["run_name"], experiment=facts["experiment"])
        for _, record in self.read():
            story.params |= record.get("params", {})
            story.tags |= record.get("tags", {})
            story.status = record.get("status", story.status)
            for name, value in record.get("metrics", {}).items():
                story.metrics.setdefault(name, []).append((record["step"], value))
            story.artifacts += [record["artifact"]] if "artifact" in record else []
            story.datasets += [record["dataset"] | {"context": record["context"]}] if "dataset" in record else []
        return story

    def sent(self) -> Sent | None:
        """Return what was sent, if anything; of a journal that was cut short, everything is to be sent again."""
        if not self._sent_file.exists():
            return None
        sent = Sent(**json.loads(self._sent_file.read_text()))
        return sent if sent.position <= self.file.stat().st_size else replace(sent, position=0)

    def note(self, sent: Sent) -> None:
        """Keep what was sent."""
        unfinished = self._sent_file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(asdict(sent)))
        unfinished.replace(self._sent_file)

    def unsent(self) -> int:
        """Return how many records no server has."""
        sent = self.sent()
        return sum(1 for _ in self.read(sent.position if sent else 0))

    @contextmanager
    def sole_sender(self) -> Iterator[None]:
        """Wait for other processes and threads that send this journal, and keep them waiting meanwhile."""
        with self.file.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.flock(stream, fcntl.LOCK_UN)  # loader processes may hold the file open
