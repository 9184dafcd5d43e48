"""The life of a series: which step follows which, and what its history keeps.

Most steps follow from what is done (an assessment localises, a referral refers, an outcome
identifies); a person may take the others, and may send a series back to be evaluated again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from tieline_client.errors import WrongState

from tieline_server.domain.series import SeriesStatus

_S = SeriesStatus
BEFORE_LOCALISED = frozenset({_S.NEW, _S.TRIAGED, _S.UNDER_EVALUATION})
"""What a standing likely country ends."""
BEFORE_REFERRED = BEFORE_LOCALISED | {_S.LOCALISED}
"""What telling somebody ends."""

_NEXT: dict[SeriesStatus, frozenset[SeriesStatus]] = {
    _S.NEW: frozenset(
        {_S.TRIAGED, _S.UNDER_EVALUATION, _S.LOCALISED, _S.IDENTIFIED, _S.CLOSED},
    ),
    _S.TRIAGED: frozenset({_S.UNDER_EVALUATION, _S.LOCALISED, _S.IDENTIFIED, _S.CLOSED}),
    _S.UNDER_EVALUATION: frozenset({_S.TRIAGED, _S.LOCALISED, _S.IDENTIFIED, _S.CLOSED}),
    _S.LOCALISED: frozenset({_S.UNDER_EVALUATION, _S.IDENTIFIED, _S.CLOSED}),
    _S.REFERRED: frozenset({_S.UNDER_EVALUATION, _S.IDENTIFIED, _S.CLOSED}),
    _S.IDENTIFIED: frozenset({_S.UNDER_EVALUATION, _S.CLOSED}),
    _S.CLOSED: frozenset({_S.UNDER_EVALUATION}),
    _S.WITHDRAWN: frozenset(),
}


class EventKind(enum.StrEnum):
    """What a line of the history is about."""

    STATUS = "status"
    REPOSITORY = "repository"
    """A repository's word: ``before`` is the status here, ``after`` the one there."""
    MERGED = "merged"
    """``before`` is the series that went into ``after``; both keep the line."""
    SPLIT = "split"
    """Items of ``before`` are of ``after`` now; both keep the line."""
    SAME_AS = "same_as"
    """``before`` is another agency's series, ``after`` what the line's agency says of it."""


@dataclass(frozen=True, slots=True)
class SeriesEvent:
    """One line of a series' history: who did what, when. ``text`` is a person's words."""

    id: str
    series: str
    kind: EventKind
    agency: str
    person: str
    at: datetime
    before: str = ""
    after: str = ""
    text: str = ""


def check_move(before: SeriesStatus, after: SeriesStatus, *, likely: bool) -> None:
    """Raise WrongState when a person may not move a series so.

    ``likely``: a likely country stands. Without one nothing is localised.
    """
    if after not in _NEXT[before]:
        possible = ", ".join(sorted(one.value for one in _NEXT[before])) or "nothing"
        why = "; `series refer` refers it" if after is _S.REFERRED else ""
        why = "; `series withdraw` withdraws it" if after is _S.WITHDRAWN else why
        raise WrongState(
            f"a series that is {before.value} cannot be made {after.value}{why}; "
            f"possible: {possible}"
        )
    if after is _S.LOCALISED and not likely:
        raise WrongState("no likely country stands; `series assess` names one")
