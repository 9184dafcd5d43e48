"""Operations: a taskforce goes through series together, and what came of it is told in figures.

An operation names its participants and its days. Series are added to it; an expert of a
participant is assigned to evaluate one, and is done with it at some time. All else that the figures
tell (a country found, told, an outcome) is read off what was done with the series anyway, from the
first day on: outcomes come long after the last day, and count.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, date, datetime, time

from tieline_client import limits
from tieline_client.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Operation:
    """``begins`` and ``ends`` are its first and last day, in UTC."""

    id: str
    name: str
    begins: date
    ends: date
    participants: tuple[str, ...]
    person: str
    case_ref: str
    created: datetime

    @property
    def since(self) -> datetime:
        """What was done from here on counts."""
        return datetime.combine(self.begins, time(), UTC)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An expert's task: ``person`` of ``agency`` evaluates a series; empty: anybody of it.

    ``text`` is what the expert found, in words, once it is ``done``.
    """

    operation: str
    series: str
    agency: str
    person: str
    assigned: datetime
    assigned_by: str
    done: datetime | None = None
    done_by: str = ""
    text: str = ""


def check_operation(name: str, begins: date, ends: date, participants: Sequence[str]) -> None:
    """Raise InvalidInput for what is no operation."""
    if not name:
        raise InvalidInput("an operation needs a name")
    if ends < begins:
        raise InvalidInput(f"it ends on {ends}, before it begins on {begins}; turn the days round")
    if not participants:
        raise InvalidInput("an operation needs participants; say --participant AGENCY")
    if len(participants) > limits.OPERATION_PARTICIPANTS:
        raise InvalidInput(f"an operation has at most {limits.OPERATION_PARTICIPANTS} participants")


@dataclass(frozen=True, slots=True)
class Progress:
    """What was done with one series since an operation began; None where it was not, or not yet.

    ``told`` is when the first agency of a likely country had it, ``outside`` when a country without
    a node was told by other means. Victims are the most that one outcome states: two agencies of
    one country tell of the same ones.
    """

    series: str
    triaged: datetime | None = None
    evaluated: datetime | None = None
    localised: datetime | None = None
    told: datetime | None = None
    outside: datetime | None = None
    acknowledged: datetime | None = None
    uploaded: datetime | None = None
    outcome: datetime | None = None
    identified: int = 0
    tentative: int = 0
    tips: int = 0
    verified: int = 0

    def and_of(self, other: Progress) -> Progress:
        """Return the progress of both as of one series: the earlier times, tips of both."""
        merged: dict[str, object] = {}
        for one in ("triaged", "evaluated", "localised", "told", "outside", "acknowledged"):
            merged[one] = earlier(getattr(self, one), getattr(other, one))
        return replace(
            self,
            **merged,  # type: ignore[arg-type]
            uploaded=earlier(self.uploaded, other.uploaded),
            outcome=earlier(self.outcome, other.outcome),
            identified=max(self.identified, other.identified),
            tentative=max(self.tentative, other.tentative),
            tips=self.tips + other.tips,
            verified=self.verified + other.verified,
        )

    @property
    def first_told(self) -> datetime | None:
        """When a country was told, in whichever way."""
        return earlier(self.told, self.outside)


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier of two times, of which either may be missing."""
    known = [at for at in (one, other) if at is not None]
    return min(known, default=None)


@dataclass(frozen=True, slots=True)
class Figures:
    """Each is a number of series, but for the last five. ``told`` is by either way."""

    series: int = 0
    triaged: int = 0
    evaluated: int = 0
    localised: int = 0
    told: int = 0
    delivered: int = 0
    told_outside: int = 0
    acknowledged: int = 0
    uploaded: int = 0
    identified: int = 0
    tentative: int = 0
    victims_identified: int = 0
    victims_tentative: int = 0
    tips: int = 0
    tips_verified: int = 0
    median_seconds: float | None = None
    """From a country found to a country told."""


NAMES = tuple(one.name for one in fields(Figures) if one.name != "median_seconds")


@dataclass(frozen=True, slots=True)
class CountryFigures:
    """Of the series whose likely country it is."""

    country: str
    localised: int
    told: int
    median_seconds: float | None


@dataclass(frozen=True, slots=True)
class DayFigures:
    """What was reached by the end of a day, all in all."""

    day: date
    triaged: int
    localised: int
    told: int
    identified: int


@dataclass(frozen=True, slots=True)
class Report:
    """The figures, by country and by day."""

    figures: Figures
    countries: tuple[CountryFigures, ...] = ()
    days: tuple[DayFigures, ...] = field(default=())


def report(
    work: Sequence[Progress], countries: Mapping[str, Sequence[str]], begins: date, until: date
) -> Report:
    """Return an operation's figures.

    ``countries`` are the standing likely ones by series. A series that is told without having been
    localised since the operation began has no waiting time. Days go from ``begins`` to ``until``,
    the last OPERATION_DAYS of them.
    """
    figures = Figures(
        series=len(work),
        triaged=_count(one.triaged for one in work),
        evaluated=_count(one.evaluated for one in work),
        localised=_count(one.localised for one in work),
        told=_count(one.first_told for one in work),
        delivered=_count(one.told for one in work),
        told_outside=_count(one.outside for one in work),
        acknowledged=_count(one.acknowledged for one in work),
        uploaded=_count(one.uploaded for one in work),
        identified=sum(one.identified > 0 for one in work),
        tentative=sum(one.tentative > 0 for one in work),
        victims_identified=sum(one.identified for one in work),
        victims_tentative=sum(one.tentative for one in work),
        tips=sum(one.tips for one in work),
        tips_verified=sum(one.verified for one in work),
        median_seconds=_median(work),
    )
    by_country: dict[str, list[Progress]] = {}
    for one in work:
        for country in countries.get(one.series, ()) if one.localised else ():
            by_country.setdefault(country, []).append(one)
    return Report(
        figures,
        tuple(
            CountryFigures(country, len(them), _count(o.first_told for o in them), _median(them))
            for country, them in sorted(by_country.items(), key=lambda pair: (-len(pair[1]), pair))
        ),
        _days(work, begins, until),
    )


def _count(times: Iterable[datetime | None]) -> int:
    return sum(at is not None for at in times)


def _median(work: Iterable[Progress]) -> float | None:
    """Seconds from localised to told; a country that was told first waited for nothing."""
    waited = [
        max((told - one.localised).total_seconds(), 0.0)
        for one in work
        if one.localised is not None and (told := one.first_told) is not None
    ]
    return statistics.median(waited) if waited else None


def _days(work: Sequence[Progress], begins: date, until: date) -> tuple[DayFigures, ...]:
    last = max(begins, until).toordinal()
    first = max(begins.toordinal(), last - limits.OPERATION_DAYS + 1)
    reached = {
        "triaged": Counter(_day(one.triaged) for one in work),
        "localised": Counter(_day(one.localised) for one in work),
        "told": Counter(_day(one.first_told) for one in work),
        "identified": Counter(_day(one.outcome) for one in work if one.identified),
    }
    sums = {
        name: sum(n for day, n in counted.items() if day is not None and day < first)
        for name, counted in reached.items()
    }
    days = []
    for number in range(first, last + 1):
        for name, counted in reached.items():
            sums[name] += counted[number]
        days.append(DayFigures(date.fromordinal(number), **sums))
    return tuple(days)


def _day(at: datetime | None) -> int | None:
    return None if at is None else at.astimezone(UTC).date().toordinal()
