"""Checkpoints of peers, countersignatures of the own log, and proofs of equivocation."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, delete, func, select, update
from tieline_client.checkpoints import Checkpoint, Countersignature

from tieline_server.domain.witness import Equivocation, Finding
from tieline_server.storage.schema_audit import checkpoints, countersignatures, equivocations
from tieline_server.storage.session import Session

_C = checkpoints.c
_S = countersignatures.c
FOLLOWED, DOUBTED, REFUTED = "followed", "doubted", "refuted"
DOUBTS_PER_AGENCY = 64


class Witness:
    """`WitnessRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def head(self, agency: str) -> Checkpoint | None:
        """Return the newest checkpoint that was followed."""
        found = select(checkpoints).where(_C.agency == agency, _C.state == FOLLOWED)
        row = self._run(found.order_by(_C.no.desc()).limit(1)).one_or_none()
        return None if row is None else _checkpoint(row)

    def heads(self, but: str, limit: int) -> list[Checkpoint]:
        """Return the heads of all agencies but one, the newest first."""
        newest = select(func.max(_C.no)).where(_C.state == FOLLOWED, _C.agency != but)
        found = select(checkpoints).where(_C.no.in_(newest.group_by(_C.agency)))
        return [_checkpoint(row) for row in self._run(found.order_by(_C.no.desc()).limit(limit))]

    def follow(self, checkpoint: Checkpoint, at: datetime) -> None:
        """Make it the head; an earlier one of the same day has done its work."""
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        same_day = (_C.agency == checkpoint.agency, _C.state == FOLLOWED, _C.received >= day)
        self._run(delete(checkpoints).where(*same_day))
        self._put(checkpoint, at, FOLLOWED)

    def doubt(self, checkpoint: Checkpoint, at: datetime) -> bool:
        """Keep what has to be proven; False when it is known, or too much is in doubt already."""
        known = select(_C.no).where(_C.agency == checkpoint.agency, _C.id == checkpoint.id)
        if self._run(known.limit(1)).first() is not None:
            return False
        if len(self.doubted(checkpoint.agency)) >= DOUBTS_PER_AGENCY:
            return False
        self._put(checkpoint, at, DOUBTED)
        return True

    def _put(self, checkpoint: Checkpoint, at: datetime, state: str) -> None:
        values = asdict(checkpoint) | {"received": at, "state": state}
        self._session.put(checkpoints, values | {"no": self._session.next("checkpoint")})

    def doubted(self, agency: str) -> list[Checkpoint]:
        """Return what its agency has still to prove."""
        found = select(checkpoints).where(_C.agency == agency, _C.state == DOUBTED)
        return [_checkpoint(row) for row in self._run(found.order_by(_C.no))]

    def settle(self, checkpoint: Checkpoint, *, holds: bool) -> None:
        """End a doubt: what holds need not be kept beside the head."""
        mine = (_C.agency == checkpoint.agency, _C.id == checkpoint.id, _C.state == DOUBTED)
        if holds:
            self._run(delete(checkpoints).where(*mine))
        else:
            self._run(update(checkpoints).where(*mine).values(state=REFUTED))

    def countersigned(self, by: Countersignature) -> None:
        """Keep it; an earlier one by the same witness of the same day has done its work."""
        day = by.issued.replace(hour=0, minute=0, second=0, microsecond=0)
        self._run(delete(countersignatures).where(_S.witness == by.witness, _S.issued >= day))
        self._session.put(countersignatures, asdict(by))

    def countersignatures(self) -> list[Countersignature]:
        """Return all, by size."""
        found = select(countersignatures).order_by(_S.size, _S.witness)
        return [Countersignature(**row._mapping) for row in self._run(found)]

    def accuse(self, equivocation: Equivocation) -> bool:
        """Keep a proof; one of an agency and epoch is enough, apart from that of a restore."""
        c = equivocations.c
        known = select(c.id).where(
            c.agency == equivocation.agency,
            c.epoch == equivocation.epoch,
            (c.kind == Finding.RESTORED.value)
            if equivocation.kind is Finding.RESTORED
            else (c.kind != Finding.RESTORED.value),
        )
        if self._run(known.limit(1)).first() is not None:
            return False
        return self._session.insert_new(
            equivocations, asdict(equivocation) | {"kind": equivocation.kind.value}
        )

    def equivocations(self) -> list[Equivocation]:
        """Return all, the first found first."""
        rows = self._run(select(equivocations).order_by(equivocations.c.found))
        return [Equivocation(**{**row._mapping, "kind": Finding(row.kind)}) for row in rows]


def _checkpoint(row: Row[Any]) -> Checkpoint:
    return Checkpoint(row.agency, row.size, row.root, row.epoch, row.issued, row.id, row.envelope)
