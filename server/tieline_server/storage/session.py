"""One transaction as the repositories see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite
from tieline_client.errors import NotFound

from tieline_server.domain.ports import Clock
from tieline_server.storage import schema
from tieline_server.storage.bulk import Bulk
from tieline_server.storage.exclusion_feed import ExclusionFeed, Listed
from tieline_server.storage.index_changes import Change
from tieline_server.storage.index_feed import IndexFeed
from tieline_server.storage.prepared import Prepared, driver_of

_COUNTER = Prepared(
    lambda _: select(schema.counters.c.value).where(schema.counters.c.name == bindparam("counter"))
)


def _insert(table: Table, postgres: bool) -> Any:
    """Return an INSERT that can take ``on_conflict_do_...`` on either database."""
    return postgresql.insert(table) if postgres else sqlite.insert(table)


def _next(postgres: bool) -> Any:
    value = schema.counters.c.value
    statement = _insert(schema.counters, postgres).values(
        name=bindparam("counter"), value=bindparam("count")
    )
    return statement.on_conflict_do_update(
        index_elements=[schema.counters.c.name], set_={"value": value + statement.excluded.value}
    ).returning(value)


_NEXT = Prepared(_next)


@cache
def _new_row(table: Table, names: tuple[str, ...]) -> Prepared:
    values: dict[str, Any] = {name: bindparam(name) for name in names}

    def make(postgres: bool) -> Any:
        statement = _insert(table, postgres).values(values).on_conflict_do_nothing()
        return statement.returning(next(iter(table.primary_key.columns)))

    return Prepared(make)


@cache
def _any_row(table: Table, names: tuple[str, ...]) -> Prepared:
    values: dict[str, Any] = {name: bindparam(name) for name in names}

    def make(postgres: bool) -> Any:
        statement = _insert(table, postgres).values(values)
        keys = list(table.primary_key.columns)
        others = {
            column.name: statement.excluded[column.name]
            for column in table.columns
            if column.name in names and not column.primary_key
        }
        return statement.on_conflict_do_update(index_elements=keys, set_=others)

    return Prepared(make)


@dataclass(slots=True)
class Session:
    """A connection inside a transaction. ``pending`` are audit leaves for the writer to place;
    ``uncommitted`` are the changes of items that this transaction has made so far, ``listed`` what
    it wrote of exclusion lists."""

    connection: Connection
    bulk: Bulk
    clock: Clock
    writing: bool
    postgres: bool
    feed: IndexFeed
    lists: ExclusionFeed
    pending: list[bytes] = field(default_factory=list)
    uncommitted: list[Change] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)
    driver: Any = None
    """The driver's own connection, for `prepared.Prepared`."""

    def __post_init__(self) -> None:
        if self.driver is None:
            self.driver = driver_of(self.connection)

    def now(self) -> datetime:
        """Return the time of the node's clock."""
        return self.clock()

    def lock_items(self) -> None:
        """Let no other transaction resolve, complete or erase items until this one ends.

        From here on the index knows every item. Raises StorageUnavailable while it cannot.
        """
        self.bulk.lock_items(self.connection)
        self.feed.ready(self)

    def locked(self, statement: Select[Any]) -> Select[Any]:
        """Return ``statement``, holding its rows until the end of a writing transaction.

        Services look before they act; under PostgreSQL's READ COMMITTED the row they looked at
        must stay as it was. SQLite has one writer and ignores this.
        """
        return statement.with_for_update() if self.writing and self.postgres else statement

    def upsert(self, table: Table) -> Any:
        """Return an INSERT that can take ``on_conflict_do_...`` on either database."""
        return _insert(table, self.postgres)

    def insert_new(self, table: Table, values: Mapping[str, object]) -> bool:
        """Insert a row unless its key is there; whether it was inserted."""
        return _new_row(table, tuple(values)).run(self, values).fetchone() is not None

    def put(self, table: Table, values: Mapping[str, object]) -> None:
        """Insert a row, or give the one with its key these values."""
        _any_row(table, tuple(values)).run(self, values)

    def next(self, counter: str, count: int = 1) -> int:
        """Reserve ``count`` numbers of a counter and return the first; counters start at 1.

        Numbers come back when the transaction rolls back, so there are no gaps.
        """
        last: int = _NEXT.run(self, {"counter": counter, "count": count}).fetchone()[0]
        return last - count + 1

    def counter(self, counter: str) -> int:
        """Return the last number given out, 0 when none was."""
        found = _COUNTER.run(self, {"counter": counter}).fetchone()
        return int(found[0]) if found else 0

    def change(self, table: Table, key: str, values: Mapping[str, object], what: str) -> None:
        """Update the row with this id; raise NotFound when there is none."""
        done = self.connection.execute(update(table).where(table.c.id == key).values(**values))
        if not done.rowcount:
            raise NotFound(f"{what} {key[:80]} does not exist; copy the id from its list")
