"""From cells to columns, a block of rows at a time.

What is ordinary in a block (hex of the right length, texts that can be kept) becomes arrays at
once. A row with anything else in it is *odd*: it is read by the format's record reader, which alone
knows what is allowed and in which words it is refused; what it makes of it takes the row's place.
So a file says the same whether it is read in blocks or record by record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from tieline_client.columns import FLAGS, Columns, DigestColumn, columnar, merge, of_records
from tieline_client.digests import DigestKind
from tieline_client.formats.fields import BadRecord
from tieline_client.formats.record import Record, Rejected, Vote
from tieline_client.limits import RECORDS_PER_COLUMNS

T = TypeVar("T", bound=Hashable)
H = TypeVar("H", bound=Hashable)
Places = npt.NDArray[np.int32]

_HEX = {kind: re.compile(rf"(?:[0-9A-Fa-f]{{{2 * kind.width}}})?", re.ASCII) for kind in DigestKind}
_SURE_DIGITS = 18
"""So many decimal digits fit into an int64."""


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a file, each of the parts in its order.

    ``records`` are usable ones of which columns do not say all. ``notes`` are (number, words).
    """

    columns: Columns | None = None
    records: tuple[Record, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    notes: tuple[tuple[int, str], ...] = ()


class BlockBuilder:
    """The rows of one block; each method takes the cells of one column, "" for what is absent."""

    def __init__(self, first: int, count: int, *, entire: bool) -> None:
        self._count, self._entire = count, entire
        self._odd: set[int] = set()
        self._digests: dict[DigestKind, DigestColumn] = {}
        nothing = np.full(count, -1, dtype=np.int32)
        self._numbers = np.arange(first, first + count, dtype=np.int64)
        self._quality = np.full(count, -1, dtype=np.int16)
        self._size = np.full(count, -1, dtype=np.int64)
        self._media: tuple[Places, tuple[str, ...]] = nothing, ()
        self._votes: tuple[Places, tuple[tuple[Vote, ...], ...]] = nothing, ()
        self._series: tuple[Places, tuple[str, ...]] = nothing, ()
        self._flags = np.zeros(count, dtype=np.uint8)
        self._notes: dict[int, str] = {}

    def odd(self, rows: Iterable[int]) -> None:
        """Leave rows, by position in the block, to the record reader."""
        self._odd.update(rows)

    def note(self, row: int, words: str) -> None:
        """Note something of a row, unless it turns out to be odd."""
        self._notes[row] = words

    def digests(self, kind: DigestKind, cells: Sequence[str]) -> None:
        """Take hex digests."""
        chars = 2 * kind.width
        lengths = set(map(len, cells))
        packed = _unhex(cells) if lengths <= {0, chars} else None
        if packed is None:
            ordinary = list(map(_HEX[kind].fullmatch, cells))
            self.odd(row for row, match in enumerate(ordinary) if match is None)
            cells = [cell if match else "" for cell, match in zip(cells, ordinary, strict=True)]
            lengths = set(map(len, cells))
            packed = _unhex(cells)
            assert packed is not None, "digits that match are hex"
        if lengths <= {0}:
            return
        stated = np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)
        if 0 not in lengths:
            self._digests[kind] = DigestColumn(np.ones(self._count, dtype=bool), stated)
            return
        present = np.fromiter(map(bool, cells), dtype=bool, count=self._count)
        rows = np.zeros((self._count, kind.width), dtype=np.uint8)
        rows[present] = stated
        self._digests[kind] = DigestColumn(present, rows)

    def quality(self, cells: Sequence[str], read: Callable[[str], int | None]) -> None:
        """Take PDQ qualities."""
        places, table = self._places(cells, read)
        self._quality = np.array([*table, -1], dtype=np.int16)[places]

    def size(self, cells: Sequence[str]) -> None:
        """Take sizes in bytes."""
        digits = "".join(cells)
        if not (digits.isascii() and digits.isdigit()) or max(map(len, cells)) > _SURE_DIGITS:
            odd = {
                row
                for row, cell in enumerate(cells)
                if cell and not (cell.isascii() and cell.isdigit() and len(cell) <= _SURE_DIGITS)
            }
            self.odd(odd)
            cells = ["" if row in odd else cell for row, cell in enumerate(cells)]
        self._size = np.fromiter(
            (int(cell) if cell else -1 for cell in cells), dtype=np.int64, count=self._count
        )

    def sizes(self, numbers: Sequence[int]) -> None:
        """Take sizes as numbers, -1 for what is absent."""
        self._size = np.array(numbers, dtype=np.int64)

    def flags(self, name: str, codes: Sequence[int]) -> None:
        """Take one of FLAGS as Columns.flags has it."""
        self._flags |= np.array(codes, dtype=np.uint8) << 2 * FLAGS.index(name)

    def media_types(self, cells: Sequence[str], read: Callable[[str], str | None]) -> None:
        """Take media types."""
        self._media = self._places(cells, read)

    def votes(self, cells: Sequence[H], read: Callable[[H], tuple[Vote, ...]]) -> None:
        """Take categories."""
        self._votes = self._places(cells, lambda cell: read(cell) or None)

    def series(self, cells: Sequence[str], read: Callable[[str], str | None]) -> None:
        """Take names of series."""
        self._series = self._places(cells, read)

    def finish(self, parse: Callable[[int], Record | Rejected]) -> Block:
        """Return the block; ``parse`` reads an odd row, given its position, as a record."""
        pdq = self._digests.get(DigestKind.PDQ)
        if pdq is None or not pdq.present.all():
            quality = np.int16(-1) if pdq is None else np.where(pdq.present, self._quality, -1)
            self._quality[:] = quality
        columns = Columns(
            self._numbers,
            self._digests,
            self._quality,
            self._size,
            self._media[0],
            self._votes[0],
            self._series[0],
            self._flags,
            self._media[1],
            self._votes[1],
            self._series[1],
            self._entire,
        )
        identified = columns.identified()
        self.odd(np.flatnonzero(~identified).tolist())
        notes = {row: words for row, words in self._notes.items() if row not in self._odd}
        numbered = tuple((int(self._numbers[row]), words) for row, words in sorted(notes.items()))
        if not self._odd:
            return Block(columns, notes=numbered)
        ordinary = np.ones(self._count, dtype=bool)
        ordinary[list(self._odd)] = False
        read = [parse(row) for row in sorted(self._odd)]
        block = gathered(read, columns.take(ordinary))
        return replace(block, notes=tuple(sorted([*block.notes, *numbered])))

    def _places(
        self, cells: Sequence[H], read: Callable[[H], T | None]
    ) -> tuple[Places, tuple[T, ...]]:
        """Read each distinct cell once."""
        places: dict[H, int] = {}
        table: dict[T, int] = {}
        bad: set[H] = set()
        for cell in dict.fromkeys(cells):
            try:
                value = read(cell)
            except BadRecord:
                bad.add(cell)
                value = None
            places[cell] = -1 if value is None else table.setdefault(value, len(table))
        if bad:
            self.odd(row for row, cell in enumerate(cells) if cell in bad)
        found = np.fromiter(map(places.__getitem__, cells), dtype=np.int32, count=self._count)
        return found, tuple(table)


