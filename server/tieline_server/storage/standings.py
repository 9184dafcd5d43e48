"""What this node says of its own life, what it knows of peers', and the places in lanes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, bindparam, func, insert, literal, select, tuple_, update
from tieline_client.identifiers import new_id

from tieline_server.domain.messages import InMessage, OutMessage, OutState
from tieline_server.domain.ports.standings import Challenge
from tieline_server.domain.referral import Urgency
from tieline_server.domain.standing import (
    Known,
    LaneKnown,
    LaneWord,
    Ranges,
    Trouble,
    Word,
    gaps_of,
)
from tieline_server.storage.messages import read_in
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema_base import counters, meta
from tieline_server.storage.schema_delivery import outbox
from tieline_server.storage.schema_exchange import inbox, outgoing_attachments
from tieline_server.storage.schema_standings import standing_lanes, standings
from tieline_server.storage.session import Session
from tieline_server.storage.standing_lanes import new_lane, ranges_above, settle

GAPS_SAID = 64
"""Gaps and voids of a lane that one standing names; the rest comes once these are filled."""
_EPOCH, _START, _LIFE = "epoch", "start", "life"
_RENEWED = "epoch_generation"
"""Set when an epoch was begun that is not the first: the items' generation then."""
_OWN = (_EPOCH, _START, _LIFE)
_GENERATION = "generation"

# Said and heard with every batch: put together once.
_MINE = select(meta.c.key, meta.c.value).where(meta.c.key.in_(_OWN))
_SENT = select(counters.c.name, counters.c.value).where(
    counters.c.name.in_(bindparam("lanes", expanding=True))
)
_LANES = select(standing_lanes).where(standing_lanes.c.agency == bindparam("peer"))
_KNOWN = select(standings).where(standings.c.agency == bindparam("peer"))
_SENDABLE = select(outgoing_attachments.c.id).union(select(literal("")))
"""Attachments whose chunks are still here, and none."""
_HOLDER = Prepared(
    lambda _: select(inbox.c.id).where(
        inbox.c.sender == bindparam("peer"),
        inbox.c.lane == bindparam("in_lane"),
        inbox.c.sequence == bindparam("place"),
    )
)


class Standings:
    """`StandingRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    # --- this node ---

    def begin_life(self) -> None:
        """Register a start of this node: the next start, a new life id."""
        own = self._own()
        if _EPOCH not in own:
            self._set(_EPOCH, new_id())
        self._set(_START, str(int(own.get(_START, "0")) + 1))
        self._set(_LIFE, new_id())

    def begin_epoch(self) -> str:
        """Begin a new epoch; return it. Starts are counted on."""
        epoch = new_id()
        self._set(_EPOCH, epoch)
        self._set(_RENEWED, str(self._session.counter(_GENERATION)))
        self.begin_life()
        # What peers held against the epoch that is left is past; they say so anew if it is not.
        self._run(update(standings).values(told="", told_since=None))
        return epoch

    def epoch(self) -> str:
        """Return this node's epoch."""
        return self._own().get(_EPOCH, "")

    def renewed(self) -> bool:
        """Whether this node was ever restored or resynchronised."""
        return self._get(_RENEWED) is not None

    def generation_at_epoch(self) -> int:
        """Return the items' generation when the epoch began; 0 in the first."""
        return int(self._get(_RENEWED) or 0)

    def mine(self, peer: str) -> Word:
        """Return this node as it stands towards a peer."""
        own = self._own()
        names = {_counter(peer, int(lane)): int(lane) for lane in Urgency}
        sent = {names[row.name]: row.value for row in self._run(_SENT, {"lanes": list(names)})}
        lanes = {}
        rows = {row.lane: row for row in self._run(_LANES, {"peer": peer})}
        for lane in names.values():
            row = rows.get(lane)
            applied, highest = (row.applied, row.highest) if row is not None else (0, 0)
            gaps: Ranges = ()
            if highest > applied:
                gaps = gaps_of(applied, ranges_above(self._session, peer, lane, GAPS_SAID))
            voids = _ranges_in(row.voids) if row is not None else ()
            lanes[lane] = LaneWord(sent.get(lane, 0), applied, highest, gaps, voids)
        return Word(own.get(_EPOCH, ""), int(own.get(_START, "0")), own.get(_LIFE, ""), lanes)

    # --- peers ---

    def known(self, peer: str) -> Known:
        """Return what is known of a peer; in a writing transaction it stays so until the end."""
        if self._session.writing and self._session.postgres:
            self._session.insert_new(standings, _new_row(peer))
        row = self._run(self._session.locked(_KNOWN), {"peer": peer}).one_or_none()
        if row is None:
            return Known(lanes=self._lanes(peer))
        return _known(row, self._lanes(peer))

    def peers(self) -> dict[str, Known]:
        """Return what is known of each peer, without its lanes."""
        return {
            row.agency: _known(row, {})
            for row in self._run(select(standings).order_by(standings.c.agency))
        }

    def put(self, peer: str, known: Known) -> None:
        """Store what is known of a peer, its lanes' own word included."""
        values = {
            "epoch": known.epoch,
            "lives": json.dumps(known.lives),
            "retired": json.dumps(sorted(known.retired)),
            "trouble": known.trouble.value,
            "reason": known.reason,
            "since": known.since,
            "told": known.told,
            "told_since": known.told_since,
            "recovered": known.recovered,
            "wire": known.wire,
            "capabilities": json.dumps(sorted(known.capabilities)),
        }
        statement = self._session.upsert(standings).values(**_new_row(peer) | values)
        self._run(statement.on_conflict_do_update(index_elements=["agency"], set_=values))
        for lane, one in known.lanes.items():
            said = {
                "received": one.received,
                "their_sent": one.sent,
                "their_applied": one.applied,
                "their_highest": one.highest,
            }
            added = self._session.upsert(standing_lanes).values(**new_lane(peer, lane) | said)
            self._run(added.on_conflict_do_update(index_elements=["agency", "lane"], set_=said))

    def challenge(self, peer: str) -> Challenge | None:
        """Return the word that was asked for again and has not come."""
        row = self._run(_KNOWN, {"peer": peer}).one_or_none()
        if row is None or not row.challenge:
            return None
        return Challenge(row.challenge, _asked_in(row.asked))

    def put_challenge(self, peer: str, challenge: Challenge | None) -> None:
        """Remember that a word was asked for again, or that it came."""
        values = {
            "challenge": challenge.id if challenge else "",
            "asked": _asked_out(challenge.asked) if challenge else "",
        }
        statement = self._session.upsert(standings).values(**_new_row(peer) | values)
        self._run(statement.on_conflict_do_update(index_elements=["agency"], set_=values))

    # --- lanes ---

    def settle(self, peer: str, lane: int, first: int, last: int) -> None:
        """Note that sequences of a peer are settled here without a message: they are void."""
        settle(self._session, peer, lane, first, last)

    def holder(self, peer: str, lane: int, sequence: int) -> str | None:
        """Return the id of the message of a peer that has this place, if one has."""
        place = {"peer": peer, "in_lane": lane, "place": sequence}
        found = _HOLDER.run(self._session, place).fetchone()
        return None if found is None else str(found[0])

    def of_sender(self, peer: str, lane: int, first: int, limit: int) -> list[InMessage]:
        """Return messages of a peer from a sequence on, in order."""
        c = inbox.c
        found = select(inbox).where(c.sender == peer, c.lane == lane, c.sequence >= first)
        return [read_in(row) for row in self._run(found.order_by(c.sequence).limit(limit))]

    # --- the outbox as an archive ---

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

    def put_voids(self, peer: str, lane: int, voids: Ranges) -> None:
        """Remember what a peer lacks of a lane and will never get; it is said with `mine`."""
        values = {"voids": json.dumps(voids[:GAPS_SAID])}
        statement = self._session.upsert(standing_lanes).values(**new_lane(peer, lane) | values)
        self._run(statement.on_conflict_do_update(index_elements=["agency", "lane"], set_=values))

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
        raise_counter(self._session, _counter(peer, lane), at_least)

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
        sequence = self._session.next(_counter(peer, lane))
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

    # --- small things ---

    def _own(self) -> dict[str, str]:
        return {row.key: row.value for row in self._run(_MINE)}

    def _get(self, key: str) -> str | None:
        value: str | None = self._session.connection.scalar(
            select(meta.c.value).where(meta.c.key == key)
        )
        return value

    def _set(self, key: str, value: str) -> None:
        statement = self._session.upsert(meta).values(key=key, value=value)
        self._run(statement.on_conflict_do_update(index_elements=["key"], set_={"value": value}))

    def _lanes(self, peer: str) -> dict[int, LaneKnown]:
        return {
            row.lane: LaneKnown(
                row.received,
                row.their_sent,
                row.their_applied,
                row.their_highest,
                _ranges_in(row.voids),
            )
            for row in self._run(_LANES, {"peer": peer})
        }


