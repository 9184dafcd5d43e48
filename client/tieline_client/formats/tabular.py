"""Delimited tables with a header: blocks of rows, or rows one by one as dictionaries.

A block of lines without a quote is split where the delimiter stands, all rows at once when each has
the cells of the header; only where quotes are does the csv module look at every character. All ways
are the same table.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import methodcaller

from tieline_client.errors import FormatError
from tieline_client.formats.fields import shown
from tieline_client.formats.record import Rejected
from tieline_client.limits import LINE_BYTES, TABLE_COLUMNS

DELIMITERS = (";", ",", "\t")
"""``;`` is the formats' own; the others are what spreadsheets make of it."""

Row = dict[str, str]
Cells = list[str]


def column(name: str) -> str:
    """Return a column's name without case, spaces and punctuation: ``Image ID`` is ``imageid``."""
    return "".join(char for char in name.lower() if char.isalnum())


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "'")
"""What begins a formula, in full widths too (as inert.py has it), and the mark against one."""


def cell_out(text: str) -> str:
    """Return a text as it stands in a table that a spreadsheet may open: never as a formula.

    What a spreadsheet would take for one gets an apostrophe in front, as spreadsheets do it
    themselves; so does a text that begins with an apostrophe, so that `cell_in` brings both back.
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def cell_in(text: str | None) -> str | None:
    """Return what `cell_out` made a cell of; any other cell as it is."""
    if text and text[0] == "'" and text[1:].startswith(_FORMULA):
        return text[1:]
    return text


def is_content(line: str) -> bool:
    """Whether a line is neither blank nor a comment, which begins with ``#``."""
    text = line.lstrip()
    return bool(text) and not text.startswith("#")


