"""The clock's report: how long each step takes, by country, and what is late.

A telling is one referral with the times of its steps, as they were signed. A median over no case is
None: a step that nobody took says nothing of how long it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from tieline_server.domain.referral import (
    SEEN,
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    fold,
)
from tieline_server.domain.series import Assessment
from tieline_server.domain.targets import Targets, localised_at, standing

_S = ReferralState
_ANSWERS = frozenset({_S.ACCEPTED, _S.DECLINED, _S.PASSED_ON, _S.TOLD_OUTSIDE})


@dataclass(frozen=True, slots=True)
class Telling:
    """A referral with when each of its steps was taken first; None where none was.

    ``told`` is when the country knew: at delivery to an agency that serves it, else when it was
    told by other means.
    """

    id: str
    series: str
    country: str
    referred: datetime
    localised: datetime | None = None
    delivered: datetime | None = None
    told: datetime | None = None
    told_outside: datetime | None = None
    acknowledged: datetime | None = None
    answered: datetime | None = None
    outcome: datetime | None = None
    identified: int = 0
    tentative: int = 0
    overdue: bool = False

    @property
    def reached(self) -> bool:
        """Whether it came to anybody, by whichever way."""
        return bool(self.delivered or self.told or self.acknowledged or self.outcome)


def telling(
    referral: Referral,
    steps: Iterable[ReferralStep],
    assessments: Iterable[Assessment],
    *,
    serves: bool,
    targets: Targets,
    now: datetime,
) -> Telling:
    """Return a referral's times. ``serves``: its recipient serves the country, or none is named.

    Of a referral that was withdrawn, what was done before stays; nothing of it is late.
    """
    kept = list(steps)
    ends = {_S.WITHDRAWN} | ({_S.OVERTAKEN, _S.REPEATED} if fold(kept) is _S.WITHDRAWN else set())
    ended = min((one.at for one in kept if one.state in ends), default=None)
    if ended is not None:
        kept = [one for one in kept if one.at <= ended]

    def first(*states: ReferralState) -> datetime | None:
        return min((one.at for one in kept if one.state in states), default=None)

    outside, outside_only = first(_S.TOLD_OUTSIDE), referral.direction is Direction.OUTSIDE
    delivered = None if outside_only else first(_S.DELIVERED)
    reached = (delivered if serves else None, outside)
    counts = [one.outcome for one in kept if one.outcome is not None]
    due = standing(targets, referral, kept).due
    return Telling(
        id=referral.id,
        series=referral.series,
        country=referral.country,
        referred=referral.created,
        localised=localised_at(assessments, referral.country),
        delivered=delivered,
        told=min((at for at in reached if at is not None), default=None),
        told_outside=outside,
        acknowledged=None if outside_only else first(*SEEN),
        answered=first(*_ANSWERS),
        outcome=first(_S.OUTCOME),
        identified=max((one.identified for one in counts), default=0),
        tentative=max((one.tentative for one in counts), default=0),
        overdue=due is not None and now > due,
    )


Moments = Callable[[Telling], tuple[datetime | None, datetime | None]]
STEPS: dict[str, Moments] = {
    "localised_to_referred": lambda one: (one.localised, one.referred),
    "localised_to_told": lambda one: (one.localised, one.told),
    "referred_to_delivered": lambda one: (one.referred, one.delivered),
    "delivered_to_acknowledged": lambda one: (one.delivered, one.acknowledged),
    "acknowledged_to_answered": lambda one: (one.acknowledged, one.answered),
    "answered_to_outcome": lambda one: (one.answered, one.outcome),
}
"""The steps whose medians are told. A country that was told before anybody assessed it, or a step
that came before the one it follows, counts as no time, not as less than none."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a country, or all of them, comes to. Medians are in seconds."""

    country: str
    referrals: int
    series: int
    told: int
    told_outside: int
    acknowledged: int
    answered: int
    outcomes: int
    overdue: int
    medians: dict[str, float | None] = field(default_factory=dict)


def line(country: str, tellings: Sequence[Telling]) -> Line:
    """Return the line of tellings of one country, or of all (``country`` is "")."""

    def count(has: Callable[[Telling], object]) -> int:
        return sum(bool(has(one)) for one in tellings)

    return Line(
        country=country,
        referrals=len(tellings),
        series=len({one.series for one in tellings}),
        told=len({(one.series, one.country) for one in tellings if one.told}),
        told_outside=len({(one.series, one.country) for one in tellings if one.told_outside}),
        acknowledged=count(lambda one: one.acknowledged),
        answered=count(lambda one: one.answered),
        outcomes=count(lambda one: one.outcome),
        overdue=count(lambda one: one.overdue),
        medians={name: _median(tellings, moments) for name, moments in STEPS.items()},
    )


def by_country(tellings: Iterable[Telling]) -> list[Line]:
    """Return a line for each country, in code order; those that name none first."""
    found: dict[str, list[Telling]] = {}
    for one in tellings:
        found.setdefault(one.country, []).append(one)
    return [line(country, found[country]) for country in sorted(found)]


def _median(tellings: Iterable[Telling], moments: Moments) -> float | None:
    pairs = (moments(one) for one in tellings)
    took = [max((b - a).total_seconds(), 0.0) for a, b in pairs if a is not None and b is not None]
    return median(took) if took else None
