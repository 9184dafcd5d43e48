"""Open the node's store from its URL."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError
from tieline_client.errors import ConfigurationError

from tieline_server.domain.ports import Clock, Matching, Store
from tieline_server.storage.sqlite import SqliteStore


def open_store(
    url: str,
    *,
    clock: Clock,
    matching: Matching | None = None,
    known_good: Matching | None = None,
) -> Store:
    """Open, check and migrate a store: ``sqlite:///PATH`` or ``postgresql+psycopg://...``.

    ``matching`` is the index that items are found by; without one no items can be staged or
    erased, which is enough to read and to keep people and settings. ``known_good`` is the index of
    exclusion lists.

    Raises ConfigurationError for another URL, StorageUnavailable, StorageCorrupt, StorageTooNew.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            "the database URL cannot be read; use sqlite:///PATH or postgresql+psycopg://..."
        ) from error
    if (path := sqlite_file(parsed)) is not None:
        return SqliteStore(path, clock=clock, matching=matching, known_good=known_good)
    if parsed.get_backend_name() == "postgresql":
        # Its driver is slow to import.
        from tieline_server.storage.postgres import PostgresStore  # noqa: PLC0415

        return PostgresStore(
            parsed.set(drivername="postgresql+psycopg"),
            clock=clock,
            matching=matching,
            known_good=known_good,
        )
    raise ConfigurationError(
        f"databases of kind {parsed.drivername[:32]!r} are not served; "
        "use sqlite:///PATH or postgresql+psycopg://..."
    )


def sqlite_file(url: URL) -> Path | None:
    """Return the file of an SQLite database, None for another database or one in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))
