"""What is kept of the work on a series, besides the series itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from tieline_server.domain.category_votes import VoteCount
from tieline_server.domain.merging import Alias
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.domain.series_note import SeriesNote
from tieline_server.domain.splitting import Split


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


class SplitRepository(Protocol):
    def add(self, split: Split) -> bool:
        """Keep a split; False when it is known."""
        ...

    def of(self, series: str) -> list[Split]:
        """The splits of a series, in order of time."""
        ...

    def making(self, series: str) -> list[Split]:
        """The splits by which a series came to be."""
        ...

    def tell(self, split: Split, agency: str) -> bool:
        """Note that an agency is told; False when it was before."""
        ...

    def told(self, series: str) -> list[str]:
        """Whom this node told that items are of a series now."""
        ...

    def waits(self, series: str, agency: str) -> bool:
        """Whether a word that made a series has still to reach an agency."""
        ...

    def move(self, series: str, made: str, items: Collection[int]) -> int:
        """Hold items of a series in another from now on; the holdings that moved."""
        ...

    def drop(self, series: str, items: Collection[int]) -> int:
        """Erase how a series holds items, and what nobody holds any more; the holdings erased."""
        ...

    def chunks_left(self, made: str) -> bool:
        """Erase the chunks in which items of a series went out under the id they had before;
        whether some have still to go."""
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
