"""Sketches of what peers asked, for thirty days."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime

from sqlalchemy import bindparam, delete, func, literal, select

from tieline_server.domain.ports.sketches import AskedSketch, RecentSketch
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema_audit import asked_sketches
from tieline_server.storage.schema_exchange import queries
from tieline_server.storage.session import Session

_C = asked_sketches.c
_FIELDS = tuple(field.name for field in fields(AskedSketch))
_ANY_BEFORE = Prepared(lambda _: select(_C.request).where(_C.at < bindparam("time")).limit(1))

_RECENT = Prepared(
    lambda _: (
        select(
            *(_C[name] for name in _FIELDS),
            func.coalesce(queries.c.case_ref, literal("")).label("case_ref"),
        )
        .select_from(
            asked_sketches.outerjoin(
                queries, (queries.c.peer == _C.peer) & (queries.c.request == _C.request)
            )
        )
        .where(_C.peer == bindparam("of"), _C.at >= bindparam("since", type_=_C.at.type))
        .order_by(_C.at.desc(), _C.request.desc())
        .limit(bindparam("most"))
    )
)


class Sketches:
    """`SketchRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def put(self, sketch: AskedSketch) -> None:
        """Keep the sketch of one question; asked again under its id it takes the former's place."""
        self._session.put(asked_sketches, {name: getattr(sketch, name) for name in _FIELDS})

    def recent(self, peer: str, since: datetime, limit: int) -> list[RecentSketch]:
        """Return a peer's sketches from ``since`` on, newest first."""
        values = {"of": peer, "since": since, "most": limit}
        rows = _RECENT.rows(self._session, values)
        return [RecentSketch(AskedSketch(*told), case_ref) for *told, case_ref in rows]

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
