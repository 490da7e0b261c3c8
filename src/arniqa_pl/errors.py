import errno
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""Errors of the system that only who writes can get."""
UNWRITABLE = (*FULL, errno.EACCES, errno.EPERM, errno.EIO)
"""Whatever keeps a file from being written; some of it keeps others from being read."""


class InputError(ValueError):
    """What the user gave cannot be used. The message says what was wanted, what was found and what to do.

    Entries print it without a traceback; any other exception is a fault of ours and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        # A loader's worker sends its traceback as the message, with ours at the end.
        told = message.rpartition("InputError: ")[2].strip()
        # A name of a file need not be text, what a log or a table holds has to be.
        super().__init__(told.encode(errors="backslashreplace").decode())


@contextmanager
def writing(place: Path | str, numbers: Collection[int] = UNWRITABLE) -> Iterator[None]:
    """Tell in a sentence that a file or folder cannot be written, and how full its disk is.

    Args:
        place: the file or folder, where the system does not say which.
        numbers: of the errors that are told; where more is done than writing, only FULL.

    Raises:
        InputError: the disk is full, damaged, read-only or not to be written by this user.

    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: PyTorch, of the OSError before it
        reason = _reason(error, numbers)
        if reason is None:
            raise
        found = Path(reason.filename or place).absolute()
        disk = next(folder for folder in (found, *found.parents) if folder.is_dir())
        space = shutil.disk_usage(disk)
        raise InputError(
            f"Wanted to write {found}, could not: {os.strerror(reason.errno or 0)} ({_size(space.free)} of "
            f"{_size(space.total)} are free there). What was finished is kept: make room, or name a place that can be "
            "written, and run the command again."
        ) from error


def _reason(error: BaseException | None, numbers: Collection[int]) -> OSError | None:
    while error is not None and not (isinstance(error, OSError) and error.errno in numbers):
        error = error.__cause__ or error.__context__
    return error


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
