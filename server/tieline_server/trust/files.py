"""Writing files so that a crash leaves the old or the new one, never half of either."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tieline_client.errors import HomeInUse

_UNFINISHED = ".new-"


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write ``data`` to ``path``: temporary file, fsync, rename, fsync of the folder.

    Folders on the way are made. Durable on return. An OSError names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _write(path, data, mode)
    except OSError as error:
        error.filename = os.fspath(path)  # of a failed write the system names none
        raise


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(name).unlink()
        raise
    sync_folder(path.parent)


def sweep(*folders: Path) -> None:
    """Remove what killed processes had begun to write; nobody else may be writing there."""
    for folder in folders:
        for path in folder.glob(f"{_UNFINISHED}*"):
            path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(path: Path, most: int) -> bytes | None:
    """Return a regular file's bytes, or None when there is no such regular file.

    A pipe or device in its place counts as absent, so that none can hold the reader. At most
    ``most`` + 1 bytes are read: one more than ``most`` tells the caller that it is too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not path.is_file():
            return None
        return file.read(most + 1)


@contextmanager
def locked(path: Path, what: str, *, wait: bool = False) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``, which is made when absent.

    Raises HomeInUse when another process holds it and ``wait`` is False.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise HomeInUse(f"another command is changing {what}; wait for it to finish") from None
        yield
    finally:
        os.close(descriptor)