def blocks_of(records: Iterable[Record | Rejected]) -> Iterator[Block]:
    """Yield what a record reader yields as blocks."""
    group: list[Record | Rejected] = []
    entire: bool | None = None
    for record in records:
        if isinstance(record, Record):
            mixed = entire is not None and entire is not record.entire
            entire = record.entire
        else:
            mixed = False
        if mixed or len(group) == RECORDS_PER_COLUMNS:
            yield gathered(group)
            group = []
        group.append(record)
    if group:
        yield gathered(group)


def gathered(read: Iterable[Record | Rejected], columns: Columns | None = None) -> Block:
    """Return what was read record by record, and the columns of the other rows, as one block."""
    read = list(read)
    usable = [each for each in read if isinstance(each, Record)]
    plain = [record for record in usable if columnar(record)]
    parts = [columns] if columns is not None and len(columns) else []
    if plain:
        parts.append(of_records(plain))
    return Block(
        merge(parts) if parts else None,
        tuple(record for record in usable if not columnar(record)),
        tuple(each for each in read if isinstance(each, Rejected)),
        tuple((record.number, "; ".join(record.notes)) for record in usable if record.notes),
    )


def _unhex(cells: Sequence[str]) -> bytes | None:
    """Return the bytes of hex cells of whole digests, None when one is no hex."""
    digits = "".join(cells)
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return None
    return packed if 2 * len(packed) == len(digits) else None  # fromhex passes over white space
