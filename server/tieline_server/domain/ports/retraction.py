"""Retractions, and erasing for good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol

from tieline_server.domain.retraction import PurgeCause, PurgeState, Retraction


@dataclass(frozen=True, slots=True)
class RetractionRecipient:
    """Somebody who was told. ``sent`` is the state of this node's message, None where ``via`` told
    them; ``sent_at`` is when it came to that."""

    agency: str
    via: str
    sent: str | None
    sent_at: datetime | None
    reason: str
    confirmed: datetime | None
    erased: bool


@dataclass(frozen=True, slots=True)
class Purge:
    """An erasure of a series or, where that is empty, of an import (by number). ``holdings`` counts
    those erased so far, ``reason`` says why it waits."""

    id: str
    cause: PurgeCause
    series: str
    created: datetime
    import_no: int = 0
    state: PurgeState = PurgeState.ERASING
    holdings: int = 0
    ended: datetime | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Erased:
    """What one batch of an erasure amounted to; ``more`` is left."""

    holdings: int
    items: int
    more: bool


class RetractionRepository(Protocol):
    """Words of owners. An id alone names none: others who were told it may use it for theirs."""

    def add(self, retraction: Retraction) -> bool: ...
    def put(self, retraction: Retraction) -> None: ...
    def standing(self) -> list[Retraction]: ...
    def get(self, retraction: str, series: str) -> Retraction | None: ...
    def of_series(self, series: str) -> list[Retraction]: ...
    def tell(
        self, retraction: Retraction, agency: str, *, message: str = "", via: str = ""
    ) -> None: ...
    def confirm(
        self, retraction: Retraction, agency: str, at: datetime, *, erased: bool
    ) -> bool: ...
    def recipients(self, retraction: Retraction) -> list[RetractionRecipient]: ...
    def add_source(self, retraction: Retraction, agency: str) -> None: ...
    def sources(self, retraction: Retraction, *, waiting: bool = False) -> list[str]: ...
    def answered(self, retraction: Retraction, agency: str, at: datetime) -> None: ...
    def begin_purge(self, purge: Purge) -> None: ...
    def purge(self, identifier: str, series: str) -> Purge | None: ...
    def any_open_purge(self) -> bool:
        """Whether an erasure is under way."""
        ...

    def open_purges(self, limit: int = 1000) -> list[Purge]: ...
    def advance(
        self,
        some: Iterable[Purge],
        state: PurgeState,
        *,
        holdings: int = 0,
        ended: datetime | None = None,
    ) -> None: ...
    def purge_waits(self, purge: Purge, reason: str) -> None: ...


class ErasureRepository(Protocol):
    """Takes things out of the tables. What is left of them elsewhere: `Store.scrub`."""

    def cancel(self, series: str, recipients: Iterable[str] | None) -> list[str]:
        """Take back what is queued of a series for these recipients (None: all), and empty what
        was delivered to them, so that it is never sent again. Returns whose queue it was in."""
        ...

    def holdings(self, series: str, limit: int) -> Erased:
        """Erase up to ``limit`` holdings of a series, and items that then have none."""
        ...

    def import_holdings(self, import_no: int, limit: int) -> Erased:
        """Erase up to ``limit`` holdings, or records of an exclusion list, of a complete import;
        its head goes with the last."""
        ...

    def emptied(self, import_no: int, limit: int) -> list[str]:
        """Erase series that this import made, that hold nothing any more, and about which nobody
        said or told anything; return their ids."""
        ...

    def staged(self, series: str) -> list[tuple[str, str]]:
        """Return (peer, attachment) of items of a series that are on their way in."""
        ...

    def series(self, series: str) -> None:
        """Erase a series: its row, references and assessments; the words of referrals, broadcasts
        and answers about it; every stored message about it, in and out, with its chunks."""
        ...

    def imports_past(self, today: date, limit: int) -> list[tuple[int, str]]:
        """Return number and id of complete imports with holdings whose day of erasure has come."""
        ...

    def series_past(self, today: date, limit: int) -> list[str]:
        """Return the series whose day of erasure has come and that hold nothing any more, or whose
        owner set that day by a retraction."""
        ...


class TombstoneLedger(Protocol):
    """What was erased, kept beside the database and outside its backups."""

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry, durably: before what it says is erased, and once what it says of an own
        series has committed. One that is there changes nothing.

        Raises StorageUnavailable.
        """
        ...

    def entries(self) -> list[dict[str, Any]]:
        """Return all entries in order. Raises StorageCorrupt."""
        ...