def raise_counter(session: Session, name: str, at_least: int) -> None:
    """Let a counter's next number be above this one."""
    lacking = at_least - session.counter(name)
    if lacking > 0:
        session.next(name, lacking)


def _counter(peer: str, lane: int) -> str:
    return f"outbox/{peer}/{lane}"


def _complement(first: int, last: int, present: Any) -> Ranges:
    """The ranges of a span that are not among ``present``, which ascends."""
    ranges, after = [], first
    for one in present:
        if one > after:
            ranges.append((after, one - 1))
        after = one + 1
    if after <= last:
        ranges.append((after, last))
    return tuple(ranges)


def _ranges_in(text: str) -> Ranges:
    return tuple((first, last) for first, last in json.loads(text))


def _new_row(peer: str) -> dict[str, object]:
    words = ("epoch", "trouble", "reason", "told", "recovered", "wire", "challenge", "asked")
    empty: dict[str, object] = dict.fromkeys(words, "")
    empty |= dict.fromkeys(("lives", "retired", "capabilities"), "[]")
    return {"agency": peer, **empty}


def _known(row: Row[Any], lanes: Mapping[int, LaneKnown]) -> Known:
    return Known(
        epoch=row.epoch,
        lives=tuple((start, life) for start, life in json.loads(row.lives)),
        retired=frozenset(json.loads(row.retired)),
        lanes=lanes,
        trouble=Trouble(row.trouble),
        reason=row.reason,
        since=row.since,
        told=row.told,
        told_since=row.told_since,
        recovered=row.recovered,
        wire=row.wire,
        capabilities=frozenset(json.loads(row.capabilities)),
    )


def _asked_out(known: Known) -> str:
    """What a word is judged by, as JSON."""
    lanes = {lane: (o.received, o.sent, o.applied, o.highest) for lane, o in known.lanes.items()}
    return json.dumps([known.epoch, known.lives, sorted(known.retired), lanes])


def _asked_in(text: str) -> Known:
    epoch, lives, retired, lanes = json.loads(text)
    return Known(
        epoch=epoch,
        lives=tuple((start, life) for start, life in lives),
        retired=frozenset(retired),
        lanes={int(lane): LaneKnown(*one) for lane, one in lanes.items()},
    )
