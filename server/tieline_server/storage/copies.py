"""Copies of a whole database for backups: made while the node runs, checked, loaded elsewhere.

`Copying` is what both databases offer. A copy is one file. Its audit log is recomputed from the
leaves, not read from the tree beside them, so that a log which does not hold together shows when
the backup is made and not when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError
from tieline_client.errors import ConfigurationError, StorageCorrupt

from tieline_server.domain import merkle

Told = Callable[[int, int], None]
"""Takes how much is done of how much, in units of its own."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a copy holds: the node's epoch, its newest migration, its audit log's length and root
    (RFC 6962, 32 bytes)."""

    epoch: str
    revision: str
    audit_entries: int
    audit_root: bytes
    operators: tuple[str, ...]
    last_entry: bytes
    """The last of the audit log; b"" where there is none."""


LAST_LEAF = "SELECT leaf FROM audit_leaves ORDER BY position DESC LIMIT 1"


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of a check. ``how`` says in words what was done; facts are None when the copy was
    only listed, since nowhere to load it was there."""

    how: str
    facts: Facts | None


class Copying(Protocol):
    """One kind of database."""

    kind: Literal["sqlite", "postgresql"]

    def copy(self, target: Path, told: Told) -> Facts:
        """Write a consistent copy to the new file ``target`` while others read and write.

        Raises StorageUnavailable, StorageCorrupt, ConfigurationError (a program is missing).
        """
        ...

    def check(self, copy: Path, told: Told) -> Checked:
        """Check a copy as far as is possible without the database that it came from.

        Raises StorageCorrupt.
        """
        ...

    def load(self, copy: Path) -> None:
        """Put a copy where this database is to be; nothing may be there yet.

        All or nothing. Raises WrongState, StorageUnavailable, ConfigurationError.
        """
        ...


def copying(url: str) -> Copying:
    """Return the copying of the database behind a URL. Raises ConfigurationError."""
    from tieline_server.storage.copies_postgres import PostgresCopying  # noqa: PLC0415 - both ways
    from tieline_server.storage.copies_sqlite import SqliteCopying  # noqa: PLC0415
    from tieline_server.storage.engine import sqlite_file  # noqa: PLC0415

    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = make_url("none://")
    if (path := sqlite_file(parsed)) is not None:
        return SqliteCopying(path)
    if parsed.get_backend_name() == "postgresql":
        return PostgresCopying(parsed)
    raise ConfigurationError(
        "the database URL cannot be read; use sqlite:///PATH or postgresql+psycopg://..."
    )


def audit_head(rows: Iterable[tuple[int, bytes, bytes]]) -> tuple[int, bytes]:
    """Return length and Merkle root of a log, recomputed from (position, leaf, leaf hash) in order.

    Raises StorageCorrupt when a position is missing or a leaf is not what its hash says.
    """
    edge = merkle.Edge()
    for position, leaf, hashed in rows:
        if position != edge.size or merkle.leaf_hash(bytes(leaf)) != bytes(hashed):
            raise StorageCorrupt(
                f"the audit log does not hold together at entry {edge.size}; keep this database "
                "as it is for whoever looks into it, and restore the last backup"
            )
        edge.add(bytes(hashed))
    return edge.size, edge.root()
