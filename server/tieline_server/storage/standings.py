"""What this node says of its own life, what it knows of peers', and the places in lanes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import (
    Table,
    bindparam,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from tieline_client.identifiers import new_id

from tieline_server.domain.messages import InMessage
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
from tieline_server.storage.schema_exchange import inbox
from tieline_server.storage.schema_standings import standing_lanes, standings
from tieline_server.storage.standing_archive import Archive, lane_counter
from tieline_server.storage.standing_lanes import new_lane, ranges_above, settle
from tieline_server.storage.types import moment_of

GAPS_SAID = 64
"""Gaps and voids of a lane that one standing names; the rest comes once these are filled."""
_EPOCH, _START, _LIFE = "epoch", "start", "life"
_RENEWED = "epoch_generation"
"""Set when an epoch was begun that is not the first: the items' generation then."""
_OWN = (_EPOCH, _START, _LIFE)
_GENERATION = "generation"

# Said and heard with every batch: put together once.
_MINE = Prepared(
    lambda _: select(meta.c.key, meta.c.value).where(
        or_(*(meta.c.key == literal_column(f"'{key}'") for key in _OWN))
    )
)
_META = Prepared(lambda _: select(meta.c.value).where(meta.c.key == bindparam("name")))
_SENT = Prepared(
    lambda _: select(counters.c.name, counters.c.value).where(
        or_(*(counters.c.name == bindparam(f"lane_{int(lane)}") for lane in Urgency))
    )
)
_LANES = Prepared(
    lambda _: select(standing_lanes).where(standing_lanes.c.agency == bindparam("peer"))
)
_KNOWN = Prepared(lambda _: select(standings).where(standings.c.agency == bindparam("peer")))
_PEERS = Prepared(lambda _: select(standings).order_by(standings.c.agency))
_KNOWN_LOCKED = Prepared(
    lambda _: select(standings).where(standings.c.agency == bindparam("peer")).with_for_update()
)


def _put(table: Table, keys: tuple[str, ...], kept: frozenset[str]) -> Prepared:
    """A row put in the place of the one with its key, but for what is ``kept`` of that."""

    def make(postgres: bool) -> Any:
        added = (postgresql if postgres else sqlite).insert(table)
        added = added.values({column.name: bindparam(column.name) for column in table.columns})
        changed = {
            column.name: added.excluded[column.name]
            for column in table.columns
            if column.name not in kept | set(keys)
        }
        return added.on_conflict_do_update(index_elements=list(keys), set_=changed)

    return Prepared(make)


_PUT = _put(standings, ("agency",), frozenset({"challenge", "asked"}))
_PUT_LANE = _put(standing_lanes, ("agency", "lane"), frozenset({"applied", "highest", "voids"}))
_HOLDER = Prepared(
    lambda _: select(inbox.c.id).where(
        inbox.c.sender == bindparam("peer"),
        inbox.c.lane == bindparam("in_lane"),
        inbox.c.sequence == bindparam("place"),
    )
)


class _Row(NamedTuple):
    """A row of standings, times in microseconds."""

    agency: str
    epoch: str
    lives: str
    retired: str
    trouble: str
    reason: str
    since: int | None
    told: str
    told_since: int | None
    recovered: str
    wire: str
    capabilities: str
    challenge: str
    asked: str


class _LaneRow(NamedTuple):
    """A row of standing_lanes."""

    agency: str
    lane: int
    applied: int
    highest: int
    received: int
    their_sent: int
    their_applied: int
    their_highest: int
    voids: str