def parse_header(line: str) -> tuple[str, list[str]]:
    """Return the delimiter and the columns of a header line. Raises ValueError when it is none."""
    delimiter = next((mark for mark in DELIMITERS if mark in line), DELIMITERS[0])
    try:
        names = next(csv.reader([line], delimiter=delimiter, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return delimiter, [column(name) for name in names]


def read_table(
    blocks: Iterable[list[str]],
    name: str,
    is_ours: Callable[[list[str]], bool],
    header: Iterable[str],
) -> Iterator[tuple[int, Row | Rejected]]:
    """Yield (number from 1, row) for each row below the header; see `Table`."""
    table = Table(blocks, name, is_ours, header)
    for first, rows in table.blocks():
        for number, cells in enumerate(rows, first):
            yield number, table.row(number, cells)


class Rows:
    """The rows of a block.

    Where each has one cell for each column they are kept as one list of cells, row after row.
    """

    def __init__(self, cells: list[str], rows: list[Cells], width: int) -> None:
        self._cells, self._rows, self._width = cells, rows, width

    def __len__(self) -> int:
        return len(self._rows) or len(self._cells) // self._width

    def __getitem__(self, at: int) -> Cells:
        if self._rows:
            return self._rows[at]
        return self._cells[at * self._width : (at + 1) * self._width]

    def __iter__(self) -> Iterator[Cells]:
        return map(self.__getitem__, range(len(self)))

    def columns(self) -> tuple[list[Sequence[str]], set[int]]:
        """Return the cells column by column, and the rows left blank in them: those with another
        number of cells, or with a NUL character."""
        width, odd = self._width, set()
        if not self._rows and "\0" not in "".join(self._cells):
            return [self._cells[at::width] for at in range(width)], set()
        blank = [""] * width
        rows = []
        for at, cells in enumerate(self):
            ordinary = len(cells) == width and "\0" not in "".join(cells)
            rows.append(cells if ordinary else blank)
            if not ordinary:
                odd.add(at)
        return list(zip(*rows, strict=True)), odd


class Table:
    """The rows of a table given as blocks of lines (text.py); blank lines are no rows, and comments
    may stand before the header."""

    def __init__(
        self,
        blocks: Iterable[list[str]],
        name: str,
        is_ours: Callable[[list[str]], bool],
        header: Iterable[str],
    ) -> None:
        """Read the header.

        Raises FormatError when it is missing, ambiguous or not ``is_ours`` (``header`` is then
        shown as an example).
        """
        self._name = name
        self._feed = _Feed(blocks, name)
        first = next(filter(is_content, self._feed), "")
        try:
            self._delimiter, self.columns = parse_header(first)
        except ValueError:
            raise FormatError(name, None, "the header's quotes or line ends are broken") from None
        if not 0 < len(self.columns) <= TABLE_COLUMNS:
            raise FormatError(name, None, f"the header has not 1 to {TABLE_COLUMNS} columns")
        if not is_ours(self.columns):
            raise FormatError(
                name, None, f"the header is not that of the format: {';'.join(header)}"
            )
        named = [each for each in self.columns if each]
        if len(set(named)) != len(named):
            raise FormatError(name, None, "a column of the header stands twice")

    def blocks(self) -> Iterator[tuple[int, Rows]]:
        """Yield (number of the first, rows) until the table ends.

        Raises FormatError for broken quotes, after which nothing could be told apart.
        """
        number = 1
        while lines := self._feed.block():
            rows = self._split(lines)
            if rows is None:
                rows = self._parsed(lines, number)
            if len(rows):
                yield number, rows
            number += len(rows)

    def row(self, number: int, cells: Cells) -> Row | Rejected:
        """Return a row by its columns; one with another number of cells than columns, or with a
        NUL character, is Rejected."""
        width = len(self.columns)
        if len(cells) != width:
            # Trailing delimiters make empty cells that say nothing.
            if len(cells) < width or any(cell.strip() for cell in cells[width:]):
                return Rejected(number, f"{len(cells)} cells where the header has {width} columns")
            cells = cells[:width]
        row = dict(zip(self.columns, cells, strict=True))
        if "\0" in "".join(cells):
            culprit = next(name for name, cell in row.items() if "\0" in cell)
            return Rejected(number, f"{shown(culprit)} contains a NUL character")
        return row

    def _split(self, lines: list[str]) -> Rows | None:
        """Split lines without quotes; None when there are any."""
        text = "".join(lines)
        if '"' in text or "\r" in text:
            return None
        delimiter, width = self._delimiter, len(self.columns)
        if width > 1 and set(map(methodcaller("count", delimiter), lines)) == {width - 1}:
            return Rows(delimiter.join(lines).split(delimiter), [], width)
        return Rows([], _without_blank([line.split(delimiter) for line in lines]), width)

    def _parsed(self, lines: list[str], number: int) -> Rows:
        """Parse the lines of a block, and those after it until the last row is closed."""
        feed = self._feed
        feed.put_back(lines)
        ends = feed.taken + len(lines)
        rows: list[Cells] = []
        try:
            for cells in csv.reader(feed.whole_lines(), delimiter=self._delimiter, strict=True):
                rows.append(cells)
                feed.row_chars = 0
                if feed.taken >= ends:
                    break
        except csv.Error as error:
            raise FormatError(
                self._name,
                number + len(_without_blank(rows)),
                f"the table's quotes or line ends are broken: {error}",
            ) from None
        return Rows([], _without_blank(rows), len(self.columns))


def _without_blank(rows: list[Cells]) -> list[Cells]:
    if not rows or min(map(len, rows)) > 1:
        return rows
    return [cells for cells in rows if len(cells) > 1 or (cells and cells[0].strip())]


class _Feed:
    """Lines one by one or as what is left of a block.

    The csv module would join lines without end on an open quote: ``row_chars`` counts those of the
    row in progress.
    """

    def __init__(self, blocks: Iterable[list[str]], name: str) -> None:
        self.taken = 0
        self.row_chars = 0
        self._blocks = iter(blocks)
        self._name = name
        self._lines: list[str] = []
        self._at = 0

    def block(self) -> list[str]:
        """Return the lines left of this block, or the next; empty at the end."""
        lines = self._lines[self._at :] if self._at else self._lines
        while not lines:
            found = next(self._blocks, None)
            if found is None:
                return []
            lines = found
        self._lines, self._at = [], 0
        self.taken += len(lines)
        return lines

    def put_back(self, lines: list[str]) -> None:
        """Take back the block that was given out last."""
        self._lines, self._at = lines, 0
        self.taken -= len(lines)

    def __iter__(self) -> Iterator[str]:
        while lines := self.block():
            self.put_back(lines)
            for line in lines:
                self._at += 1
                self.taken += 1
                yield line

    def whole_lines(self) -> Iterator[str]:
        """Yield lines with their ends. Raises FormatError when a row takes too many."""
        for line in self:
            self.row_chars += len(line)
            if self.row_chars > LINE_BYTES:
                raise FormatError(
                    self._name, None, f"a row is longer than {LINE_BYTES} bytes; a quote is open"
                )
            yield f"{line}\n"
