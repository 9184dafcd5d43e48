"""When the next step of a referral is due. Published taskforce results show how far telling a
country lags behind knowing it; a step that is late must be seen.

The times are expectations, not rules: nothing is refused or undone when they pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from tieline_client import limits

from tieline_server.domain.referral import (
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
    is_corrected,
    reached,
)
from tieline_server.domain.series import Assessment, SeriesStatus

_S = ReferralState
NEXT: Mapping[ReferralState, str] = MappingProxyType(
    {
        _S.REFERRED: "delivered",
        _S.DELIVERED: "acknowledged",
        _S.ACKNOWLEDGED: "accepted, declined or passed_on",
        _S.ACCEPTED: "outcome",
        _S.PASSED_ON: "outcome",
    }
)
"""What is waited for after a state."""


def _hours(immediate: float, urgent: float, routine: float) -> Mapping[Urgency, timedelta]:
    given = zip(Urgency, (immediate, urgent, routine), strict=True)
    return MappingProxyType({urgency: timedelta(hours=hours) for urgency, hours in given})


_DAY = 24
_HOUR = timedelta(hours=1)


def _default() -> Mapping[ReferralState, Mapping[Urgency, timedelta]]:
    return {
        _S.REFERRED: _hours(1, 4, 24),
        _S.DELIVERED: _hours(4, 24, 5 * _DAY),
        _S.ACKNOWLEDGED: _hours(24, 3 * _DAY, 14 * _DAY),
        _S.ACCEPTED: _hours(7 * _DAY, 30 * _DAY, 90 * _DAY),
        _S.PASSED_ON: _hours(7 * _DAY, 30 * _DAY, 90 * _DAY),
    }


@dataclass(frozen=True, slots=True)
class Targets:
    """How long each step may take, by the state before it and the urgency; ``localised`` from a
    likely country to its being told."""

    steps: Mapping[ReferralState, Mapping[Urgency, timedelta]] = field(default_factory=_default)
    localised: timedelta = timedelta(hours=_DAY)
    escalate: Mapping[Urgency, timedelta] = field(
        default_factory=lambda: _hours(limits.ESCALATE_AFTER / _HOUR, 2 * _DAY, 10 * _DAY)
    )
    """When nobody has acknowledged so long after a referral, the hub is told."""
    fallback: Mapping[Urgency, timedelta] = field(
        default_factory=lambda: _hours(2, 3 * _DAY, 15 * _DAY)
    )
    """And then the fallback agency."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """Who is told where no other agency serves a country, by country."""

    def due(self, state: ReferralState, urgency: Urgency, since: datetime) -> datetime | None:
        """When the step after a state that was reached at ``since`` is due; None: none is."""
        wait = self.steps.get(state, {}).get(urgency)
        return None if wait is None or state not in NEXT else since + wait


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a referral stands: since when, what is waited for, until when. ``next`` is "" and
    ``due`` None where nothing is."""

    since: datetime
    next: str = ""
    due: datetime | None = None


def standing(targets: Targets, referral: Referral, steps: Iterable[ReferralStep]) -> Standing:
    """Return where a referral stands. One whose country stands no longer is waited for no more."""
    kept = list(steps)
    times = [step.at for step in kept if reached(step.state) is referral.state]
    since = max(times, default=referral.created)
    due = targets.due(referral.state, referral.urgency, since)
    if due is None or is_corrected(referral.country, kept):
        return Standing(since)
    return Standing(since, NEXT[referral.state], due)


def localised_at(assessments: Iterable[Assessment], country: str) -> datetime | None:
    """When a country was first said to be likely; None where nobody did."""
    said = (one.made for one in assessments if one.country == country and not one.eliminated)
    return min(said, default=None)


AFTER_TELLING = frozenset({SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED, SeriesStatus.WITHDRAWN})
"""Series that nobody waits to have told: a series may be identified before it is localised."""
