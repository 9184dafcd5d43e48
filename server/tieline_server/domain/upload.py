"""Uploads: a deposit of series into a repository, up to the repository's own series number."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from tieline_client.errors import InvalidInput, WrongState

from tieline_server.domain.referral import Direction


class UploadState(enum.StrEnum):
    """The contract's state names. Media change hands elsewhere; only the reference is kept."""

    ANNOUNCED = "announced"
    MEDIA_REQUESTED = "media_requested"
    MEDIA_RECEIVED = "media_received"
    NUMBERED = "numbered"
    WITHDRAWN = "withdrawn"


_ORDER = [
    UploadState.ANNOUNCED,
    UploadState.MEDIA_REQUESTED,
    UploadState.MEDIA_RECEIVED,
    UploadState.NUMBERED,
    UploadState.WITHDRAWN,
]


@dataclass(frozen=True, slots=True)
class UploadStep:
    """One step that the repository (or, for a withdrawal, the depositor) took."""

    id: str
    upload: str
    state: UploadState
    agency: str
    person: str
    at: datetime
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """A deposit of one series. ``generation`` is the depositor's at the time: the next upload of
    the same series carries only what came after it. ``items`` counts what this one carries."""

    id: str
    series: str
    direction: Direction
    sender: str
    repository: str
    purpose: str
    case_ref: str
    person: str
    created: datetime
    items: int
    generation: int = 0
    state: UploadState = UploadState.ANNOUNCED
    reference: str = ""


def fold(steps: Iterable[UploadStep]) -> tuple[UploadState, str]:
    """Return the state and the latest reference that a set of steps amounts to."""
    ordered = sorted(steps, key=lambda s: (_ORDER.index(s.state), s.at, s.id))
    if not ordered:
        return UploadState.ANNOUNCED, ""
    reference = next((s.reference for s in reversed(ordered) if s.reference), "")
    return ordered[-1].state, reference


def check_step(state: UploadState, wanted: UploadState, reference: str) -> None:
    """Raise WrongState or InvalidInput when the repository may not move an upload so.

    Steps may be skipped forwards (additions are numbered at once), never taken backwards; a number
    needs its reference.
    """
    if state is UploadState.WITHDRAWN or _ORDER.index(wanted) <= _ORDER.index(state):
        raise WrongState(f"an upload that is {state.value} cannot become {wanted.value}")
    if wanted is UploadState.NUMBERED and not reference.strip():
        raise InvalidInput(
            "a numbered upload needs --reference with the repository's series number"
        )
