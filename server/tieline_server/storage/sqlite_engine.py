"""Connections to the SQLite file, with what each is set to."""

from __future__ import annotations

import sqlite3
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from tieline_server.storage.errors import corrupt
from tieline_server.storage.sqlite_file import driver_of

BUSY_MILLISECONDS = 5_000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-65536",
    "PRAGMA wal_autocheckpoint=4000",
    "PRAGMA journal_size_limit=67108864",
    f"PRAGMA busy_timeout={BUSY_MILLISECONDS}",
)


def sqlite_engine(url: URL, begin: str, **pool: Any) -> Engine:
    """Return an engine whose transactions begin by ``begin`` and are durable once committed."""
    engine = create_engine(url, connect_args={"check_same_thread": False}, **pool)

    @event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where the store says so
        try:
            for pragma in _PRAGMAS:
                connection.execute(pragma)
        except UnicodeDecodeError as error:  # the driver names the broken statement of the schema
            raise corrupt() from error

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if not driver_of(connection).in_transaction:  # the writer has begun by itself
            driver_of(connection).execute(begin)

    return engine
