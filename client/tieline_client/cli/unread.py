"""What of a file is passed over, said before its records count."""

from __future__ import annotations

from pathlib import Path

from tieline_client.cli.output import say
from tieline_client.formats import FileFormat
from tieline_client.formats.block_reading import unread_columns
from tieline_client.record_stream import source_name

_SHOWN = 20


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
