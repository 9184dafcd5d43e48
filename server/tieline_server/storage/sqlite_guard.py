"""What keeps a SQLite database honest: failed commits are covered, large files looked through.

**A failed commit.** When the fsync of a commit fails, its frames stand in the write-ahead log,
whole and with valid checksums, and SQLite only does not count them. A process that is killed now
would find them at its next start and believe them: a write that was refused would have taken
effect. To fsync again would not help either: after a failed fsync Linux holds the pages for clean,
and the second call succeeds without writing (https://lwn.net/Articles/752063/). SQLite itself never
does that; what follows is written anew to the same place. So the store writes something void over
the first frame at once: every later frame builds on its checksum and is void with it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tieline_server.storage.errors import corrupt, translating

DriverConnection = sqlite3.Connection
_VOID = (
    "INSERT INTO counters (name, value) VALUES ('storage/void', 1) "
    "ON CONFLICT (name) DO UPDATE SET value = value + 1"
)
SHARE = 0.25
"""Of one core, that looking a large file through may take."""
_STEPS = 100_000
_NICE = 10
"""Of the thread that looks. Not more: it holds the interpreter's lock now and then."""
_PAUSE_SECONDS = 1.0
"""Longest pause at a time, so that closing does not wait."""


def cover(driver: sqlite3.Connection) -> None:
    """Write over what a failed commit left in the log. Where even that fails, nothing is worse."""
    with contextlib.suppress(sqlite3.Error):
        driver.execute("BEGIN IMMEDIATE")
        driver.execute(_VOID)
        driver.execute("COMMIT")


def give_way() -> None:
    """Let this thread have what is left of the processor, where the system tells threads apart."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def interrupt(database: DriverConnection) -> None:
    """End what a connection of another thread is doing; nothing, where it is closed."""
    with contextlib.suppress(sqlite3.ProgrammingError):
        database.interrupt()


def look_through(
    path: Path,
    stop: threading.Event,
    share: float = SHARE,
    begun: Callable[[sqlite3.Connection], object] = lambda _: None,
) -> None:
    """Check every table and its indexes, one after another, at leisure; until ``stop`` is set.

    Each table is one read transaction: the log cannot be emptied meanwhile. SQLite before 3.42
    looks at a table without a pause, until its connection, which ``begun`` is given, is
    interrupted. Raises StorageCorrupt, StorageUnavailable.
    """
    resumed = time.monotonic()

    def pause() -> int:
        nonlocal resumed
        spent = time.monotonic() - resumed
        stopped = stop.wait(min(spent * (1 / share - 1), _PAUSE_SECONDS))
        resumed = time.monotonic()
        return int(stopped)

    uri = f"{path.resolve().as_uri()}?mode=ro"
    with translating(), closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as database:
        begun(database)
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        database.set_progress_handler(pause, _STEPS)
        for (name,) in tables:
            if stop.is_set():
                return
            try:
                (found,) = database.execute(f"PRAGMA quick_check('{name}')").fetchone()
            except sqlite3.OperationalError:
                if stop.is_set():
                    return
                raise
            if found != "ok" and not stop.is_set():  # one that was interrupted may say anything
                raise corrupt()
