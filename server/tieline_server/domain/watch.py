"""Standing queries: when a peer is asked again, for what, and how far that has come.

A watched list is asked in parts. A round at a peer is all of its parts; it asks whole what was
never asked there, else what came to count after the round before. What came to count while a round
was under way may or may not be in it, so the next round begins where its first answer stood:
nothing is missed, and what is told twice is counted once. No I/O here; the time is an argument.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
from tieline_client import limits

Numbers = npt.NDArray[np.uint32]
"""Watched items by their indexes, ascending and distinct."""
NONE: Numbers = np.zeros(0, dtype=np.uint32)


class WatchState(enum.StrEnum):
    """Where a standing query stands."""

    COMING = "coming"
    """Its list is still coming in; it counts for nothing."""
    ACTIVE = "active"
    REMOVED = "removed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom those who hold a match may call."""

    organization: str = ""
    name: str = ""
    phone: str = ""
    email: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """One standing query, without its list. ``peers`` empty: those that policy lists. ``counts``
    are its digests by kind, ``records`` its items; ``alert`` is the VICS alert it was made from."""

    id: str
    name: str
    person: str
    purpose: str
    case_ref: str
    reference: str
    priority: int
    created: datetime
    until: datetime
    near: bool
    records: int
    excluded: int
    counts: tuple[int, ...]
    peers: tuple[str, ...] = ()
    alert: str = ""
    caller: Caller = field(default_factory=Caller)
    state: WatchState = WatchState.COMING
    ended: datetime | None = None

    @property
    def parts(self) -> int:
        """Questions in which it is asked."""
        return max(-(-self.records // limits.WATCH_PART_RECORDS), 1)


@dataclass(frozen=True, slots=True, eq=False)
class Position:
    """How far one peer was asked one list.

    All up to (``epoch``, ``generation``) is known since ``completed``. Of the round under way the
    parts before ``part`` are, as its first answer stood at (``began_epoch``, ``began``).
    """

    watch: str
    peer: str
    epoch: str = ""
    generation: int = 0
    completed: datetime | None = None
    part: int = 0
    began_epoch: str = ""
    began: int = 0
    not_before: datetime | None = None
    claimed: datetime | None = None
    """Until then another run has it in hand."""
    status: str = ""
    reason: str = ""
    matched: Numbers = field(default_factory=lambda: NONE)

    @property
    def since(self) -> tuple[str, int] | None:
        """The epoch and generation after which all is new; None: the list is asked whole."""
        if self.completed is None or not self.epoch or not self.generation:
            return None
        return self.epoch, self.generation


@dataclass(frozen=True, slots=True)
class Told:
    """What a peer last said of its index."""

    epoch: str
    generation: int


@dataclass(frozen=True, slots=True)
class SharedWith:
    """A series in which something matched, as far as its holder told."""

    id: str
    status: str
    references: tuple[str, ...]
    contact_name: str
    contact_email: str
    contact_phone: str


@dataclass(frozen=True, slots=True)
class Notice:
    """That ``fresh`` items matched at a peer that had not before, ``matched`` of ``records`` until
    then; ``told``: whether the peer was told of it."""

    id: str
    watch: str
    peer: str
    at: datetime
    fresh: int
    matched: int
    records: int
    receipt: str
    told: bool
    series: tuple[SharedWith, ...] = ()


def last_night(now: datetime, hour: int) -> datetime:
    """Return when the last night's run was due: ``hour`` o'clock UTC."""
    tonight = now.astimezone(UTC).replace(hour=hour, minute=0, second=0, microsecond=0)
    return tonight if tonight <= now else tonight - timedelta(days=1)


def is_due(
    position: Position, told: Told | None, now: datetime, hour: int, *, by_hand: bool
) -> bool:
    """Whether a peer is to be asked.

    1. Never while another run has it in hand; after a failure not before its time, unless a person
       says so.
    2. What was begun is ended, and what was never asked is asked.
    3. Never twice for one generation of the peer's index.
    4. Otherwise once a night, or when a person says so and the peer has said that there is more.
    """
    if position.claimed is not None and position.claimed > now:  # 1
        return False
    if position.not_before is not None and position.not_before > now and not by_hand:
        return False
    if position.part or position.completed is None:  # 2
        return True
    same = told is not None and told.epoch == position.epoch
    if same and told is not None and told.generation <= position.generation:  # 3
        return False
    return position.completed < last_night(now, hour) or (by_hand and told is not None)  # 4


def advance(position: Position, parts: int, at: tuple[str, int] | None, now: datetime) -> Position:
    """Return the position after an answer to its next part, whose receipt named ``at``.

    None: nothing of the part was left to be asked. A peer that begins a new epoch amid a round is
    asked whole, from the first part on: its generations count anew.
    """
    began = (position.began_epoch, position.began)
    if position.part == 0 and at is not None:
        began = at
    if at is not None and position.part and at[0] != began[0]:
        return replace(
            position, epoch="", generation=0, completed=None, part=0, began_epoch="", began=0
        )
    if position.part + 1 < parts:
        return replace(
            position, part=position.part + 1, began_epoch=began[0], began=began[1], not_before=None
        )
    return replace(
        position,
        epoch=began[0],
        generation=began[1],
        completed=now,
        part=0,
        began_epoch="",
        began=0,
        not_before=None,
    )


def percent(matched: int, records: int) -> int:
    """Return how much of a list matched: 100 only for all of it, 0 only for nothing."""
    if not matched or not records:
        return 0
    return max(min(matched * 100 // records, 100), 1)
