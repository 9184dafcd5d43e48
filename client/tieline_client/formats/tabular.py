"""Delimited tables with a header: rows as dictionaries, whatever the order of the columns."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator

from tieline_client.errors import FormatError
from tieline_client.formats.fields import shown
from tieline_client.formats.record import Rejected
from tieline_client.limits import LINE_BYTES, TABLE_COLUMNS

DELIMITERS = (";", ",", "\t")
"""``;`` is the formats' own; the others are what spreadsheets make of it."""

Row = dict[str, str]


def column(name: str) -> str:
    """Return a column's name without case, spaces and punctuation: ``Image ID`` is ``imageid``."""
    return "".join(char for char in name.lower() if char.isalnum())


def parse_header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter and the columns of a header line. Raises ValueError when it is none."""
    delimiter = next((mark for mark in DELIMITERS if mark in line), DELIMITERS[0])
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return delimiter, [column(name) for name in names]


def read_table(
    lines: Iterable[str], name: str, is_ours: Callable[[list[str]], bool], header: Iterable[str]
) -> Iterator[tuple[int, Row | Rejected]]:
    """Yield (number from 1, row) for each row below the header; blank lines are no rows.

    A row with another number of cells than the header has columns is Rejected. Raises FormatError
    for a header that is missing, ambiguous or not ``is_ours`` (``header`` is then shown as an
    example), and for broken quotes, after which nothing could be told apart.
    """
    flow = iter(lines)
    first = next((line for line in flow if line.strip()), "")
    try:
        delimiter, columns = parse_header(first)
    except ValueError:
        raise FormatError(name, None, "the header's quotes or line ends are broken") from None
    if not 0 < len(columns) <= TABLE_COLUMNS:
        raise FormatError(name, None, f"the header has not 1 to {TABLE_COLUMNS} columns")
    if not is_ours(columns):
        raise FormatError(name, None, f"the header is not that of the format: {';'.join(header)}")
    named = [each for each in columns if each]
    if len(set(named)) != len(named):
        raise FormatError(name, None, "a column of the header stands twice")
    bounded = _Bounded(flow, name)
    rows = csv.reader(bounded, delimiter=delimiter, strict=True)
    number = 0
    try:
        for cells in rows:
            bounded.row_ends()
            if not cells or (len(cells) == 1 and not cells[0].strip()):
                continue
            number += 1
            yield number, _row(columns, cells, number)
    except csv.Error as error:
        raise FormatError(
            name, number + 1, f"the table's quotes or line ends are broken: {error}"
        ) from None


def _row(columns: list[str], cells: list[str], number: int) -> Row | Rejected:
    width = len(columns)
    if len(cells) != width:
        # Trailing delimiters make empty cells that say nothing.
        if len(cells) < width or any(cell.strip() for cell in cells[width:]):
            return Rejected(number, f"{len(cells)} cells where the header has {width} columns")
        cells = cells[:width]
    row = dict(zip(columns, cells, strict=True))
    if any("\0" in cell for cell in cells):
        culprit = next(name for name, cell in row.items() if "\0" in cell)
        return Rejected(number, f"{shown(culprit)} contains a NUL character")
    return row


class _Bounded:
    """Hands lines to the csv module, which would join them without end on an open quote."""

    def __init__(self, lines: Iterator[str], name: str) -> None:
        self._lines = lines
        self._name = name
        self._row_chars = 0

    def row_ends(self) -> None:
        self._row_chars = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._row_chars += len(line)
            if self._row_chars > LINE_BYTES:
                raise FormatError(
                    self._name, None, f"a row is longer than {LINE_BYTES} bytes; a quote is open"
                )
            yield f"{line}\n"
