"""NSRL reference data, the known-good files of NIST: RDSv2 (CSV) and RDSv3 (SQLite).

These lists are no holdings; they load as exclusions. An RDSv3 file is a database that someone else
wrote, so it is opened read-only and may do nothing but select from its own tables and views.
"""

from __future__ import annotations

import csv
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError
from tieline_client.formats.fields import BadRecord, check_identified, read_count, read_digest
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.tabular import column
from tieline_client.formats.text import Progress
from tieline_client.limits import SQLITE_STEPS_PER_FETCH

HEADER_V2 = (
    "SHA-1",
    "MD5",
    "CRC32",
    "FileName",
    "FileSize",
    "ProductCode",
    "OpSystemCode",
    "SpecialCode",
)
SQLITE_MAGIC = b"SQLite format 3\0"
_VIEWS = ("FILE", "METADATA", "DISTINCT_HASH")
"""In this order: DISTINCT_HASH would first be sorted as a whole."""
KINDS = {"sha256": DigestKind.SHA256, "sha1": DigestKind.SHA1, "md5": DigestKind.MD5}
_SIZES = ("file_size", "bytes")
_MARKS_V2 = frozenset(("filename", "filesize", "productcode", "crc32", "opsystemcode"))

_ALLOWED_ACTIONS = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ)
_ALLOWED_FUNCTIONS = ("upper", "lower", "coalesce", "ifnull", "hex", "replace", "substr", "trim")
_VALUE_BYTES = 1_000_000
_STEPS_PER_CALL = 1_000_000
_ROWS_PER_FETCH = 1_000


def is_nsrl_v2(columns: Collection[str]) -> bool:
    """Whether normalised column names (tabular.column) are those of NSRLFile.txt."""
    return "sha1" in columns and len(_MARKS_V2.intersection(columns)) >= 3


def read_nsrl_v2(lines: Iterable[str], name: str) -> Iterator[Record | Rejected]:
    """Yield the files of an RDSv2 list, its lines decoded as ISO-8859-1.

    A file name never spans lines, so every line is parsed for itself: broken quotes in one name
    cost one record. Raises FormatError without the header.
    """
    flow = iter(lines)
    columns = read_header(next(flow, ""), name)
    number = 0
    for line in flow:
        if line.strip():
            number += 1
            yield read_row(number, columns, line)


def read_header(line: str, name: str) -> list[str]:
    """Return the columns of an RDSv2 list. Raises FormatError."""
    try:
        columns = [column(cell) for cell in _cells(line)]
    except BadRecord:
        columns = []
    if not is_nsrl_v2(columns):
        raise FormatError(name, None, f"not NSRL RDSv2: its header is {','.join(HEADER_V2)}")
    return columns


def read_row(number: int, columns: list[str], line: str) -> Record | Rejected:
    """Return the record of one line of an RDSv2 list."""
    try:
        cells = _cells(line)
        if len(cells) != len(columns):
            raise BadRecord(f"{len(cells)} cells where the header has {len(columns)} columns")
        row = dict(zip(columns, cells, strict=True))
        return _record(number, row, row.get("filesize"))
    except BadRecord as error:
        return Rejected(number, error.message)


def _cells(line: str) -> list[str]:
    try:
        return next(csv.reader([line]), [])
    except csv.Error as error:
        raise BadRecord(f"the line's quotes are broken: {error}") from None


def _record(number: int, row: dict[str, Any], size: object) -> Record:
    notes: list[str] = []
    record = Record(number)
    for key, kind in KINDS.items():
        if key in row:
            setattr(record, key, read_digest(kind, row[key]))
    record.size = read_count(size, "size", notes)
    check_identified(record)
    record.notes = tuple(notes)
    return record


def read_nsrl_v3(
    path: Path, name: str, on_progress: Progress | None = None
) -> Iterator[Record | Rejected]:
    """Yield the rows of FILE, METADATA or DISTINCT_HASH, whichever is there first.

    Rows repeat where one file stands in several packages. Progress is told once, at the end: a
    database does not say how far a query has come. Raises FormatError for a database that is
    damaged, has none of these, or is made to compute without end.
    """
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(uri, uri=True)) as database:
            steps = _confine(database)
            view, columns = _find_view(database, name)
            selected = [key for key in (*KINDS, *_SIZES) if key in columns]
            quoted = ", ".join(f'"{key}"' for key in selected)
            cursor = database.execute(f'SELECT {quoted} FROM "{view}"')  # noqa: S608 (constants)
            number = 0
            while rows := cursor.fetchmany(_ROWS_PER_FETCH):
                steps.taken = 0
                for values in rows:
                    number += 1
                    yield _v3_record(number, dict(zip(selected, values, strict=True)))
    except (sqlite3.Error, UnicodeError) as error:
        why = str(error) if str(error).isprintable() else "unreadable"
        raise FormatError(name, None, f"the database cannot be read: {why}") from None
    if on_progress is not None:
        on_progress(path.stat().st_size)


def _v3_record(number: int, row: dict[str, Any]) -> Record | Rejected:
    try:
        return _record(number, row, next((row[key] for key in _SIZES if key in row), None))
    except BadRecord as error:
        return Rejected(number, error.message)


class _Steps:
    """Stops a query that computes without yielding rows."""

    def __init__(self) -> None:
        self.taken = 0

    def __call__(self) -> int:
        self.taken += _STEPS_PER_CALL
        return int(self.taken > SQLITE_STEPS_PER_FETCH)


def _confine(database: sqlite3.Connection) -> _Steps:
    """Let the connection select and nothing else, within bounds of time and memory."""
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA query_only = ON")
    database.execute("PRAGMA mmap_size = 0")
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _VALUE_BYTES)
    database.text_factory = lambda value: value.decode("ascii", "replace")
    steps = _Steps()
    database.set_progress_handler(steps, _STEPS_PER_CALL)
    database.set_authorizer(_authorize)
    return steps


def _authorize(
    action: int, _table: str | None, function: str | None, _database: str | None, _by: str | None
) -> int:
    if action in _ALLOWED_ACTIONS:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and (function or "").lower() in _ALLOWED_FUNCTIONS:
        return sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY


def _find_view(database: sqlite3.Connection, name: str) -> tuple[str, set[str]]:
    names = {
        str(row[0]).upper()
        for row in database.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') LIMIT 1000"
        )
    }
    for view in _VIEWS:
        if view in names:
            cursor = database.execute(f'SELECT * FROM "{view}" LIMIT 0')  # noqa: S608 (constants)
            columns = {str(each[0]).lower() for each in cursor.description}
            if not KINDS.keys().isdisjoint(columns):
                return view, columns
    raise FormatError(
        name, None, f"not NSRL RDSv3: the database has none of {', '.join(_VIEWS)} with digests"
    )
