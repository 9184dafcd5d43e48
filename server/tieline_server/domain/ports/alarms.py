"""Alarms in storage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.alarm import Alarm


class AlarmRepository(Protocol):
    def set(self, alarm: Alarm) -> bool:
        """Set an alarm; False when its id is known."""
        ...

    def due(self, now: datetime, limit: int) -> Sequence[Alarm]:
        """Alarms whose time has come."""
        ...

    def next_due(self) -> datetime | None: ...
    def raise_at(self, alarm: str, at: datetime) -> None: ...
    def end(self, referral: str, at: datetime) -> None:
        """End what is set or raised for a referral."""
        ...

    def open(self, since: datetime, limit: int) -> Sequence[Alarm]:
        """Raised alarms that nobody has ended, newest first."""
        ...
