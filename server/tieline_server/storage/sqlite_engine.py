"""Connections to the SQLite file, with what each is set to.

A store has two engines, one that writes and one that reads. Each would compile every statement for
itself, which is a third of what a fresh store costs in processor time; so what SQLAlchemy makes of
a statement is made once in a process, whichever engine runs it.
"""

from __future__ import annotations

import functools
import sqlite3
from typing import Any

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event
from sqlalchemy.util import LRUCache

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
STATEMENTS = 2_000
"""Compiled statements that are kept; there are some hundred shapes."""
_compiled: LRUCache[Any, Any] = LRUCache(STATEMENTS)


@functools.cache
def _dialect() -> Dialect:
    """Return one that knows the driver: it learns that at a first connection."""
    engine = create_engine("sqlite+pysqlite://")
    with engine.connect():
        pass
    engine.dispose()
    return engine.dialect


def sqlite_engine(url: URL, begin: str, **pool: Any) -> Engine:
    """Return an engine whose transactions begin by ``begin`` and are durable once committed."""
    engine = create_engine(
        url,
        connect_args={"check_same_thread": False},
        execution_options={"compiled_cache": _compiled},
        **pool,
    )
    engine.dialect = _dialect()  # a compiled statement is looked for by its dialect, too

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
