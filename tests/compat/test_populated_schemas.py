"""Databases of earlier versions, with what nodes had in them, come forward and lose nothing.

``schema_NNNN`` holds dumps (SQL) of the nodes of a small federation at that revision: each release
that changes the tables adds a folder.
"""

from __future__ import annotations

import contextlib
import gzip
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tieline_server.domain.ports import Store
from tieline_server.storage.engine import open_store
from tieline_server.storage.schema import REVISION

_HERE = Path(__file__).parent
_DUMPS = sorted(_HERE.glob("schema_*/*.sql.gz"))
_COUNTED = (
    *("series", "referrals", "referral_steps", "uploads", "upload_steps", "broadcasts"),
    *("broadcast_recipients", "broadcast_answers", "inbox", "outbox", "holdings", "items"),
    *("imports", "operators", "queries", "audit_leaves", "assessments"),
)


def _name(dump: Path) -> str:
    return f"{dump.parent.name}-{dump.name.partition('.')[0]}"


@pytest.fixture(params=_DUMPS, ids=_name)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database as an earlier version left it."""
    path = tmp_path / "database.sqlite3"
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.executescript(gzip.decompress(request.param.read_bytes()).decode())
    path.chmod(0o600)
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}", clock=lambda: datetime.now(UTC))
    try:
        yield store
    finally:
        store.close()


def _counts(path: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {
            table: database.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in _COUNTED
        }


def _rows(path: Path, sql: str) -> list[Any]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return database.execute(sql).fetchall()


def test_a_database_comes_forward_with_all_its_rows(database: Path) -> None:
    before = _counts(database)
    messages = _rows(database, "SELECT id, recipient, envelope, state, sequence FROM outbox")
    came = _rows(database, "SELECT sender, id, envelope, reply FROM inbox ORDER BY sender, id")
    with _opened(database) as store:
        for number, recipient, envelope, state, sequence in messages:
            kept = store.read(lambda tx, n=number, to=recipient: tx.outbox.get(to, n))  # type: ignore[misc]
            assert kept is not None
            assert (kept.envelope, kept.state.value, kept.sequence) == (envelope, state, sequence)
        for sender, number, envelope, reply in came:
            found = store.read(lambda tx, s=sender, n=number: tx.inbox.get(s, n))  # type: ignore[misc]
            assert found is not None
            assert (found.envelope, int(found.reply)) == (envelope, reply)
    assert _counts(database) == before
    assert _rows(database, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert _rows(database, "PRAGMA integrity_check") == [("ok",)]


def test_a_database_comes_forward_once(database: Path) -> None:
    with _opened(database):
        pass
    between = _counts(database)
    with _opened(database):
        pass
    assert _counts(database) == between


def test_there_is_a_dump_of_every_earlier_release() -> None:
    assert {dump.parent.name for dump in _DUMPS} >= {"schema_0001"}
