"""Retraction: an owner withdraws a series, narrows who may keep it, or tightens its handling.

A retraction only ever takes away: whoever applies several, in whatever order and however often,
ends with the same. It goes to everybody whom the owner told, and from each of them to everybody
whom they told; each answers with a receipt once no copy is left that it does not allow.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime

from tieline_client.errors import InvalidInput
from tieline_client.handling import Handling, is_within, stricter

from tieline_server.domain.broadcast import Broadcast
from tieline_server.domain.referral import Direction, Referral
from tieline_server.domain.upload import Upload


class RetractionKind(enum.StrEnum):
    """What an owner does."""

    WITHDRAW = "withdraw"
    NARROW = "narrow"


class RecipientState(enum.StrEnum):
    """How far a retraction came with one recipient, as the owner sees it."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    CONFIRMED = "confirmed"
    """Its signed receipt is here."""
    REFUSED = "refused"


class PurgeState(enum.StrEnum):
    """How far an erasure is; each step is durable before the next begins."""

    ERASING = "erasing"
    ERASED = "erased"
    """Nothing of it is in the tables."""
    SCRUBBED = "scrubbed"
    """Nothing of it is in any file."""
    DONE = "done"
    """What its end had to tell is queued."""


class PurgeCause(enum.StrEnum):
    """Why something is erased."""

    RETRACTION = "retraction"
    RETENTION = "retention"
    REMOVAL = "removal"
    """An officer took an import back."""


@dataclass(frozen=True, slots=True)
class Retraction:
    """One owner's word about one series. ``sender`` is who brought it first, empty at the owner;
    ``only`` are the agencies that may keep it, where it is ``limited`` to some."""

    id: str
    series: str
    kind: RetractionKind
    at: datetime
    person: str
    reason: str = ""
    handling: Handling | None = None
    limited: bool = False
    only: frozenset[str] = frozenset()
    sender: str = ""
    envelope: bytes = b""
    """As it came, to be shown to whom it is forwarded."""

    def excludes(self, agency: str) -> bool:
        """Whether this agency may not keep the series."""
        if self.kind is RetractionKind.WITHDRAW:
            return True
        return self.limited and agency not in self.only


@dataclass(frozen=True, slots=True)
class Restriction:
    """What all retractions of a series amount to. ``only`` None: everybody who was told."""

    withdrawn: bool = False
    only: frozenset[str] | None = None
    handling: Handling | None = None

    def excludes(self, agency: str, owner: str) -> bool:
        """Whether this agency may not have the series. The owner has it, come what may."""
        if agency == owner:
            return False
        return self.withdrawn or (self.only is not None and agency not in self.only)

    def on(self, handling: Handling) -> Handling:
        """Return a handling as restricted."""
        return handling if self.handling is None else stricter(handling, self.handling)


def fold(retractions: Iterable[Retraction]) -> Restriction:
    """Return what retractions amount to; order and repetition do not matter."""
    withdrawn, only, handling = False, None, None
    for one in sorted(retractions, key=lambda each: (each.at, each.id)):
        withdrawn |= one.kind is RetractionKind.WITHDRAW
        if one.limited:
            only = one.only if only is None else only & one.only
        if one.handling is not None:
            handling = one.handling if handling is None else stricter(handling, one.handling)
    return Restriction(withdrawn, only, handling)


def check_narrowing(
    before: Handling, restriction: Restriction, wanted: Retraction, today: date
) -> None:
    """Raise InvalidInput when a retraction would loosen anything, or change nothing."""
    if wanted.kind is RetractionKind.WITHDRAW:
        return
    if wanted.handling is not None:
        if not is_within(wanted.handling, before):
            raise InvalidInput(
                "narrowing only restricts: the handling code or TLP is lower, or the retention "
                f"date later, than {before.code.name}, {before.tlp.label}, {before.retain_until}"
            )
        if wanted.handling.retain_until <= today:
            raise InvalidInput("the retention date is past; withdraw the series instead")
    if wanted.limited and restriction.only is not None and not wanted.only <= restriction.only:
        raise InvalidInput(
            f"the series is narrowed to {_names(restriction.only)} already; refer it anew"
        )
    same = wanted.handling is None or wanted.handling == before
    if same and not wanted.limited:
        raise InvalidInput("say what is narrowed: --handling, --tlp, --retain-until or --only")


def _names(agencies: frozenset[str]) -> str:
    return ", ".join(sorted(agencies)) or "nobody"


def told(
    owner: str,
    own: str,
    referrals: Iterable[Referral],
    broadcasts: Iterable[tuple[Broadcast, Iterable[str]]],
    uploads: Iterable[Upload],
    released: Iterable[str] = (),
) -> frozenset[str]:
    """Return everybody whom this agency (``own``) told a series: by referral, broadcast, deposit,
    or by releasing references of it (``released``).

    A message that is still queued counts: it may be on the wire at this moment. The owner is left
    out: it knows.
    """
    agencies = {one.recipient for one in referrals if one.direction is Direction.OUT}
    for broadcast, recipients in broadcasts:
        if broadcast.direction is Direction.OUT:
            agencies.update(recipients)
    agencies |= {one.repository for one in uploads if one.direction is Direction.OUT}
    agencies.update(released)
    return frozenset(agencies - {owner, own})


def recipient_state(sent: str | None, *, confirmed: bool) -> RecipientState:
    """Return a recipient's state from that of the message that tells it, None for one that somebody
    else tells, whose message is in another outbox."""
    if confirmed:
        return RecipientState.CONFIRMED
    if sent == "delivered":
        return RecipientState.DELIVERED
    return RecipientState.REFUSED if sent == "refused" else RecipientState.QUEUED
