"""What of a file is passed over, said before its records count."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tieline_client.cli.output import say
from tieline_client.formats import FileFormat
from tieline_client.formats.block_reading import unread_columns
from tieline_client.formats.own_csv import MAY_MEAN
from tieline_client.record_stream import source_name

_SHOWN = 20
_CATEGORY = "category (SCHEME:CODE, what a record shows)"


def say_unread(path: Path, found: FileFormat | None = None) -> list[str]:
    """Return the columns that `unread_columns` names, and say them on stderr: one of them may be
    what another tool calls the category. Raises FormatError for a file that is no table."""
    columns = unread_columns(path, found)
    if columns:
        more = f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else ""
        say(
            f"{source_name(path)}: columns that are not read: {', '.join(columns[:_SHOWN])}{more}; "
            "no column is named category, so every record counts"
        )
    return columns


def ambiguous(file: str, columns: Iterable[str]) -> list[str]:
    """Return what to do about each unread column of an import that may be one that is read."""
    return [
        f"{file}: the column {each!r} was not read; it may be "
        f"{' or '.join({'category': _CATEGORY}.get(one, one) for one in MAY_MEAN[each])}. If it "
        "is, take this import back (`tieline hashes remove IMPORT --reason WORDS`, by an officer), "
        "rename the column and import the file again"
        for each in columns
        if each in MAY_MEAN
    ]
