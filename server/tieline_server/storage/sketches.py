"""Sketches of what peers asked, for thirty days."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from sqlalchemy import bindparam, delete, select

from tieline_server.domain.ports.sketches import AskedSketch
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema_audit import asked_sketches
from tieline_server.storage.session import Session

_C = asked_sketches.c
_FIELDS = tuple(field.name for field in fields(AskedSketch))
_ANY_BEFORE = Prepared(lambda _: select(_C.request).where(_C.at < bindparam("time")).limit(1))


class Sketches:
    """`SketchRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def put(self, sketch: AskedSketch) -> None:
        """Keep the sketch of one question; asked again under its id it takes the former's place."""
        self._session.put(asked_sketches, {name: getattr(sketch, name) for name in _FIELDS})

    def recent(self, peer: str, since: datetime, limit: int) -> list[AskedSketch]:
        """Return a peer's sketches from ``since`` on, newest first."""
        found = select(asked_sketches).where(_C.peer == peer, _C.at >= since)
        rows = self._run(found.order_by(_C.at.desc(), _C.request.desc()).limit(limit))
        return [AskedSketch(**row._mapping) for row in rows]

    def asked_before(self, sketch: AskedSketch) -> bool:
        """Whether its peer asked such a list before; see the port."""
        found = select(_C.request).where(
            _C.peer == sketch.peer, _C.sketch == sketch.sketch, _C.request != sketch.request
        )
        return self._run(found.limit(1)).first() is not None

    def any_before(self, time: datetime) -> bool:
        """Whether there is anything older."""
        return _ANY_BEFORE.run(self._session, {"time": time}).fetchone() is not None

    def erase_before(self, time: datetime) -> int:
        """Erase what is older; return how many were."""
        return self._run(delete(asked_sketches).where(_C.at < time)).rowcount
