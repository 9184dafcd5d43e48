"""Copies of a SQLite database, by its online backup (https://sqlite.org/backup.html).

The copy is read inside one read transaction. In WAL mode a reader never holds up the writer, and
its snapshot stands still, so the copy ends however much is written meanwhile (without the
transaction, each commit of another process would start it anew). What it costs the node: the
write-ahead log cannot be emptied until the copy is done, so it grows by what is written meanwhile.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

from tieline_client.errors import StorageCorrupt, WrongState

from tieline_server.storage.copies import LAST_LEAF, Checked, Facts, Told, audit_head
from tieline_server.storage.errors import translating, unavailable

PAGES = 1_024
"""Pages copied at a stretch: 4 MiB."""
_ROWS = 1_000
_BUSY_SECONDS = 30.0
_STEPS_PER_TELL = 1_000_000


class SqliteCopying:
    """`storage.copies.Copying` over one SQLite file."""

    kind: Literal["sqlite", "postgresql"] = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path

    def copy(self, target: Path, told: Told) -> Facts:
        """Copy page by page from one snapshot. See `Copying.copy`."""
        if not self._path.is_file():
            raise unavailable(f"there is no database {self._path}")
        _make(target)
        with (
            translating(),
            closing(_connect(self._path)) as source,
            closing(_connect(target)) as copy,
        ):
            source.execute("PRAGMA query_only=ON")
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM meta").fetchone()  # the snapshot is of now
            copy.execute("PRAGMA synchronous=OFF")  # a scratch file: gone if this process is
            copy.execute("PRAGMA journal_mode=OFF")

            def progress(_status: int, left: int, total: int) -> None:
                told(total - left, total)

            source.backup(copy, pages=PAGES, progress=progress, sleep=0.01)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            return _facts(copy)

    def check(self, copy: Path, told: Told) -> Checked:
        """Run SQLite's integrity check and recompute the audit log. See `Copying.check`."""
        steps = 0

        def tell() -> int:
            nonlocal steps
            steps += 1
            told(steps, 0)
            return 0

        with _reading(copy) as connection:
            connection.set_progress_handler(tell, _STEPS_PER_TELL)
            found = connection.execute("PRAGMA integrity_check(1)").fetchone()
            if found is None or found[0] != "ok":
                raise StorageCorrupt(
                    "the copy fails the integrity check, so the database is damaged; "
                    "stop the node and restore the last good backup"
                )
            facts = _facts(connection)
        return Checked("restored into a scratch folder, integrity check passed", facts)

    def load(self, copy: Path) -> None:
        """Move the copy to the database's place. See `Copying.load`."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            if self._path.with_name(self._path.name + suffix).exists():
                raise WrongState(
                    f"{self._path}{suffix} is there already; move it away before restoring"
                )
        if copy.stat().st_dev == self._path.parent.stat().st_dev:
            copy.rename(self._path)
            return
        part = self._path.with_name(f".{self._path.name}.partial")
        try:
            _make(part)
            with copy.open("rb") as source, part.open("r+b") as target:
                while block := source.read(1024 * 1024):
                    target.write(block)
                target.flush()
                os.fsync(target.fileno())
            part.rename(self._path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def _make(path: Path) -> None:
    """Make an empty file for its owner alone."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=_BUSY_SECONDS, isolation_level=None
    )
    connection.execute("PRAGMA cache_size=-16384")
    return connection


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with translating(), closing(_connect(path)) as connection:
        connection.execute("PRAGMA query_only=ON")
        yield connection


def _facts(connection: sqlite3.Connection) -> Facts:
    epoch = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    revision = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    entries, root = audit_head(_leaves(connection))
    people = tuple(name for (name,) in connection.execute("SELECT name FROM operators"))
    last = connection.execute(LAST_LEAF).fetchone()
    leaf = bytes(last[0] or b"") if last else b""
    return Facts(epoch[0] if epoch else "", revision[0], entries, root, people, leaf)


def _leaves(connection: sqlite3.Connection) -> Iterator[tuple[int, bytes, bytes]]:
    cursor = connection.execute(
        "SELECT position, leaf, leaf_hash FROM audit_leaves ORDER BY position"
    )
    cursor.arraysize = _ROWS
    while rows := cursor.fetchmany():
        yield from rows
