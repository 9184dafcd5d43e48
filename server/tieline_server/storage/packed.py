"""Columns of a batch on their way into a table, without an object for each value.

SQLite takes each column as one packed value and cuts it up in a single statement: a third of what
row by row costs, and the interpreter is free meanwhile. PostgreSQL takes rows (COPY).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

import numpy as np
import numpy.typing as npt

Numbers64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
_PAD = "\x01"
"""Fills texts up to one width; `storable` texts of the wire hold no control characters."""


class Packed(Protocol):
    """One column of n values."""

    def values(self) -> Iterable[object]:
        """Yield the values; as many as there are rows, or without end."""
        ...

    def cut(self) -> tuple[str, list[object]]:
        """Return an expression over the row number ``i`` from 0, with ``?`` for its parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Same:
    """One value for every row."""

    value: object

    def values(self) -> Iterable[object]:
        return repeat(self.value)

    def cut(self) -> tuple[str, list[object]]:
        return "?", [self.value]


@dataclass(frozen=True, slots=True)
class Bytes:
    """``rows`` (n, width) uint8; NULL where ``present`` (n,) is False."""

    rows: npt.NDArray[np.uint8]
    present: Mask

    def values(self) -> Iterable[object]:
        packed, width = self.rows.tobytes(), self.rows.shape[1]
        return [
            packed[at * width : (at + 1) * width] if here else None
            for at, here in enumerate(self.present.tolist())
        ]

    def cut(self) -> tuple[str, list[object]]:
        width = self.rows.shape[1]
        piece = f"substr(?, i * {width} + 1, {width})"
        if self.present.all():
            return piece, [self.rows.tobytes()]
        here = self.present.astype(np.uint8).tobytes()
        return f"CASE substr(?, i + 1, 1) WHEN x'01' THEN {piece} END", [here, self.rows.tobytes()]


@dataclass(frozen=True, slots=True)
class Numbers:
    """``numbers`` (n,) int64; NULL where negative."""

    numbers: Numbers64

    def values(self) -> Iterable[object]:
        return [None if value < 0 else value for value in self.numbers.tolist()]

    def cut(self) -> tuple[str, list[object]]:
        most = int(self.numbers.max(initial=0))
        digits = _decimal(np.maximum(self.numbers, 0), len(str(most)))
        width = digits.shape[1]
        piece = f"CAST(substr(?, i * {width} + 1, {width}) AS INTEGER)"
        if (self.numbers >= 0).all():
            return piece, [digits.tobytes()]
        here = (self.numbers >= 0).astype(np.uint8).tobytes()
        return f"CASE substr(?, i + 1, 1) WHEN x'01' THEN {piece} END", [here, digits.tobytes()]


@dataclass(frozen=True, slots=True)
class Flags(Numbers):
    """0 is false, 1 is true; NULL where negative."""

    def values(self) -> Iterable[object]:
        return [None if value < 0 else bool(value) for value in self.numbers.tolist()]


@dataclass(frozen=True, slots=True)
class Texts:
    """``at`` (n,) are indexes into ``texts``; NULL where negative."""

    at: npt.NDArray[np.int32]
    texts: tuple[str, ...]

    def values(self) -> Iterable[object]:
        return [None if at < 0 else self.texts[at] for at in self.at.tolist()]

    def cut(self) -> tuple[str, list[object]]:
        encoded = [text.encode() for text in self.texts]
        width = max(map(len, encoded), default=1) or 1
        packed = b"".join(text.ljust(width, _PAD.encode()) for text in (*encoded, b""))
        rows = np.frombuffer(packed, dtype=np.uint8).reshape(-1, width)
        expression, parameters = Bytes(rows[self.at], self.at >= 0).cut()
        text = f"rtrim(CAST({expression} AS TEXT), char({ord(_PAD)}))"
        return text, parameters


def insert_statement(
    table: str, columns: Mapping[str, Packed], count: int
) -> tuple[str, tuple[object, ...]]:
    """Return SQLite's INSERT of ``count`` rows from packed columns, with its parameters."""
    expressions, parameters = [], []
    for column in columns.values():
        expression, values = column.cut()
        expressions.append(expression)
        parameters += values
    # The row numbers come first in the text, so their parameter does, too.
    numbers = (
        "WITH RECURSIVE numbers(i) AS "
        "(SELECT 0 UNION ALL SELECT i + 1 FROM numbers WHERE i + 1 < ?)"
    )
    into = f"INSERT INTO {table} ({', '.join(columns)})"
    text = f"{numbers} {into} SELECT {', '.join(expressions)} FROM numbers"  # noqa: S608 - our own
    return text, (count, *parameters)


def _decimal(numbers: Numbers64, width: int) -> npt.NDArray[np.uint8]:
    """Return numbers as (n, width) ASCII digits."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (numbers[:, None] // powers % 10 + ord("0")).astype(np.uint8)