class Standings(Archive):
    """`StandingRepository` over SQLAlchemy."""

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
        names = {lane_counter(peer, int(lane)): int(lane) for lane in Urgency}
        asked = {f"lane_{lane}": name for name, lane in names.items()}
        sent = {names[name]: value for name, value in _SENT.run(self._session, asked).fetchall()}
        lanes = {}
        rows = self._lane_rows(peer)
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
        row = self._row(peer)
        if row is None:
            return Known(lanes=self._lanes(peer))
        return _known(row, self._lanes(peer))

    def peers(self) -> dict[str, Known]:
        """Return what is known of each peer, without its lanes."""
        return {row[0]: _known(_Row(*row), {}) for row in _PEERS.run(self._session, {}).fetchall()}

    def put(self, peer: str, known: Known) -> None:
        """Store what is known of a peer, its lanes' own word included."""
        values: dict[str, object] = {
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
        _PUT.run(self._session, _new_row(peer) | values)
        for lane, one in known.lanes.items():
            said = {
                "received": one.received,
                "their_sent": one.sent,
                "their_applied": one.applied,
                "their_highest": one.highest,
            }
            _PUT_LANE.run(self._session, new_lane(peer, lane) | said)

    def challenge(self, peer: str) -> Challenge | None:
        """Return the word that was last asked for again."""
        row = self._row(peer)
        if row is None or not row.challenge:
            return None
        identifier, _, came = row.challenge.partition(" ")
        return Challenge(identifier, _asked_in(row.asked), open=not came)

    def put_challenge(self, peer: str, challenge: Challenge | None) -> None:
        """Remember that a word was asked for again, or that it came."""
        values = {
            "challenge": _challenge_out(challenge) if challenge else "",
            "asked": _asked_out(challenge.asked) if challenge else "",
        }
        statement = self._session.upsert(standings).values(**_new_row(peer) | values)
        self._run(statement.on_conflict_do_update(index_elements=["agency"], set_=values))

    # --- lanes ---

    def settle(self, peer: str, lane: int, first: int, last: int) -> None:
        """Note that sequences of a peer are settled here without a message: they are void."""
        settle(self._session, peer, lane, ((first, last),))

    def came(self, peer: str, places: Iterable[tuple[int, int]]) -> None:
        """Note that messages of a peer, which are in the inbox now, have these places (lane,
        sequence). One without a sequence (0) has none."""
        lanes: dict[int, list[tuple[int, int]]] = {}
        for lane, place in places:
            if place:
                lanes.setdefault(lane, []).append((place, place))
        for lane, settled in lanes.items():
            settle(self._session, peer, lane, tuple(settled), came=True)

    def put_voids(self, peer: str, lane: int, voids: Ranges) -> None:
        """Remember what a peer lacks of a lane and will never get; it is said with `mine`."""
        values = {"voids": json.dumps(voids[:GAPS_SAID])}
        statement = self._session.upsert(standing_lanes).values(**new_lane(peer, lane) | values)
        self._run(statement.on_conflict_do_update(index_elements=["agency", "lane"], set_=values))

    def highest(self, peer: str) -> dict[int, int]:
        """Return the highest place of each lane of a peer that is settled here."""
        return {row.lane: max(row.applied, row.highest) for row in self._lane_rows(peer).values()}

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

    # --- small things ---

    def _own(self) -> dict[str, str]:
        return dict(_MINE.run(self._session, {}).fetchall())

    def _row(self, peer: str) -> _Row | None:
        lock = self._session.writing and self._session.postgres
        found = (_KNOWN_LOCKED if lock else _KNOWN).run(self._session, {"peer": peer}).fetchone()
        return None if found is None else _Row(*found)

    def _lane_rows(self, peer: str) -> dict[int, _LaneRow]:
        found = _LANES.run(self._session, {"peer": peer}).fetchall()
        return {row[1]: _LaneRow(*row) for row in found}

    def _get(self, key: str) -> str | None:
        found = _META.run(self._session, {"name": key}).fetchone()
        return None if found is None else str(found[0])

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
            for row in self._lane_rows(peer).values()
        }


def _ranges_in(text: str) -> Ranges:
    return tuple((first, last) for first, last in json.loads(text)) if text != "[]" else ()


def _new_row(peer: str) -> dict[str, object]:
    words = ("epoch", "trouble", "reason", "told", "recovered", "wire", "challenge", "asked")
    empty: dict[str, object] = dict.fromkeys(words, "")
    empty |= dict.fromkeys(("lives", "retired", "capabilities"), "[]")
    return {"agency": peer, "since": None, "told_since": None, **empty}


def _known(row: _Row, lanes: Mapping[int, LaneKnown]) -> Known:
    return Known(
        epoch=row.epoch,
        lives=tuple((start, life) for start, life in json.loads(row.lives)),
        retired=frozenset(json.loads(row.retired)),
        lanes=lanes,
        trouble=Trouble(row.trouble),
        reason=row.reason,
        since=moment_of(row.since),
        told=row.told,
        told_since=moment_of(row.told_since),
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


def _challenge_out(challenge: Challenge) -> str:
    return challenge.id if challenge.open else f"{challenge.id} came"
