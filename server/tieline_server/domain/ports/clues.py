"""Clues and tips, in storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.clue import Clue, Fate, Support, Tip, TipCounts, TipState


class ClueRepository(Protocol):
    def add(self, clue: Clue) -> None:
        """Add a clue. Raises AlreadyStored when the id exists."""
        ...

    def get(self, clue: str) -> Clue | None:
        """By its id or its public id; in a writing transaction it stays as it is until the end."""
        ...

    def find(self, series: str = "", *, public: bool = False) -> Sequence[Clue]:
        """In order of time; of one series, or those that stand on the published list."""
        ...

    def set_published(
        self,
        clue: str,
        *,
        public: str,
        text: str,
        person: str,
        purpose: str,
        case_ref: str,
        at: datetime,
    ) -> None:
        """Publish words under a public id. Raises NotFound."""
        ...

    def take_back(self, clue: str, at: datetime) -> None:
        """Take a clue off the published list. Raises NotFound."""
        ...

    def add_tip(self, tip: Tip) -> Fate:
        """Add a tip: added, or known (and counted at its clue)."""
        ...

    def of_day(self, source: str, day: str) -> int:
        """How many tips a source brought on a UTC day, as YYYY-MM-DD."""
        ...

    def count_limited(self, clue: str, tips: int) -> None:
        """Count tips that were over their source's limit."""
        ...

    def tip(self, tip: str) -> Tip | None:
        """By its id; in a writing transaction it stays as it is until the end."""
        ...

    def tips(
        self, clue: str = "", state: TipState | None = None, *, after: str = "", limit: int = 1000
    ) -> Sequence[Tip]:
        """In order of their ids, beginning after one."""
        ...

    def judge(
        self,
        tip: str,
        state: TipState,
        *,
        supports: str,
        eliminates: str,
        person: str,
        at: datetime,
        reason: str,
    ) -> None:
        """Keep what a person made of a tip. Raises NotFound."""
        ...

    def relayed(self, tip: str, agency: str, at: datetime) -> bool:
        """Keep that a tip was relayed; False when it was before."""
        ...

    def relays(self, tip: str) -> Sequence[str]:
        """To whom."""
        ...

    def counts(self, clues: Sequence[str]) -> dict[str, TipCounts]:
        """Counts of tips by clue."""
        ...

    def support(self, series: str) -> dict[str, Support]:
        """What verified tips on the clues of a series say of each country."""
        ...
