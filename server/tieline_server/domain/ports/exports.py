"""What leaves as a file: items of a series with everything that is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tieline_client.formats.record import Record
from tieline_client.handling import Handling


@dataclass(frozen=True, slots=True)
class SeriesImport:
    """A complete import that holds items of a series: its number, and under what it holds them."""

    no: int
    agency: str
    handling: Handling


@dataclass(frozen=True, slots=True)
class ExportRow:
    """An item with its record. ``number`` of the record is not set."""

    item: int
    record: Record


class ExportRepository(Protocol):
    """Reads series as they are exported."""

    def imports_of(self, series: str) -> list[SeriesImport]:
        """Return the complete imports that hold items of a series, by number."""
        ...

    def count(self, series: str, imports: Sequence[int]) -> int:
        """Return how many items `page` would yield in all."""
        ...

    def page(
        self, series: str, imports: Sequence[int], *, after: int, limit: int
    ) -> list[ExportRow]:
        """Return items of a series that these imports hold, by id.

        What describes an item beside its digests (votes, flags, counts) is what these imports
        say: of several the latest one that says anything.
        """
        ...
