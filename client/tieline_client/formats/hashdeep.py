"""hashdeep's own format: ``%%%% HASHDEEP-1.0``, the columns, comments, one file a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tieline_client.digests import DigestKind
from tieline_client.errors import FormatError
from tieline_client.formats.fields import (
    BadRecord,
    check_identified,
    read_count,
    read_digest,
    shown,
)
from tieline_client.formats.record import Record, Rejected

MAGIC = "%%%% HASHDEEP-1.0"
MARK = "%%%%"
_COLUMNS = f"{MARK} "
KINDS = {"md5": DigestKind.MD5, "sha1": DigestKind.SHA1, "sha256": DigestKind.SHA256}


def read_hashdeep(lines: Iterable[str], name: str) -> Iterator[Record | Rejected]:
    """Yield the files of a hashdeep list. Raises FormatError without its two header lines."""
    flow = iter(lines)
    columns = read_header(next(flow, ""), next(flow, ""), name)
    number = 0
    for line in flow:
        if line.startswith(MARK):  # outputs that were joined
            columns = next_columns(columns, line, name)
            continue
        if not is_record(line):
            continue
        number += 1
        yield read_row(number, columns, line)


def read_header(first: str, second: str, name: str) -> list[str]:
    """Return the columns that the first two lines state. Raises FormatError."""
    if first.rstrip() != MAGIC:
        raise FormatError(name, None, f"not hashdeep: its first line is {MAGIC}")
    return _columns(second, name)


def next_columns(columns: list[str], line: str, name: str) -> list[str]:
    """Return the columns after a line that begins with MARK. Raises FormatError."""
    if line.startswith(_COLUMNS) and line.rstrip() != MAGIC:
        return _columns(line, name)
    return columns


def is_record(line: str) -> bool:
    """Whether a line that does not begin with MARK is a record, good or bad."""
    return not line.startswith("##") and bool(line.strip())


def read_row(number: int, columns: list[str], line: str) -> Record | Rejected:
    """Return the record of one line."""
    try:
        return _record(number, columns, line)
    except BadRecord as error:
        return Rejected(number, error.message)


def _columns(line: str, name: str) -> list[str]:
    columns = line.removeprefix(_COLUMNS).strip().lower().split(",")
    if not line.startswith(_COLUMNS) or KINDS.keys().isdisjoint(columns):
        raise FormatError(
            name, None, f"hashdeep's second line {shown(line)} names no md5, sha1 or sha256"
        )
    return columns


def _record(number: int, columns: list[str], line: str) -> Record:
    if "\0" in line:
        raise BadRecord("the line contains a NUL character")
    # The name is last and may hold commas.
    cells = line.split(",", len(columns) - 1)
    if len(cells) != len(columns):
        raise BadRecord(f"{len(cells)} fields where the header has {len(columns)}")
    notes: list[str] = []
    record = Record(number, entire=True)
    for column, cell in zip(columns, cells, strict=True):
        if column == "size":
            record.size = read_count(cell, "size", notes)
        elif column in KINDS:
            setattr(record, column, read_digest(KINDS[column], cell))
    check_identified(record)
    record.notes = tuple(notes)
    return record
