"""Nothing that was erased stays in the files of a PostgreSQL database, as far as its role may.

VACUUM alone only marks room as free: the bytes stay in the middle of pages until others overwrite
them. So every table that things are erased from is written anew, with its indexes and what is kept
beside it of long values; the planner's samples of columns, which are values too, are taken anew
and that catalogue is written again; then the write-ahead log is cut:

1. One process at a time, by an advisory lock.
2. VACUUM (FULL, ANALYZE) of each table. It is locked meanwhile, for readers too.
3. What samples are left of columns that have no values any more are dropped; pg_statistic is
   written anew.
4. A new segment of the log, and a checkpoint: old files are unlinked, old segments removed. The
   role needs pg_checkpoint and EXECUTE on pg_switch_wal(), and the server `wal_recycle = off`,
   which keeps PostgreSQL from using old segments again with their old bytes. What is not granted
   is said in `node status` (`left`).

A transaction that began before and is still open keeps dead rows alive, and one that reads a table
keeps it from being written anew: then it is done again later, before others queue up behind.
Replicas, archives of the log and backups are the database's operator's.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from tieline_server.storage.erasure import ERASED_FROM
from tieline_server.storage.errors import translating
from tieline_server.storage.prepared import driver_of

SCRUB_LOCK = 7_430_004
"""PostgreSQL advisory lock of the process that rewrites."""
LOCK_SECONDS = 2
"""How long readers of a table are waited for: others wait behind this."""
_INSUFFICIENT_PRIVILEGE, _LOCK_NOT_AVAILABLE = "42501", "55P03"
QUICK_SECONDS = 1.0
PAUSE = 30
"""As for SQLite (scrubbing.py): a long rewriting is followed by a pause of so many times its
length."""
_OLDER = text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL AND xact_start < :began"
)
_NO_VALUES = text(
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_stats s"
    " JOIN pg_attribute a ON a.attrelid = CAST(CAST(:name AS text) AS regclass)"
    " AND a.attname = s.attname"
    " WHERE s.schemaname = current_schema() AND s.tablename = CAST(:name AS text) AND a.attnum > 0"
)

_TRIGGERS = text(
    "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger"
    " WHERE tgrelid = CAST(CAST(:name AS text) AS regclass) AND NOT tgisinternal"
)


class PostgresScrubber:
    """Rewrites one database's tables."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._not_before = 0.0
        self.left = ""
        """What the last rewriting could not reach, and what to do; empty when nothing is left."""

    def scrub(self) -> bool:
        """Carry out the steps; False when it has to be done again later. Raises
        StorageUnavailable."""
        if time.monotonic() < self._not_before:
            return False
        own = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with translating(), own as connection:
            # 1
            if not connection.scalar(text(f"SELECT pg_try_advisory_lock({SCRUB_LOCK})")):
                return False
            try:
                connection.execute(text("SET statement_timeout = 0"))
                connection.execute(text(f"SET lock_timeout = '{LOCK_SECONDS}s'"))
                began = time.monotonic()
                done = self._rewrite(connection)
                took = time.monotonic() - began
                if took > QUICK_SECONDS:
                    self._not_before = time.monotonic() + PAUSE * took
                return done
            except OperationalError as error:
                if getattr(error.orig, "sqlstate", "") != _LOCK_NOT_AVAILABLE:
                    raise
                return False
            finally:
                connection.execute(text("RESET lock_timeout"))
                connection.execute(text("RESET statement_timeout"))
                connection.execute(text(f"SELECT pg_advisory_unlock({SCRUB_LOCK})"))

    def _rewrite(self, connection: Connection) -> bool:
        began = connection.scalar(text("SELECT clock_timestamp()"))
        for table in ERASED_FROM:
            connection.execute(text(f"VACUUM (FULL, ANALYZE) {table.name}"))  # 2
            if not connection.scalar(text(f"SELECT EXISTS (SELECT 1 FROM {table.name})")):  # noqa: S608
                _drop_samples(connection, table.name)  # 3
        left = [
            *_tried(connection, "VACUUM FULL pg_statistic", "own the database"),
            *_tried(connection, "SELECT pg_switch_wal()", "EXECUTE on pg_switch_wal()"),  # 4
            *_tried(connection, "CHECKPOINT", "membership in pg_checkpoint"),
        ]
        if connection.scalar(text("SHOW wal_recycle")) != "off":
            left.append("wal_recycle = off")
        self.left = (
            f"the database's own files may hold erased bytes for a while: grant {', '.join(left)}"
            if left
            else ""
        )
        return not connection.scalar(_OLDER, {"began": began})


def _drop_samples(connection: Connection, table: str) -> None:
    """ANALYZE leaves the samples of a table that has become empty; naming a column's type drops
    those of that column, and rewrites nothing. A column that a trigger names keeps its type while
    there is one, so triggers are made again in the same transaction."""
    columns = connection.execute(_NO_VALUES, {"name": table}).all()
    if not columns:
        return
    triggers = connection.execute(_TRIGGERS, {"name": table}).all()
    statements = [f'DROP TRIGGER "{name}" ON {table}' for name, _ in triggers]
    statements += [
        f'ALTER TABLE {table} ALTER COLUMN "{name}" TYPE {kind}' for name, kind in columns
    ]
    statements += [made for _, made in triggers]
    with driver_of(connection).transaction():
        for statement in statements:
            driver_of(connection).execute(statement)


def _tried(connection: Connection, statement: str, needs: str) -> list[str]:
    """Run what the role may not be allowed to; return what it would need."""
    try:
        connection.execute(text(statement))
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", "") != _INSUFFICIENT_PRIVILEGE:
            raise
        return [needs]
    return []
