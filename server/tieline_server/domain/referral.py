"""The referral clock: localised -> referred -> delivered -> acknowledged -> ... -> outcome.

A referral's state is a function of the *set* of its steps, so that sender and recipient agree
whatever order, however often and however late the steps arrive. What a person may do next is
checked where the person is, before the step is signed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tieline_client.errors import WrongState


class ReferralState(enum.StrEnum):
    """The contract's state names."""

    REFERRED = "referred"
    DELIVERED = "delivered"
    ACKNOWLEDGED = "acknowledged"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    PASSED_ON = "passed_on"
    OUTCOME = "outcome"
    WITHDRAWN = "withdrawn"
    ESCALATED = "escalated"
    """A step that is no state: nobody acknowledged an immediate referral in time."""


class Urgency(enum.IntEnum):
    """Lower goes first."""

    IMMEDIATE = 1
    URGENT = 2
    ROUTINE = 3


class Direction(enum.StrEnum):
    """Whether this node sent the message or received it."""

    OUT = "out"
    IN = "in"


_RANK = {
    ReferralState.REFERRED: 0,
    ReferralState.DELIVERED: 1,
    ReferralState.ACKNOWLEDGED: 2,
    ReferralState.ACCEPTED: 3,
    ReferralState.DECLINED: 3,
    ReferralState.PASSED_ON: 3,
    ReferralState.OUTCOME: 4,
    ReferralState.WITHDRAWN: 5,
}

UNACKNOWLEDGED = frozenset({ReferralState.REFERRED, ReferralState.DELIVERED})
"""States in which no person of the recipient has said a word."""

_S = ReferralState
_NEXT: dict[ReferralState, frozenset[ReferralState]] = {
    _S.REFERRED: frozenset({_S.DELIVERED, _S.WITHDRAWN}),
    _S.DELIVERED: frozenset(
        {_S.ACKNOWLEDGED, _S.ACCEPTED, _S.DECLINED, _S.PASSED_ON, _S.WITHDRAWN}
    ),
    _S.ACKNOWLEDGED: frozenset({_S.ACCEPTED, _S.DECLINED, _S.PASSED_ON, _S.WITHDRAWN}),
    _S.ACCEPTED: frozenset({_S.DECLINED, _S.PASSED_ON, _S.OUTCOME, _S.WITHDRAWN}),
    _S.DECLINED: frozenset({_S.ACCEPTED, _S.PASSED_ON, _S.WITHDRAWN}),
    _S.PASSED_ON: frozenset({_S.OUTCOME, _S.WITHDRAWN}),
    _S.OUTCOME: frozenset({_S.OUTCOME, _S.WITHDRAWN}),
    _S.WITHDRAWN: frozenset(),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a referral; counts of people."""

    identified: int = 0
    tentative: int = 0
    safeguarded: int = 0
    offenders: int = 0


@dataclass(frozen=True, slots=True)
class ReferralStep:
    """One step of a referral, as the agency that took it states it."""

    id: str
    referral: str
    state: ReferralState
    agency: str
    person: str
    at: datetime
    text: str = ""
    passed_to: str = ""
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Referral:
    """One series told to one agency. ``root`` is the first referral of a chain of pass-ons."""

    id: str
    root: str
    series: str
    direction: Direction
    sender: str
    recipient: str
    country: str
    urgency: Urgency
    purpose: str
    case_ref: str
    person: str
    created: datetime
    note: str = ""
    state: ReferralState = ReferralState.REFERRED


def fold(steps: Iterable[ReferralStep]) -> ReferralState:
    """Return the state that a set of steps amounts to; duplicates and order do not matter."""
    moved = (step for step in steps if step.state is not ReferralState.ESCALATED)
    best = max(moved, key=lambda s: (_RANK[s.state], s.at, s.state.value, s.id), default=None)
    return ReferralState.REFERRED if best is None else best.state


def check_step(state: ReferralState, wanted: ReferralState) -> None:
    """Raise WrongState when a person may not take ``wanted`` from ``state``."""
    if wanted not in _NEXT[state]:
        allowed = ", ".join(sorted(s.value for s in _NEXT[state])) or "nothing"
        raise WrongState(
            f"a referral that is {state.value} cannot become {wanted.value}; possible: {allowed}"
        )
