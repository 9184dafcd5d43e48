"""Standing queries, how far peers were asked, notices, and what peers say of their indexes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Row, delete, insert, select, update

from tieline_server.domain.watch import (
    Caller,
    Notice,
    Position,
    SharedWith,
    Told,
    Watch,
    WatchState,
)
from tieline_server.storage.schema import (
    peer_generations,
    watch_notices,
    watch_peers,
    watch_pieces,
    watch_series,
    watches,
)
from tieline_server.storage.session import Session

_NOTICE = [field.name for field in fields(Notice) if field.name != "series"]


class Watches:
    """`WatchRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, watch: Watch) -> None:
        """Add one whose list is still coming."""
        row = {
            **asdict(watch),
            "state": WatchState.COMING.value,
            "counts": " ".join(map(str, watch.counts)),
            "peers": " ".join(watch.peers),
            "caller": json.dumps(asdict(watch.caller)),
        }
        self._run(insert(watches).values(**row))

    def add_piece(self, watch: str, number: int, piece: bytes) -> None:
        """Add a piece of a list."""
        self._run(insert(watch_pieces).values(watch=watch, number=number, piece=piece))

    def activate(self, watch: str) -> None:
        """From now on it counts."""
        self._session.change(watches, watch, {"state": WatchState.ACTIVE.value}, "standing query")

    def get(self, watch: str) -> Watch | None:
        """Return one."""
        found = self._session.locked(select(watches).where(watches.c.id == watch))
        row = self._run(found).one_or_none()
        return None if row is None else _watch(row)

    def find(self, *, ended: bool = False, limit: int = 1000) -> list[Watch]:
        """Return those that are active, and those that ended behind them."""
        c = watches.c
        active = select(watches).where(c.state == WatchState.ACTIVE.value)
        rows = self._run(active.order_by(c.priority.desc(), c.id).limit(limit)).all()
        if ended:
            over = (WatchState.REMOVED.value, WatchState.EXPIRED.value)
            past = select(watches).where(c.state.in_(over)).order_by(c.ended.desc(), c.id)
            rows = [*rows, *self._run(past.limit(limit - len(rows))).all()]
        return [_watch(row) for row in rows]

    def coming(self, before: datetime) -> list[str]:
        """Return those whose list will not come to its end."""
        c = watches.c
        found = select(c.id).where(c.state == WatchState.COMING.value, c.created < before)
        return list(self._session.connection.scalars(found))

    def drop(self, watch: str) -> None:
        """Delete one that never counted."""
        gone = watches.c.id == watch, watches.c.state == WatchState.COMING.value
        if self._run(delete(watches).where(*gone)).rowcount:
            self._run(delete(watch_pieces).where(watch_pieces.c.watch == watch))

    def pieces(self, watch: str) -> list[bytes]:
        """Return the pieces of a list."""
        c = watch_pieces.c
        found = select(c.piece).where(c.watch == watch).order_by(c.number)
        return list(self._session.connection.scalars(found))

    def put_list(self, watch: str, pieces: Sequence[bytes], records: int, counts: str) -> None:
        """Replace a list; rounds begin anew."""
        self._run(delete(watch_pieces).where(watch_pieces.c.watch == watch))
        for number, piece in enumerate(pieces):
            self.add_piece(watch, number, piece)
        values: dict[str, object] = {"records": records, "counts": counts}
        self._session.change(watches, watch, values, "standing query")
        anew = {"part": 0, "began_epoch": "", "began": 0}
        self._run(update(watch_peers).where(watch_peers.c.watch == watch).values(**anew))

    def end(self, watch: str, state: WatchState, at: datetime) -> None:
        """End one, and delete its list."""
        values: dict[str, object] = {"state": state.value, "ended": at}
        self._session.change(watches, watch, values, "standing query")
        self._run(delete(watch_pieces).where(watch_pieces.c.watch == watch))

    def position(self, watch: str, peer: str) -> Position:
        """Return how far a peer was asked."""
        c = watch_peers.c
        found = self._session.locked(select(watch_peers).where(c.watch == watch, c.peer == peer))
        row = self._run(found).one_or_none()
        return Position(watch, peer) if row is None else _position(row)

    def positions(self, watch: str) -> list[Position]:
        """Return those of all peers."""
        found = select(watch_peers).where(watch_peers.c.watch == watch)
        return [_position(row) for row in self._run(found.order_by(watch_peers.c.peer))]

    def put_position(self, position: Position) -> None:
        """Keep how far a peer was asked."""
        row = {name.name: getattr(position, name.name) for name in fields(position)}
        row["matched"] = position.matched.astype("<u4").tobytes()
        self._session.put(watch_peers, row)

    def free(self) -> None:
        """No run has any peer in hand."""
        held = update(watch_peers).where(watch_peers.c.claimed.is_not(None))
        self._run(held.values(claimed=None))

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice."""
        self._run(insert(watch_notices).values(**{name: getattr(notice, name) for name in _NOTICE}))
        for one in notice.series:
            row = {
                "notice": notice.id,
                "series": one.id,
                "status": one.status,
                "refs": "\n".join(one.references),
                "contact_name": one.contact_name,
                "contact_email": one.contact_email,
                "contact_phone": one.contact_phone,
            }
            self._session.insert_new(watch_series, row)

    def notices(self, watch: str, limit: int) -> list[Notice]:
        """Return the newest."""
        c = watch_notices.c
        found = select(watch_notices).where(c.watch == watch).order_by(c.id.desc()).limit(limit)
        rows = self._run(found).all()
        named: dict[str, list[SharedWith]] = {row.id: [] for row in rows}
        s = watch_series.c
        about = select(watch_series).where(s.notice.in_(list(named)))
        for row in self._run(about.order_by(s.notice, s.series)):
            named[row.notice].append(
                SharedWith(
                    row.series,
                    row.status,
                    tuple(filter(None, row.refs.split("\n"))),
                    row.contact_name,
                    row.contact_email,
                    row.contact_phone,
                )
            )
        return [Notice(**row._mapping, series=tuple(named[row.id])) for row in rows]

    def heard(self) -> dict[str, Told]:
        """Return what peers last said."""
        c = peer_generations.c
        found = select(c.peer, c.epoch, c.generation)
        return {row.peer: Told(row.epoch, row.generation) for row in self._run(found)}

    def hear(self, peer: str, told: Told, at: datetime) -> None:
        """Keep what a peer says."""
        c = peer_generations.c
        before = select(peer_generations).where(c.peer == peer)
        row = self._run(self._session.locked(before)).one_or_none()
        if row is not None and row.epoch == told.epoch and row.generation >= told.generation:
            return
        self._session.put(peer_generations, {"peer": peer, **asdict(told), "heard": at})


def _watch(row: Row[Any]) -> Watch:
    values = dict(row._mapping)
    values["counts"] = tuple(map(int, row.counts.split()))
    values["peers"] = tuple(row.peers.split())
    values["caller"] = Caller(**json.loads(row.caller))
    values["state"] = WatchState(row.state)
    return Watch(**values)


def _position(row: Row[Any]) -> Position:
    values = dict(row._mapping)
    values["matched"] = np.frombuffer(row.matched, dtype="<u4").astype(np.uint32)
    return Position(**values)
