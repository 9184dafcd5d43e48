"""Which series of an operation to look at first.

Each series gets points for five things, and says for what: `WEIGHTS` is the most that each can
give, a thousand together. Points grow with what is known and never fall by it:

1. unidentified: nobody has identified a victim, and the series is not closed.
2. overlaps: other agencies hold items of it, half of what is missing for each agency.
3. new clues: since it was evaluated last (or ever), half of what is missing for each two.
4. recency: half for each year since it was seen last.
5. size: by the order of magnitude, all from a hundred thousand items on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tieline_server.domain.series import SeriesStatus

WEIGHTS = {"unidentified": 400, "overlaps": 200, "new clues": 150, "recency": 150, "size": 100}
"""Points that each can give at most."""
_YEAR_DAYS = 365.25
_ITEMS_MAGNITUDE = 5
_NAMED = 20
"""Agencies that a reason names."""
_DONE = frozenset({SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED, SeriesStatus.WITHDRAWN})


@dataclass(frozen=True, slots=True)
class Lead:
    """What is known of a series. ``overlaps`` are other agencies that hold some of its items;
    ``new_clues`` are clues, and verified tips on them, since it was last evaluated."""

    series: str
    name: str
    status: SeriesStatus
    items: int
    identified: int
    seen: datetime
    overlaps: tuple[str, ...] = ()
    new_clues: int = 0


@dataclass(frozen=True, slots=True)
class Part:
    """Points that a series got for one thing, and why, in words."""

    name: str
    points: int
    why: str


@dataclass(frozen=True, slots=True)
class Ranked:
    """A series in the triage list."""

    lead: Lead
    parts: tuple[Part, ...]

    @property
    def points(self) -> int:
        """All of them."""
        return sum(part.points for part in self.parts)


def rank(leads: Iterable[Lead], now: datetime) -> list[Ranked]:
    """Return series in the order in which to look at them; equals by their ids."""
    ranked = [Ranked(lead, _parts(lead, now)) for lead in leads]
    return sorted(ranked, key=lambda one: (-one.points, one.lead.series))


def _parts(lead: Lead, now: datetime) -> tuple[Part, ...]:
    open_ = not lead.identified and lead.status not in _DONE
    days = max((now - lead.seen).total_seconds() / 86_400, 0.0)
    others = len(lead.overlaps)
    more = ", ..." if others > _NAMED else ""
    who = f" ({', '.join(lead.overlaps[:_NAMED])}{more})" if others else ""
    return (
        _part("unidentified", float(open_), "nobody identified" if open_ else "done"),
        _part("overlaps", 1 - 2.0**-others, f"{others} other agencies hold items of it{who}"),
        _part(
            "new clues", 1 - 2.0 ** -(lead.new_clues / 2), f"{lead.new_clues} new clues and tips"
        ),
        _part("recency", 2.0 ** -(days / _YEAR_DAYS), f"seen last {lead.seen.date()}"),
        _part("size", min(math.log10(lead.items + 1) / _ITEMS_MAGNITUDE, 1), f"{lead.items} items"),
    )


def _part(name: str, share: float, why: str) -> Part:
    return Part(name, round(WEIGHTS[name] * share), why)
