"""The referral clock: localised -> referred -> delivered -> acknowledged -> ... -> outcome.

A referral's state is a function of the *set* of its steps, so that sender and recipient agree
whatever order, however often and however late the steps arrive. What a person may do next is
checked where the person is, before the step is signed.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID, uuid5

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
    REFUSED = "refused"
    """The recipient's node did not take it: nobody was told."""
    ESCALATED = "escalated"
    """A step that is no state: nobody acknowledged an immediate referral in time."""
    CORRECTED = "corrected"
    """A step that is no state: its sender says which countries are likely by now."""
    LEAD = "lead"
    """A step that is no state: ``passed_to`` leads, as the recipient claims or the sender says."""
    TOLD_OUTSIDE = "told_outside"
    """A step after which it is passed on: a country that no member serves was told by other means;
    ``text`` is the reference under which."""
    OVERTAKEN = "overtaken"
    """A step after which it is withdrawn, unless its recipient has ended it: the same came there
    again with more urgency."""
    REPEATED = "repeated"
    """A step after which it is withdrawn, unless its recipient has accepted or ended it: the same
    came there again with what its series has had since."""


class Urgency(enum.IntEnum):
    """Lower goes first."""

    IMMEDIATE = 1
    URGENT = 2
    ROUTINE = 3


class Direction(enum.StrEnum):
    """Whether this node sent the message or received it."""

    OUT = "out"
    IN = "in"
    OUTSIDE = "outside"
    """No message: a country was told by other means. There is no recipient; ``sender`` is who told
    it."""


_RANK = {
    ReferralState.REFERRED: 0,
    ReferralState.REFUSED: 1,
    ReferralState.DELIVERED: 1,
    ReferralState.ACKNOWLEDGED: 2,
    ReferralState.ACCEPTED: 3,
    ReferralState.DECLINED: 3,
    ReferralState.PASSED_ON: 3,
    ReferralState.TOLD_OUTSIDE: 3,
    ReferralState.OUTCOME: 4,
    ReferralState.WITHDRAWN: 5,
}

_LEADS_TO = {
    ReferralState.TOLD_OUTSIDE: ReferralState.PASSED_ON,
    ReferralState.OVERTAKEN: ReferralState.WITHDRAWN,
    ReferralState.REPEATED: ReferralState.WITHDRAWN,
}

UNACKNOWLEDGED = frozenset({ReferralState.REFERRED, ReferralState.DELIVERED, ReferralState.REFUSED})
"""States in which no person of the recipient has said a word."""

_UNANSWERED = UNACKNOWLEDGED | {ReferralState.ACKNOWLEDGED}
_OPEN = _UNANSWERED | {ReferralState.ACCEPTED}
"""States that still wait for the recipient."""

SEEN = frozenset(
    {
        ReferralState.ACKNOWLEDGED,
        ReferralState.ACCEPTED,
        ReferralState.DECLINED,
        ReferralState.PASSED_ON,
        ReferralState.TOLD_OUTSIDE,
        ReferralState.OUTCOME,
    }
)
"""Steps by which a person of the recipient has seen a referral: who answers need not acknowledge.
Not of what was told outside (`Direction.OUTSIDE`), whose steps nobody there took."""

