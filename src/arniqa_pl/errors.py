import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What a disk, not a program, is to blame for.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


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
def writing(place: Path | str) -> Iterator[None]:
    """Tell in a sentence that a file or folder cannot be written, and how full its disk is.

    Raises:
        InputError: the disk is full, damaged, read-only or not to be written by this user.

    """
    try:
        yield
    except (OSError, RuntimeError) as error:  # RuntimeError: PyTorch, of the OSError before it
        reason = _reason(error)
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


def _reason(error: BaseException | None) -> OSError | None:
    while error is not None and not (isinstance(error, OSError) and error.errno in _OF_THE_DISK):
        error = error.__cause__ or error.__context__
    return error


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
