"""What a file that leaves is made of, and an account of what its format could not say.

A writer is told of a series, then of its records, one after the other, and writes as it is told:
nothing is kept, so memory stays flat whatever the size. Whatever a record states and the format has
no place for is counted in ``losses``; a record that the format cannot hold at all is ``skipped``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from tieline_client.formats.record import Record, Vote

DESCRIBING = (
    *("sha256", "pdq", "pdq_quality", "photodna", "size", "media_type", "references", "updated"),
    *("victim_identified", "offender_identified", "distributed", "submissions", "baseline"),
)
"""Fields of a record that a format may have no place for; categories are looked at one by one."""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    """A series as its own people see it. ``properties`` are (name, value), names distinct."""

    id: str
    name: str
    case_ref: str = ""
    organisation: str = ""
    contact_name: str = ""
    contact_email: str = ""
    contact_phone: str = ""
    references: tuple[tuple[str, str], ...] = ()
    marking: str = ""
    """Handling code and TLP, with the words of H3."""
    properties: tuple[tuple[str, str], ...] = ()


BELONGING = "belonging of items without a category"
"""A loss: the file does not say that these records belong, so a reader leaves them out."""


class Writer(ABC):
    """Writes one file to a binary stream that stays the caller's."""

    needs = "a hash"
    """What a record must have for the format to hold it."""
    holds: frozenset[str] = frozenset()
    """Of `DESCRIBING` what the format has a place for."""
    holds_series: bool = False
    """Whether it has a place for what is known of a series beside its name."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.losses: Counter[str] = Counter()
        self.written = 0
        self.skipped = 0

    def series(self, facts: SeriesFacts) -> None:
        """Begin a series; the records that follow are of it."""
        if not self.holds_series:
            self.losses["series metadata"] += 1
        self._begin(facts)

    def add(self, record: Record) -> None:
        """Write a record."""
        if not self._holds(record):
            self.skipped += 1
            return
        self.written += 1
        for name in lost_fields(record, self.holds):
            self.losses[name] += 1
        for vote in self._lost_votes(record):
            self.losses[f"category {vote.scheme}"] += 1
        self._write(record)

    @abstractmethod
    def finish(self) -> None:
        """Write what ends the file."""

    @abstractmethod
    def _begin(self, facts: SeriesFacts) -> None: ...
    @abstractmethod
    def _write(self, record: Record) -> None: ...
    @abstractmethod
    def _holds(self, record: Record) -> bool:
        """Whether the format can hold a record at all."""

    @abstractmethod
    def _lost_votes(self, record: Record) -> list[Vote]:
        """The categories that the format has no place for."""


def lost_fields(record: Record, holds: frozenset[str]) -> Iterator[str]:
    """Yield what a record states and a format that ``holds`` these fields has no place for."""
    for name in DESCRIBING:
        if name not in holds and getattr(record, name) not in (None, ()):
            yield name
