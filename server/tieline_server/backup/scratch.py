"""Folders for work that a crash may leave behind: locked while in use, swept by who comes next.

They hold copies of the database in plain, so what a killed process left is erased as soon as
anybody looks: at the next backup or restore, and when the node starts.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

BACKUP_PREFIX = ".backup-"
"""In a home: copies under way."""


@contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """Make a folder (0700) in ``parent`` and remove it afterwards, if it still stands there.

    Folders of the same prefix that no process holds are removed first.
    """
    with _held(parent, wait=True):
        sweep(parent, prefix)
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        os.close(descriptor)


def sweep(parent: Path, prefix: str) -> None:
    """Remove what processes left that ended before they could."""
    for path in parent.glob(f"{prefix}*"):
        with suppress(BlockingIOError, NotADirectoryError, FileNotFoundError), _held(path):
            shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _held(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a folder; raise BlockingIOError when another holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
