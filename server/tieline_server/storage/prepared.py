"""Statements compiled once and said to the driver directly.

SQLAlchemy takes several times as long to execute a small statement as the database does. What is
said on the way of every question is still written in its terms, and compiled by it, but once; from
then on a mapping of values goes to the driver's connection, in the transaction that is open there.
Rows come back as the driver's plain tuples, times as whole microseconds (`types.UtcTime`), unless
`Prepared.rows` is asked for them.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

from tieline_server.storage.types import UtcTime, Words, moment_of, storable

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

_Process = Callable[[Any], Any] | None


class Prepared:
    """One statement on either database. ``make`` is told whether it is for PostgreSQL."""

    def __init__(self, make: Callable[[bool], Executable]) -> None:
        self._make = make
        self._ready: dict[bool, _Ready] = {}

    def run(self, session: Session, values: Mapping[str, object]) -> Any:
        """Execute it and return the driver's cursor. Raises what the driver raises."""
        ready = self._ready.get(session.postgres)
        if ready is None:
            statement = self._make(session.postgres)
            ready = self._ready[session.postgres] = _Ready(session.connection, statement)
        return session.driver.execute(ready.text, ready.bound(values))

    def rows(self, session: Session, values: Mapping[str, object]) -> list[Any]:
        """Execute a SELECT of columns; return named tuples of the values that SQLAlchemy gives."""
        cursor = self.run(session, values)
        return self._ready[session.postgres].read(cursor.fetchall())


class _Ready:
    """The text in the driver's own style, and how each value is brought into its form."""

    __slots__ = ("_binds", "_constants", "_make", "_positional", "_readers", "text")

    def __init__(self, connection: Connection, statement: Executable) -> None:
        compiled = statement.compile(dialect=connection.dialect)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._positional = bool(compiled.positional)
        names = compiled.positiontup if compiled.positiontup is not None else list(compiled.binds)
        self._binds = [
            (name, _process(compiled.binds[name].type, connection.dialect)) for name in names
        ]
        self._constants = {
            name: bind.value for name, bind in compiled.binds.items() if not bind.required
        }
        selected = list(statement.selected_columns) if isinstance(statement, Select) else []
        row = namedtuple("row", [column.name for column in selected])  # type: ignore[misc]
        self._make = row._make
        self._readers = [_read(column.type, connection.dialect) for column in selected]

    def read(self, found: Sequence[Sequence[Any]]) -> list[Any]:
        return [
            self._make(
                value if read is None else read(value)
                for value, read in zip(row, self._readers, strict=True)
            )
            for row in found
        ]

    def bound(self, values: Mapping[str, object]) -> Any:
        if self._constants:
            values = {**self._constants, **values}
        made = [
            values[name] if process is None else process(values[name])
            for name, process in self._binds
        ]
        if self._positional:
            return made
        return {name: value for (name, _), value in zip(self._binds, made, strict=True)}


def _process(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    """Return how a value of this type is brought into the driver's form; None: as it is."""
    if isinstance(kind, Words):  # what SQLAlchemy would call, without what it puts around it
        return lambda words: None if words is None else storable(words)
    process: _Process = kind.dialect_impl(dialect).bind_processor(dialect)
    return process


def _read(kind: TypeEngine[Any], dialect: Dialect) -> _Process:
    """Return how a value of this type is read from the driver's form; None: as it is."""
    if isinstance(kind, UtcTime):
        return moment_of
    process: _Process = kind.dialect_impl(dialect).result_processor(dialect, None)
    return process


def driver_of(connection: Connection) -> Any:
    """Return the driver's own connection (sqlite3 or psycopg), which takes part in what is open."""
    return connection.connection.driver_connection
