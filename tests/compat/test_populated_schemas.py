"""Databases of earlier versions, with what nodes had in them, come forward and lose nothing.

``schema_NNNN`` holds dumps (SQL) of the nodes of a small federation at that revision. Who adds a
migration makes the one of the schema before it first: ``make schema-dump`` (dump.py).
"""

from __future__ import annotations

import contextlib
import gzip
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tieline_server.domain.ports import Store
from tieline_server.storage.engine import open_store
from tieline_server.storage.migrate import known_revisions
from tieline_server.storage.schema import REVISION

from tests.compat.dump import empty, tables

_HERE = Path(__file__).parent
_DUMPS = sorted(_HERE.glob("schema_*/*.sql.gz"))
_COUNTED = (
    *("series", "referrals", "referral_steps", "uploads", "upload_steps", "broadcasts"),
    *("broadcast_recipients", "broadcast_answers", "inbox", "outbox", "holdings", "items"),
    *("imports", "operators", "queries", "audit_leaves", "assessments"),
)


def _name(dump: Path) -> str:
    return f"{dump.parent.name}-{dump.name.partition('.')[0]}"


@dataclass(frozen=True)
class Brought:
    """A database as an earlier version left it, and as it stands since this one opened it."""

    earlier: Path
    later: Path


@pytest.fixture(scope="module", params=_DUMPS, ids=_name)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Brought:
    """One database, brought forward once for all that is looked at."""
    folder = tmp_path_factory.mktemp("brought")
    made = Brought(folder / "earlier.sqlite3", folder / "later.sqlite3")
    with contextlib.closing(sqlite3.connect(made.earlier)) as filled:
        filled.executescript(gzip.decompress(request.param.read_bytes()).decode())
    made.earlier.chmod(0o600)
    shutil.copy(made.earlier, made.later)
    with _opened(made.later):
        pass
    return made


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


def test_a_database_comes_forward_with_all_its_rows(database: Brought) -> None:
    before = _counts(database.earlier)
    messages = _rows(
        database.earlier, "SELECT id, recipient, envelope, state, sequence FROM outbox"
    )
    sql = "SELECT sender, id, envelope, reply FROM inbox ORDER BY sender, id"
    came = _rows(database.earlier, sql)
    with _opened(database.later) as store:
        for number, recipient, envelope, state, sequence in messages:
            kept = store.read(lambda tx, n=number, to=recipient: tx.outbox.get(to, n))  # type: ignore[misc]
            assert kept is not None
            assert (kept.envelope, kept.state.value, kept.sequence) == (envelope, state, sequence)
        for sender, number, envelope, reply in came:
            found = store.read(lambda tx, s=sender, n=number: tx.inbox.get(s, n))  # type: ignore[misc]
            assert found is not None
            assert (found.envelope, int(found.reply)) == (envelope, reply)
    assert _counts(database.later) == before
    assert _rows(database.later, "SELECT version_num FROM alembic_version") == [(REVISION,)]
    assert _rows(database.later, "PRAGMA integrity_check") == [("ok",)]
    assert _rows(database.later, "PRAGMA foreign_key_check") == []


def test_a_database_comes_forward_once(database: Brought) -> None:
    between = _counts(database.later)
    with _opened(database.later):
        pass
    assert _counts(database.later) == between


def test_every_value_comes_forward(database: Brought) -> None:
    """Row by row: what stood in a column that is still there stands in it unchanged."""
    before, after = _everything(database.earlier), _everything(database.later)
    for table, (columns, rows) in before.items():
        if table in _BY_MIGRATION or table not in after:
            continue
        kept, found = after[table]
        places = [kept.index(one) for one in columns if one in kept]
        mine = [n for n, one in enumerate(columns) if one in kept]
        assert sorted(repr([row[n] for n in mine]) for row in rows) == sorted(
            repr([row[n] for n in places]) for row in found
        ), table


_BY_MIGRATION = {
    "alembic_version",
    "inbox",  # 0004 names the subject of what was refused
    "counters",  # 0005 counts exclusions
    "exclusions",  # 0005 gives them another form; see below
    "import_tallies",  # 0005 counts exclusions
    "standing_lanes",  # 0002 fills it from the inbox
}
"""Tables whose rows a migration changes, on purpose; the tests above and below read them."""


