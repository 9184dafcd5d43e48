"""What is kept of the work on a series, besides the series itself."""

from __future__ import annotations

from typing import Protocol

from tieline_server.domain.category_votes import VoteCount
from tieline_server.domain.merging import Alias
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.domain.series_note import SeriesNote


class HistoryRepository(Protocol):
    def add(self, event: SeriesEvent) -> None: ...
    def latest(self, kind: EventKind, limit: int) -> list[SeriesEvent]:
        """The latest lines of a kind, of all series, newest first."""
        ...

    def of(self, series: str) -> list[SeriesEvent]:
        """The latest lines of a series' history, oldest first."""
        ...


class AliasRepository(Protocol):
    def add(self, alias: Alias) -> bool:
        """Add an alias; the first word of a merged series stands. False when there was one."""
        ...

    def get(self, merged: str) -> Alias | None: ...
    def current(self, series: str) -> str:
        """The series that an id stands for, itself where it is part of nothing."""
        ...

    def family(self, series: str) -> list[str]:
        """A series and all that are part of it."""
        ...


class VoteRepository(Protocol):
    def of(self, series: str) -> tuple[VoteCount, ...]:
        """How a series' items were judged, by scheme and code."""
        ...


class NoteRepository(Protocol):
    def add(self, note: SeriesNote) -> bool:
        """Add a note; False when its id is known."""
        ...

    def of(self, series: str) -> list[SeriesNote]:
        """The notes on a series, oldest first."""
        ...
