"""Nothing that was erased stays in a SQLite database's files.

``secure_delete`` overwrites a row where it stood. It does not reach copies that the B-tree left
behind when it moved rows between pages: a page that is put together anew keeps old bytes in its
free middle (measured: some of ten thousand erased digests were still found). So what was erased for
good is followed by VACUUM, which writes every page anew, and by a checkpoint that copies the pages
into the database and cuts the write-ahead log to nothing.

1. The log is emptied first: while a reader holds on to what was, nothing is rewritten.
2. VACUUM, which takes as long as writing the database once; readers go on, writers wait.
3. The log is emptied again. Now no file holds what was erased before step 2.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

from tieline_server.storage.errors import translating

READERS_SECONDS = 5.0
"""How long readers of what was are waited for; the caller comes again."""
IN_MEMORY_BYTES = 64 * 1024 * 1024
"""VACUUM's copy of a database up to this size is kept in memory, a larger one in a temporary file
without a name."""
QUICK_SECONDS = 1.0
PAUSE = 30
"""A VACUUM that took longer is followed by so many times its own length without one: writers wait a
thirtieth of the time at most, and what is erased meanwhile shares the next one."""


class Scrubber:
    """Rewrites one database. The caller sees to it that nobody writes meanwhile."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._not_before = 0.0

    def scrub(self) -> bool:
        """Carry out the steps; False when readers hold on, or it is too soon after the last.

        Raises StorageUnavailable, StorageCorrupt.
        """
        if time.monotonic() < self._not_before:
            return False
        with translating(), closing(sqlite3.connect(self._path, isolation_level=None)) as own:
            size = self._path.stat().st_size
            own.execute(f"PRAGMA busy_timeout={int(READERS_SECONDS * 1000)}")
            own.execute("PRAGMA secure_delete=ON")
            own.execute("PRAGMA synchronous=FULL")
            own.execute(f"PRAGMA temp_store={'MEMORY' if size <= IN_MEMORY_BYTES else 'FILE'}")
            if not _emptied(own):  # 1
                return False
            began = time.monotonic()
            own.execute("VACUUM")  # 2
            ended = time.monotonic()
            if ended - began > QUICK_SECONDS:
                self._not_before = ended + PAUSE * (ended - began)
            return _emptied(own)  # 3


def _emptied(connection: sqlite3.Connection) -> bool:
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