def _everything(path: Path) -> dict[str, tuple[list[str], list[Any]]]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return {
            table: (columns, database.execute(f"SELECT * FROM {table}").fetchall())
            for table, columns in tables(database).items()
        }


def test_what_is_known_good_stays_known_good(database: Brought) -> None:
    told = _everything(database.earlier)["exclusions"]
    kind = told[0].index("kind") if "kind" in told[0] else None
    before = {
        bytes(row[told[0].index("digest")]) if kind is not None else _digest(row) for row in told[1]
    }
    rows = _rows(database.later, "SELECT md5, sha1, sha256 FROM exclusions")
    assert {_digest(row) for row in rows} == before
    tallied = _rows(database.later, "SELECT coalesce(sum(exclusions), 0) FROM import_tallies")
    assert tallied == [(len(rows),)]


def _digest(row: Sequence[Any]) -> bytes:
    return next(bytes(one) for one in row if isinstance(one, bytes))


def test_what_waits_is_counted_as_it_stands(database: Brought) -> None:
    with _opened(database.later) as store:
        told = store.read(lambda tx: list(tx.outbox.destinations()))
    waits = "SELECT recipient, count(*) FROM outbox WHERE state = 'queued' GROUP BY recipient"
    assert {one.agency: one.queued for one in told if one.queued} == dict(
        _rows(database.later, waits)
    )


def test_standings_retractions_and_alarms_read_back(database: Brought) -> None:
    there = _everything(database.earlier)
    with _opened(database.later) as store:
        peers = store.read(lambda tx: tx.standings.peers())
        said = store.read(lambda tx: tx.retractions.standing())
        words = store.read(lambda tx: {agency: tx.standings.mine(agency) for agency in peers})
    sql = "SELECT sender, max(sequence) FROM inbox GROUP BY sender"
    settled = dict(_rows(database.later, sql))
    for agency, word in words.items():
        highest = max((lane.highest for lane in word.lanes.values()), default=0)
        assert highest >= settled.get(agency, 0)
    if "retractions" in there:
        names = there["retractions"][0]
        assert {one.id for one in said} == {
            row[names.index("id")] for row in there["retractions"][1]
        }


_REVISIONS = sorted(known_revisions())


def test_there_is_a_dump_of_every_schema_before_this_one() -> None:
    dumped = {dump.parent.name.removeprefix("schema_") for dump in _DUMPS}
    lacking = sorted(set(_REVISIONS) - {REVISION} - dumped)
    assert not lacking, (
        f"no populated dump of schema {', '.join(lacking)}: take your migration out, run "
        "`make schema-dump`, and put it back (or `make schema-dump REVISION=NNNN` after it)"
    )


@pytest.mark.parametrize("revision", [one for one in _REVISIONS if one != REVISION])
def test_what_a_migration_brought_is_populated_in_its_dump(revision: str, tmp_path: Path) -> None:
    """An empty table would come forward whatever a later migration did to it."""
    number = _REVISIONS.index(revision)
    brought = _tables_of(tmp_path, revision)
    if number:
        brought -= _tables_of(tmp_path, _REVISIONS[number - 1])
    filled = set()
    for dump in _HERE.glob(f"schema_{revision}/*.sql.gz"):
        text = gzip.decompress(dump.read_bytes()).decode()
        filled |= {table for table in brought if f'INSERT INTO "{table}"' in text}
    assert brought - filled <= _OFTEN_EMPTY


_OFTEN_EMPTY = {
    *("audit_pending", "incoming_attachments", "incoming_chunks"),  # for moments only
    *("budgets", "audit_holds"),  # set by hand
    "equivocations",  # only where a log was forked
    "watch_series",  # only where a peer names its series
    "destinations",  # what 0001 kept of them later ones keep otherwise
    *("item_fills", "item_links", "votes", "vote_kinds", "series_references", "exclusions"),
}


def _tables_of(folder: Path, revision: str) -> set[str]:
    path = folder / f"{revision}.sqlite3"
    empty(path, revision)
    with contextlib.closing(sqlite3.connect(path)) as database:
        return set(tables(database))
