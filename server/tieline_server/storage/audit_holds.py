"""Holds on audit entries."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, select

from tieline_server.domain.log_retention import Hold
from tieline_server.storage.schema_audit import audit_holds
from tieline_server.storage.session import Session


class Holds:
    """`HoldRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, hold: Hold) -> None:
        """Keep a new one."""
        self._session.put(audit_holds, asdict(hold))

    def remove(self, hold: str) -> bool:
        """End one; False when there is none."""
        return bool(self._run(delete(audit_holds).where(audit_holds.c.id == hold)).rowcount)

    def find(self) -> list[Hold]:
        """Return all, by time."""
        found = select(audit_holds).order_by(audit_holds.c.at, audit_holds.c.id)
        return [Hold(**row._mapping) for row in self._run(found)]
