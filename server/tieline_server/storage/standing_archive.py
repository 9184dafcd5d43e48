"""The outbox as an archive: what was delivered may have to go again, or comes back from a peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import func, insert, literal, select, tuple_, update

from tieline_server.domain.messages import OutMessage, OutState
from tieline_server.domain.standing import Ranges
from tieline_server.storage.schema_delivery import outbox
from tieline_server.storage.schema_exchange import outgoing_attachments
from tieline_server.storage.session import Session

_SENDABLE = select(outgoing_attachments.c.id).union(select(literal("")))
"""Attachments whose chunks are still here, and none."""


class Archive:
    """The part of `StandingRepository` that works on the outbox."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def requeue(self, peer: str, lane: int, ranges: Ranges) -> tuple[int, Ranges]:
        """Queue again what was delivered of these sequences and is still there, items included.

        Returns how many, and the ranges that will never come: refused, erased, or of no message.
        """
        again = {"state": OutState.QUEUED.value, "settled": None, "held_until": None}
        count = 0
        voids: list[tuple[int, int]] = []
        c = outbox.c
        for first, last in ranges:
            span = (c.recipient == peer, c.lane == lane, c.sequence.between(first, last))
            done = self._run(
                update(outbox)
                .where(*span, c.state == OutState.DELIVERED.value, func.length(c.envelope) > 0)
                .where(c.attachment.in_(_SENDABLE))
                .values(**again, reason="sent again")
            )
            count += done.rowcount
            coming = (OutState.QUEUED.value, OutState.PARKED.value)
            alive = select(c.sequence).where(*span, c.state.in_(coming)).order_by(c.sequence)
            voids += _complement(first, last, self._session.connection.scalars(alive))
        return count, tuple(voids)

    def revive(self, peer: str) -> int:
        """Queue what was parked for a peer; return how many."""
        c = outbox.c
        done = self._run(
            update(outbox)
            .where(c.recipient == peer, c.state == OutState.PARKED.value)
            .values(state=OutState.QUEUED.value, settled=None, held_until=None, reason="")
        )
        return int(done.rowcount)

    def raise_sent(self, peer: str, lane: int, at_least: int) -> None:
        """Let the lane's next sequence be above this one."""
        raise_counter(self._session, lane_counter(peer, lane), at_least)

    def first_unsure(self, peer: str, lane: int) -> int:
        """Return the first sequence of a lane of which nobody told this node what came of it."""
        c = outbox.c
        coming = (OutState.QUEUED.value, OutState.PARKED.value)
        settled = select(c.sequence).where(
            c.recipient == peer, c.lane == lane, c.state.not_in(coming)
        )
        first = 1
        for sequence in self._session.connection.scalars(settled.order_by(c.sequence)):
            if sequence > first:
                break
            first = sequence + 1
        return first

    def put_back(self, message: OutMessage) -> bool:
        """Give a message its old place in the outbox; False when it had it already.

        Whatever else holds that place goes to the end of its lane.
        """
        c, lane = outbox.c, int(message.lane)
        place = (c.recipient == message.recipient, c.lane == lane, c.sequence == message.sequence)
        other = self._session.connection.scalar(select(c.id).where(*place))
        if other is not None and other != message.id:
            self._to_the_end(message.recipient, lane, other)
        values = asdict(message) | {"lane": lane, "state": message.state.value}
        key = (c.id == message.id, c.recipient == message.recipient)
        known = self._run(select(outbox).where(*key)).one_or_none()
        if known is None:
            self._run(insert(outbox).values(**values))
            return True
        if (known.state, known.sequence) == (message.state.value, message.sequence):
            return False
        kept: dict[str, object] = {"sequence": message.sequence, "state": message.state.value}
        kept |= {"settled": message.settled, "reason": message.reason, "held_until": None}
        self._run(update(outbox).where(*key).values(**kept))
        return True

    def _to_the_end(self, peer: str, lane: int, message: str) -> None:
        sequence = self._session.next(lane_counter(peer, lane))
        c = outbox.c
        self._run(
            update(outbox).where(c.id == message, c.recipient == peer).values(sequence=sequence)
        )

    def settled_before(self, before: datetime, limit: int) -> list[tuple[str, str]]:
        """Return (id, recipient) of messages settled before a time whose envelopes are there."""
        c = outbox.c
        settled = (OutState.DELIVERED.value, OutState.REFUSED.value)
        old = select(c.id, c.recipient).where(
            c.settled < before, c.state.in_(settled), func.length(c.envelope) > 0
        )
        return [(row.id, row.recipient) for row in self._run(old.limit(limit))]

    def blank(self, messages: Sequence[tuple[str, str]]) -> None:
        """Erase the envelopes of messages, by (id, recipient). Rows stay."""
        key = tuple_(outbox.c.id, outbox.c.recipient)
        self._run(update(outbox).where(key.in_(list(messages))).values(envelope=b""))


def raise_counter(session: Session, name: str, at_least: int) -> None:
    """Let a counter's next number be above this one."""
    lacking = at_least - session.counter(name)
    if lacking > 0:
        session.next(name, lacking)


def lane_counter(peer: str, lane: int) -> str:
    """Return the name of the counter of a lane to a peer."""
    return f"outbox/{peer}/{lane}"


def _complement(first: int, last: int, present: Iterable[int]) -> Ranges:
    """The ranges of a span that are not among ``present``, which ascends."""
    ranges, after = [], first
    for one in present:
        if one > after:
            ranges.append((after, one - 1))
        after = one + 1
    if after <= last:
        ranges.append((after, last))
    return tuple(ranges)
