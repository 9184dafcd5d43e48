"""Many rows at once: where the two databases need different words for the same thing.

Lookups take a whole batch in one statement. On SQLite a packed list is cut up by a recursive CTE
(measured.md: two to four times ``IN``), and inserts go to the driver as plain tuples; PostgreSQL
gets arrays and COPY.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    Table,
    any_,
    bindparam,
    column,
    func,
    insert,
    literal,
    select,
)
from sqlalchemy.dialects import sqlite

from tieline_server.storage.packed import Packed, insert_statement
from tieline_server.storage.prepared import driver_of

Rows = Iterable[Sequence[object]]
Ids = npt.NDArray[np.int64]
ByteRows = npt.NDArray[np.uint8]
IMPORT_LOCK = 7_430_001
"""PostgreSQL advisory lock: items are resolved by one transaction at a time."""


class Bulk(Protocol):
    """What repositories use for batches."""

    def insert(
        self, connection: Connection, table: Table, names: Sequence[str], rows: Rows
    ) -> None:
        """Insert rows given as tuples in the order of ``names``."""
        ...

    def insert_columns(
        self, connection: Connection, table: Table, columns: Mapping[str, Packed], count: int
    ) -> None:
        """Insert ``count`` rows given column by column."""
        ...

    def match(
        self,
        connection: Connection,
        target: ColumnElement[Any],
        result: ColumnElement[Any],
        values: Sequence[bytes],
        *where: ColumnElement[bool],
    ) -> list[tuple[bytes, int]]:
        """Return (value, result) for each row whose ``target`` is among equally wide values."""
        ...

    def digests(
        self, connection: Connection, pairs: Select[Any], width: int
    ) -> tuple[Ids, ByteRows]:
        """Return what selects (item id, digest) as ids (n,) and digests (n, width)."""
        ...

    def ids(self, values: Iterable[int]) -> FromClause:
        """Return a one-column relation (``value``) of these numbers."""
        ...

    def lock_items(self, connection: Connection) -> None:
        """Let no other transaction resolve or erase items until this one ends."""
        ...


class SqliteBulk:
    """Bulk on SQLite, where the one writer is lock enough."""

    def insert(
        self, connection: Connection, table: Table, names: Sequence[str], rows: Rows
    ) -> None:
        batch = [tuple(row) for row in rows]
        if batch:
            driver_of(connection).executemany(_insert_text(table, tuple(names)), batch)

    def insert_columns(
        self, connection: Connection, table: Table, columns: Mapping[str, Packed], count: int
    ) -> None:
        if count:
            connection.exec_driver_sql(*insert_statement(table.name, columns, count))

    def match(
        self,
        connection: Connection,
        target: ColumnElement[Any],
        result: ColumnElement[Any],
        values: Sequence[bytes],
        *where: ColumnElement[bool],
    ) -> list[tuple[bytes, int]]:
        if not values:
            return []
        statement = _packed_match(target, result)
        if where:
            statement = statement.where(*where)
        found = connection.execute(
            statement,
            {"packed": b"".join(values), "width": len(values[0]), "count": len(values)},
        )
        return [(row[0], row[1]) for row in found]

    def digests(
        self, connection: Connection, pairs: Select[Any], width: int
    ) -> tuple[Ids, ByteRows]:
        # One row with all in it: the interpreter is free meanwhile, and there are no tuples.
        numbers, digests = pairs.subquery("pairs").c
        hexadecimal = func.group_concat(func.hex(digests), "")
        row = connection.execute(select(func.group_concat(numbers), hexadecimal)).one()
        ids = np.fromstring(row[0] or "", dtype=np.int64, sep=",")
        return ids, _rows(bytes.fromhex(row[1] or ""), width)

    def ids(self, values: Iterable[int]) -> FromClause:
        document = json.dumps([int(value) for value in values])
        return func.json_each(document).table_valued(column("value", Integer), name="ids")

    def lock_items(self, connection: Connection) -> None:
        """Nothing to do: there is one writer."""


class PostgresBulk:
    """Bulk on PostgreSQL."""

    def insert(
        self, connection: Connection, table: Table, names: Sequence[str], rows: Rows
    ) -> None:
        import psycopg  # noqa: PLC0415 - slow, and not needed on SQLite

        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        statement = psycopg.sql.SQL("COPY {} ({}) FROM STDIN").format(
            psycopg.sql.Identifier(table.name),
            psycopg.sql.SQL(", ").join(map(psycopg.sql.Identifier, names)),
        )
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)

    def insert_columns(
        self, connection: Connection, table: Table, columns: Mapping[str, Packed], count: int
    ) -> None:
        if count:
            rows = zip(*(column.values() for column in columns.values()), strict=False)
            self.insert(connection, table, list(columns), islice(rows, count))

    def match(
        self,
        connection: Connection,
        target: ColumnElement[Any],
        result: ColumnElement[Any],
        values: Sequence[bytes],
        *where: ColumnElement[bool],
    ) -> list[tuple[bytes, int]]:
        if not values:
            return []
        wanted = bindparam("wanted", type_=ARRAY(LargeBinary))
        statement = select(target, result).where(target == any_(wanted), *where)
        found = connection.execute(statement, {"wanted": list(values)})
        return [(row[0], row[1]) for row in found]

    def digests(
        self, connection: Connection, pairs: Select[Any], width: int
    ) -> tuple[Ids, ByteRows]:
        numbers, digests = pairs.subquery("pairs").c
        joined = func.string_agg(digests, literal(b"", LargeBinary))
        row = connection.execute(select(func.array_agg(numbers), joined)).one()
        return np.array(row[0] or [], dtype=np.int64), _rows(row[1] or b"", width)

    def ids(self, values: Iterable[int]) -> FromClause:
        wanted = literal([int(value) for value in values], ARRAY(BigInteger))
        return (
            func.unnest(wanted)
            .table_valued(column("value", BigInteger), name="ids")
            .render_derived()
        )

    def lock_items(self, connection: Connection) -> None:
        connection.execute(select(func.pg_advisory_xact_lock(IMPORT_LOCK)))


def _rows(packed: bytes, width: int) -> ByteRows:
    return np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)


@lru_cache(maxsize=64)
def _insert_text(table: Table, names: tuple[str, ...]) -> str:
    statement = insert(table).values({name: bindparam(name) for name in names})
    compiled = statement.compile(dialect=sqlite.dialect(), column_keys=list(names))
    assert compiled.positiontup == list(names), "placeholders follow the table's column order"
    return str(compiled)


@lru_cache(maxsize=64)
def _packed_match(target: Column[Any], result: Column[Any]) -> Select[Any]:
    width, count = bindparam("width", type_=Integer), bindparam("count", type_=Integer)
    packed = bindparam("packed", type_=LargeBinary)
    counter = select(literal(0).label("i")).cte("counter", recursive=True)
    counter = counter.union_all(select(counter.c.i + 1).where(counter.c.i + 1 < count))
    piece = func.substr(packed, counter.c.i * width + 1, width)
    return select(target, result).select_from(counter).join(target.table, target == piece)
