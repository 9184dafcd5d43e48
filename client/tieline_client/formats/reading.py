"""The one way in: open a file that a user brought and read its records, whatever its format.

A file flows through once, in chunks: chunks of UTF-8 (text.py) for JSON, bytes as they are for
XML, lines for the rest; the reader of the format turns them into records. A record that cannot be
used comes out as Rejected, in its place; a file that is broken ends the flow with FormatError, and
whoever imports it keeps nothing of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TypeVar

from tieline_client.formats.case import read_case
from tieline_client.formats.detect import FileFormat, detect_head, file_name, read_head, unreadable
from tieline_client.formats.hashdeep import read_hashdeep
from tieline_client.formats.hashlists import read_list
from tieline_client.formats.icse import read_icse
from tieline_client.formats.ncmec import read_ncmec
from tieline_client.formats.nsrl import SQLITE_MAGIC, read_nsrl_v2, read_nsrl_v3
from tieline_client.formats.own_csv import read_own_csv
from tieline_client.formats.record import Record, Rejected
from tieline_client.formats.text import (
    Progress,
    file_lines,
    raw_chunks,
    split_mark,
    utf8_chunks,
)
from tieline_client.formats.vics import read_vics

T = TypeVar("T")


def open_records(
    path: Path,
    format: FileFormat | None = None,  # noqa: A002 (the word of the command line)
    *,
    bare_64_is_pdq: bool = False,
    on_progress: Progress | None = None,
) -> Iterator[Record | Rejected]:
    """Return the records of a regular file, read as they are asked for.

    ``format`` None means: as detected. ``bare_64_is_pdq`` takes bare 64 hex digits of a list for
    PDQ. ``on_progress`` is called with the bytes read so far. Raises FormatError at once when the
    file cannot be opened or is of no known format, and during the reading when it turns out to be
    broken.
    """
    name = file_name(path)
    head = read_head(path)
    found = detect_head(head, name) if format is None else format
    reader = open_reader(
        path, name, found, head, bare_64_is_pdq=bare_64_is_pdq, on_progress=on_progress
    )
    return guarded(reader, name)


def open_reader(
    path: Path,
    name: str,
    found: FileFormat,
    head: bytes,
    *,
    bare_64_is_pdq: bool,
    on_progress: Progress | None,
) -> Iterator[Record | Rejected]:
    """Return the record reader of a format; ``head`` are the file's first bytes."""
    match found:
        case FileFormat.VICS:
            return read_vics(utf8_chunks(path, name, on_progress), name)
        case FileFormat.CASE:
            return read_case(utf8_chunks(path, name), utf8_chunks(path, name, on_progress), name)
        case FileFormat.NCMEC:
            return read_ncmec(raw_chunks(path, on_progress), name)
        case FileFormat.NSRL if head.startswith(SQLITE_MAGIC):
            return read_nsrl_v3(path, name, on_progress)
        case FileFormat.NSRL if split_mark(head)[1]:  # saved again by an editor
            return read_nsrl_v2(_lines(file_lines(path, name, on_progress)), name)
        case FileFormat.NSRL:
            return read_nsrl_v2(_lines(file_lines(path, name, on_progress, "latin-1")), name)
        case FileFormat.ICSE:
            return read_icse(file_lines(path, name, on_progress), name)
        case FileFormat.HASHDEEP:
            return read_hashdeep(_lines(file_lines(path, name, on_progress)), name)
        case FileFormat.CSV:
            lines = file_lines(path, name, on_progress)
            return read_own_csv(file_lines(path, name), lines, name)
        case FileFormat.LIST:
            lines = file_lines(path, name, on_progress)
            return read_list(_lines(lines), bare_64_is_pdq=bare_64_is_pdq)


def _lines(blocks: Iterator[list[str]]) -> Iterator[str]:
    return chain.from_iterable(blocks)


def guarded(reader: Iterator[T], name: str) -> Iterator[T]:
    """Yield what a reader does; what the system does not let it read becomes FormatError."""
    try:
        yield from reader
    except OSError as error:
        raise unreadable(name, error) from None