_S = ReferralState
_ON = frozenset({_S.PASSED_ON, _S.TOLD_OUTSIDE, _S.WITHDRAWN})
_NEXT: dict[ReferralState, frozenset[ReferralState]] = {
    _S.REFERRED: frozenset({_S.DELIVERED, _S.REFUSED, _S.TOLD_OUTSIDE, _S.WITHDRAWN}),
    _S.REFUSED: frozenset({_S.DELIVERED, _S.TOLD_OUTSIDE, _S.WITHDRAWN}),
    _S.DELIVERED: frozenset({_S.ACKNOWLEDGED, _S.ACCEPTED, _S.DECLINED}) | _ON,
    _S.ACKNOWLEDGED: frozenset({_S.ACCEPTED, _S.DECLINED}) | _ON,
    _S.ACCEPTED: frozenset({_S.DECLINED, _S.OUTCOME}) | _ON,
    _S.DECLINED: frozenset({_S.ACCEPTED}) | _ON,
    _S.PASSED_ON: frozenset({_S.TOLD_OUTSIDE, _S.OUTCOME, _S.WITHDRAWN}),
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
    countries: tuple[str, ...] = ()
    """Of a correction: the countries that stand, as far as the recipient may know."""


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

    @property
    def stands(self) -> bool:
        """Whether its recipient is told, or will be: it is neither taken back nor refused."""
        return self.state not in (ReferralState.WITHDRAWN, ReferralState.REFUSED)

    def is_overtaken_by(self, other: Referral) -> bool:
        """Whether the same was told again later, and came: with more urgency, or by the owner with
        what its series has had since."""
        one, two = (
            (each.series, each.direction, each.sender, each.recipient, each.country)
            for each in (self, other)
        )
        later = other.created >= self.created and other.urgency < self.urgency
        own = self.root == self.id and other.root == other.id
        grown = own and other.created > self.created and other.urgency == self.urgency
        came = other.stands and other.state is not ReferralState.REFERRED
        waits = self.state is not ReferralState.WITHDRAWN
        return one == two and (later or grown) and came and waits


def handover_step(
    message: str, referral: str, agency: str, at: datetime, *, delivered: bool
) -> ReferralStep:
    """Return what the recipient's node (``agency``) said of a referral's message. Said again, where
    either side was restored, it is one step still: it goes by the message's id."""
    return ReferralStep(
        id=message if delivered else str(uuid5(UUID(message), "refused")),
        referral=referral,
        state=ReferralState.DELIVERED if delivered else ReferralState.REFUSED,
        agency=agency,
        person="",
        at=at,
    )


def fold(steps: Iterable[ReferralStep]) -> ReferralState:
    """Return the state that a set of steps amounts to; duplicates and order do not matter."""
    taken = list(steps)
    moved = (step for step in taken if step.state in _RANK)
    best = max(moved, key=lambda s: (_RANK[s.state], s.at, s.state.value, s.id), default=None)
    state = ReferralState.REFERRED if best is None else reached(best.state)
    said = {step.state for step in taken}
    overtaken = state in _OPEN and ReferralState.OVERTAKEN in said
    repeated = state in _UNANSWERED and ReferralState.REPEATED in said
    return ReferralState.WITHDRAWN if overtaken or repeated else state


def reached(step: ReferralState) -> ReferralState:
    """Return the state that a step leads to; all but telling outside and overtaking are named by
    it."""
    return _LEADS_TO.get(step, step)


def further(step: ReferralStep, first: str) -> ReferralStep:
    """Return a step that somebody down a chain of pass-ons took, as one of the first referral."""
    state, text = step.state, step.text
    if state not in (ReferralState.OUTCOME, ReferralState.TOLD_OUTSIDE):
        state, text = ReferralState.PASSED_ON, f"{step.agency}: {step.state.value}. {text}"[:2000]
    return replace(step, referral=first, state=state, text=text)


def correction(steps: Iterable[ReferralStep]) -> ReferralStep | None:
    """Return the latest correction among a set of steps; None where there is none."""
    said = (step for step in steps if step.state is ReferralState.CORRECTED)
    return max(said, key=lambda step: (step.at, step.id), default=None)


def is_corrected(country: str, steps: Iterable[ReferralStep]) -> bool:
    """Whether the latest word is that the referral's country stands no longer."""
    latest = correction(steps)
    return latest is not None and country not in latest.countries


def needs_correction(
    referral: Referral,
    steps: Iterable[ReferralStep],
    before: Sequence[str],
    after: Sequence[str],
) -> bool:
    """Whether a change of the standing likely countries has to be told to who was told.

    It has where the country stands no longer, unless just that was said, and where it stands again.
    A referral that was withdrawn or refused, and one that names no country, is left alone; a
    country that shares its place with others now stands as before.
    """
    if not referral.stands or not referral.country:
        return False
    if tuple(before) == tuple(after):
        return False
    said = correction(steps)
    if referral.country in after:
        return said is not None and referral.country not in said.countries
    return said is None or said.countries != tuple(after)


def check_step(state: ReferralState, wanted: ReferralState) -> None:
    """Raise WrongState when a person may not take ``wanted`` from ``state``."""
    if wanted not in _NEXT[state]:
        allowed = ", ".join(sorted(s.value for s in _NEXT[state])) or "nothing"
        raise WrongState(
            f"a referral that is {state.value} cannot become {wanted.value}; possible: {allowed}"
        )
