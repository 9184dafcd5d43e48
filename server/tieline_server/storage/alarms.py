"""Alarms: set, raised, ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select, update

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.storage.schema import alarms
from tieline_server.storage.session import Session

_C = alarms.c
_SET = (_C.raised.is_(None), _C.ended.is_(None))
_OPEN = (_C.raised.is_not(None), _C.ended.is_(None))


class Alarms:
    """`AlarmRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def set(self, alarm: Alarm) -> bool:
        """Set an alarm; False when its id is known."""
        return self._session.insert_new(alarms, asdict(alarm) | {"kind": alarm.kind.value})

    def due(self, now: datetime, limit: int) -> list[Alarm]:
        """Return alarms whose time has come, the first first; in a writing transaction they stay
        as they are until the end."""
        found = select(alarms).where(*_SET, _C.due <= now).order_by(_C.due, _C.id).limit(limit)
        return [_alarm(row) for row in self._run(self._session.locked(found))]

    def next_due(self) -> datetime | None:
        """Return the time of the next alarm that is set."""
        first = select(_C.due).where(*_SET).order_by(_C.due).limit(1)
        return self._session.connection.scalar(first)

    def raise_at(self, alarm: str, at: datetime) -> None:
        """Note that an alarm was raised. Raises NotFound."""
        self._session.change(alarms, alarm, {"raised": at}, "alarm")

    def end(self, referral: str, at: datetime, kinds: Collection[AlarmKind] | None = None) -> None:
        """End what is set or raised for a referral."""
        mine = update(alarms).where(_C.referral == referral, _C.ended.is_(None))
        if kinds is not None:
            mine = mine.where(_C.kind.in_([kind.value for kind in kinds]))
        self._run(mine.values(ended=at))

    def about(self, referral: str) -> list[Alarm]:
        """Return raised alarms of one reference that nobody has ended."""
        found = select(alarms).where(*_OPEN, _C.referral == referral)
        return [_alarm(row) for row in self._run(found.order_by(_C.raised.desc(), _C.id))]

    def open(self, since: datetime, limit: int) -> list[Alarm]:
        """Return raised alarms that nobody has ended, newest first, raised after ``since``."""
        found = select(alarms).where(*_OPEN, _C.raised > since)
        newest = found.order_by(_C.raised.desc(), _C.id).limit(limit)
        return [_alarm(row) for row in self._run(newest)]


def _alarm(row: Row[Any]) -> Alarm:
    return Alarm(**{**row._mapping, "kind": AlarmKind(row.kind)})
