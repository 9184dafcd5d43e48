"""Tips of a public site as CSV: ``clue;text;contact;source;country;received``, one tip a row.

``clue`` and ``text`` are needed, the other columns and cells may be missing. The delimiter may be
``;``, ``,`` or a tab; text with line breaks stands in quotes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tieline_client.errors import InvalidInput
from tieline_client.formats.fields import shown
from tieline_client.formats.record import Rejected
from tieline_client.formats.tabular import Row, read_table
from tieline_client.formats.text import Progress, file_lines
from tieline_client.formats.times import parse_time
from tieline_client.identifiers import check_country
from tieline_client.limits import FREE_TEXT_CHARS, NAME_CHARS

HEADER = ("clue", "text", "contact", "source", "country", "received")
_CLUE_CHARS = 36


@dataclass(frozen=True, slots=True)
class TipRow:
    """One row; ``number`` counts rows from 1 below the header."""

    number: int
    clue: str
    text: str
    contact: str = ""
    source: str = ""
    country: str = ""
    received: datetime | None = None


def is_tips(columns: list[str]) -> bool:
    """Whether normalised column names (tabular.column) are those of a file of tips."""
    return {"clue", "text"} <= set(columns)


def read_tips(path: Path, on_progress: Progress | None = None) -> Iterator[TipRow | Rejected]:
    """Yield the rows of a file. Raises FormatError when the table is broken."""
    blocks = file_lines(path, path.name, on_progress)
    for number, row in read_table(blocks, path.name, is_tips, HEADER):
        if isinstance(row, Rejected):
            yield row
            continue
        try:
            yield _tip(number, row)
        except InvalidInput as error:
            yield Rejected(number, error.message)


def _tip(number: int, row: Row) -> TipRow:
    clue, text = row["clue"].strip(), row["text"].strip()
    if not clue or len(clue) > _CLUE_CHARS:
        raise InvalidInput(f"{shown(clue)} is no clue's id")
    if not text:
        raise InvalidInput("the tip has no words")
    if len(text) > FREE_TEXT_CHARS:
        raise InvalidInput(f"the tip is longer than {FREE_TEXT_CHARS} characters")
    for name in ("text", "contact", "source"):
        if any("\ud800" <= char <= "\udfff" for char in row.get(name, "")):
            raise InvalidInput(f"the {name} is no UTF-8 text")
    contact, source = row.get("contact", "").strip(), row.get("source", "").strip()
    if max(len(contact), len(source)) > NAME_CHARS:
        raise InvalidInput(f"contact and source have at most {NAME_CHARS} characters")
    country, received = row.get("country", "").strip().upper(), row.get("received", "").strip()
    try:
        at = parse_time(received) if received else None
    except ValueError:
        raise InvalidInput(f"{shown(received)} is no time") from None
    return TipRow(
        number,
        clue,
        text,
        contact,
        source,
        check_country(country) if country else "",
        at,
    )
