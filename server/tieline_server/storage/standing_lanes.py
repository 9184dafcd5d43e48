"""How far a peer's lane is settled: a watermark, and ranges above it.

The messages of a batch pass here together, so the usual way (in order, nothing above) is one row
looked up and one row changed for all of them. A peer that leaves out places makes as many ranges as
it likes; those that what came does not touch are not looked at.
"""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update

from tieline_server.domain.standing import Ranges, settle_range
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema_standings import standing_lanes, standing_ranges
from tieline_server.storage.session import Session

_L, _R = standing_lanes.c, standing_ranges.c
_KEY = (_L.agency == bindparam("peer"), _L.lane == bindparam("in_lane"))


def _look(postgres: bool) -> object:
    found = select(_L.applied, _L.highest, _L.received).where(*_KEY)
    return found.with_for_update() if postgres else found


_LOOK = Prepared(_look)  # type: ignore[arg-type]
_MOVE = Prepared(
    lambda _: (
        update(standing_lanes)
        .where(*_KEY)
        .values(
            applied=bindparam("new_applied"),
            highest=bindparam("new_highest"),
            received=bindparam("new_received"),
        )
    )
)
_OF_LANE = (_R.agency == bindparam("peer"), _R.lane == bindparam("in_lane"))
_BEFORE = Prepared(
    lambda _: (
        select(_R.first, _R.last)
        .where(*_OF_LANE, _R.first < bindparam("low"))
        .order_by(_R.first.desc())
        .limit(1)
    )
)
_WITHIN = Prepared(
    lambda _: select(_R.first, _R.last).where(
        *_OF_LANE, _R.first >= bindparam("low"), _R.first <= bindparam("high")
    )
)
_RANGES = select(_R.first, _R.last).where(*_OF_LANE).order_by(_R.first)


def settle(session: Session, peer: str, lane: int, settled: Ranges, *, came: bool = False) -> None:
    """Note that sequences of a peer are settled here, from the first to the last of each range;
    ``came``: by messages of its epoch."""
    settled = _merged(settled)
    if not settled:
        return
    key: dict[str, object] = {"peer": peer, "in_lane": lane}
    row = _LOOK.run(session, key).fetchone()
    if row is None:
        session.insert_new(standing_lanes, new_lane(peer, lane))
        row = _LOOK.run(session, key).fetchone()
    applied, highest, received = row
    above = _touching(session, key, settled) if highest > applied else ()
    after = above
    for first, last in settled:
        if first == applied + 1 and not after:
            applied = last
        else:
            applied, after = settle_range(applied, after, first, last)
    if above != after:
        _put_ranges(session, peer, lane, set(above), set(after))
    last = settled[-1][1]
    values = {
        "new_applied": applied,
        "new_highest": max(highest, last),
        "new_received": max(received, last) if came else received,
    }
    _MOVE.run(session, key | values)


def ranges_above(session: Session, peer: str, lane: int, limit: int | None = None) -> Ranges:
    """Return the settled ranges above a lane's watermark, ascending."""
    found = session.connection.execute(_RANGES.limit(limit), {"peer": peer, "in_lane": lane})
    return tuple((row.first, row.last) for row in found)


def _merged(settled: Ranges) -> Ranges:
    """Return ranges ascending and apart from one another."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(one for one in settled if one[0] <= one[1]):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return tuple(merged)


def _touching(session: Session, key: dict[str, object], settled: Ranges) -> Ranges:
    """Return the ranges above the watermark that these may become one with, ascending."""
    found: set[tuple[int, int]] = set()
    for first, last in settled:
        before = _BEFORE.run(session, key | {"low": first}).fetchall()
        within = _WITHIN.run(session, key | {"low": first, "high": last + 1}).fetchall()
        found.update((low, high) for low, high in (*before, *within))
    return tuple(sorted(found))


def new_lane(peer: str, lane: int) -> dict[str, object]:
    """Return the row of a lane in which nothing came yet."""
    zero = ("applied", "highest", "received", "their_sent", "their_applied", "their_highest")
    return {"agency": peer, "lane": lane, **dict.fromkeys(zero, 0), "voids": "[]"}


def _put_ranges(
    session: Session,
    peer: str,
    lane: int,
    before: set[tuple[int, int]],
    after: set[tuple[int, int]],
) -> None:
    run = session.connection.execute
    for first, _ in before - after:
        run(delete(standing_ranges).where(_R.agency == peer, _R.lane == lane, _R.first == first))
    for first, last in after - before:
        row = {"agency": peer, "lane": lane, "first": first, "last": last}
        run(insert(standing_ranges).values(row))
