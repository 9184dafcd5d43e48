"""Requests that a person decides: releases beyond a hit, permissions, a child in danger.

A release is asked for by a question whose answer policy lets go only after a person has looked;
there is one undecided request for an asker, a purpose and a case, and further questions add to it.
A permission is asked for by whoever holds another agency's restricted data, and permits one use. A
statement of vital interests is made by one officer and confirmed by another of the same agency. A
notice tells a provider that its data went outside the union on such a statement.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from tieline_client.errors import InvalidInput, RoleRefused, WrongState

from tieline_server.domain.policy import Action, Disclosure


class RequestKind(enum.StrEnum):
    """What is asked for."""

    RELEASE = "release"
    PERMISSION = "permission"
    VITAL_INTERESTS = "vital-interests"
    NOTICE = "notice"


class RequestState(enum.StrEnum):
    """How far it is; EXPIRED is never stored, but follows from the time."""

    PENDING = "pending"
    APPROVED = "approved"
    REFUSED = "refused"
    ENDED = "ended"
    """What it was about was withdrawn, or was told (a notice)."""
    EXPIRED = "expired"


class Side(enum.StrEnum):
    """Who decides: we for a peer, a peer for us, a second officer of our own."""

    IN = "in"
    OUT = "out"
    OWN = "own"


class SeriesState(enum.StrEnum):
    """How far one series of a request is."""

    WAITING = "waiting"
    RELEASED = "released"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


class Use(enum.StrEnum):
    """What a permission permits."""

    PASS_ON = "pass-on"  # noqa: S105
    BROADCAST = "broadcast"
    UPLOAD = "upload"
    USE = "use"
    """To learn of it for the purpose itself, such as prosecution on H1 data."""
    EXPORT = "export"
    """To write it into a file for the agency's own systems, where no rule here reaches it."""
    REFER = "refer"
    ASK = "ask"
    """The last two are what vital interests are stated for."""


PERMITTED = (Use.PASS_ON, Use.BROADCAST, Use.UPLOAD, Use.USE, Use.EXPORT)
"""What may be asked of a provider."""
AT_HOME = (Use.USE, Use.EXPORT)
"""Uses by whoever asks, with nobody else to be named."""

RELEASABLE = (Disclosure.COUNT, Disclosure.REFERENCE, Disclosure.DETAIL)
DEFAULT_WISH = Disclosure.REFERENCE
"""What is asked for where the asker says nothing."""


@dataclass(frozen=True, slots=True)
class RequestedSeries:
    """A series of a request; "" for items in none. ``items`` are asked items in it, ``entry`` (at
    who asked) the Release as it came."""

    series: str
    items: int
    state: SeriesState = SeriesState.WAITING
    entry: bytes = b""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``level`` is the level asked for, once approved the level released; ``text`` the
    words of who asked; ``terms`` what else has to be known when it is approved; ``envelope`` the
    signed Permission."""

    id: str
    kind: RequestKind
    side: Side
    peer: str
    person: str
    purpose: str
    case_ref: str
    created: datetime
    expires: datetime
    state: RequestState = RequestState.PENDING
    level: Disclosure = Disclosure.NOTHING
    items: int = 0
    use: Use | None = None
    agencies: tuple[str, ...] = ()
    text: str = ""
    terms: Mapping[str, str] = field(default_factory=dict)
    decided_by: str = ""
    reason: str = ""
    decided: datetime | None = None
    envelope: bytes = b""

    def standing(self, now: datetime) -> RequestState:
        """Return its state at a time: what nobody decided in time, or held, has expired."""
        if self.state in (RequestState.PENDING, RequestState.APPROVED) and now >= self.expires:
            return RequestState.EXPIRED
        return self.state


def check_decidable(request: Request, person: str, now: datetime) -> None:
    """Raise WrongState unless it waits here; RoleRefused when a second person is needed.

    1. It waits for this agency, not for a peer.
    2. Nobody decided it, and its time is not over.
    3. What an officer stated of a child in danger another one confirms: 2016/680 Art. 38(1)(a) is
       an exception, and two persons judge that it applies.
    """
    # 1
    if request.side is Side.OUT or request.kind is RequestKind.NOTICE:
        raise WrongState("this request is not to be decided here; see `tieline requests list`")
    # 2
    state = request.standing(now)
    if state is not RequestState.PENDING:
        raise WrongState(
            f"the request is {state.value} already; see `tieline requests show {request.id}`"
        )
    # 3
    if request.kind is RequestKind.VITAL_INTERESTS and request.person == person:
        raise RoleRefused(
            f"{person} stated this; a second officer confirms it with `tieline requests approve`"
        )


def parse_level(word: str, default: Disclosure) -> Disclosure:
    """Return a level that a person may release; ``default`` for "". Raises InvalidInput."""
    if not word:
        return default
    for level in RELEASABLE:
        if level.label == word:
            return level
    known = ", ".join(level.label for level in RELEASABLE)
    raise InvalidInput(f"level {word[:16]!r} is none of {known}")


def parse_wish(number: int) -> Disclosure:
    """Return the level that a question asks for; 0 is reference. Raises InvalidInput."""
    if number == 0:
        return DEFAULT_WISH
    for level in RELEASABLE:
        if int(level) == number:
            return level
    raise InvalidInput("the level asked for is count, reference or detail (2 to 4)")


def parse_use(word: str) -> Use:
    """Return what is to be permitted; raise InvalidInput."""
    for use in PERMITTED:
        if use.value == word:
            return use
    known = ", ".join(use.value for use in PERMITTED)
    raise InvalidInput(f"permission {word[:16]!r} is none of {known}")


FORWARD_ACTION: Mapping[Use, Action] = {
    Use.PASS_ON: Action.PASS_ON,
    Use.BROADCAST: Action.RECEIVE_BROADCAST,
    Use.UPLOAD: Action.UPLOAD,
    Use.USE: Action.LEARN_HIT,
    Use.EXPORT: Action.EXPORT,
}
"""What policy is asked of each recipient of a use."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What was decided for one asker, purpose and case about one series: ``level`` NOTHING is a
    refusal. It holds until ``expires``."""

    level: Disclosure
    expires: datetime
