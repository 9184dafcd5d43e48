"""Alarms in storage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from tieline_server.domain.alarm import Alarm, AlarmKind


class AlarmRepository(Protocol):
    def set(self, alarm: Alarm) -> bool:
        """Set an alarm; False when its id is known."""
        ...

    def due(self, now: datetime, limit: int) -> Sequence[Alarm]:
        """Alarms whose time has come."""
        ...

    def next_due(self) -> datetime | None: ...
    def raise_at(self, alarm: str, at: datetime) -> None: ...
    def end(self, referral: str, at: datetime, kinds: Collection[AlarmKind] | None = None) -> None:
        """End what is set or raised for a referral; of these kinds only, where they are given."""
        ...

    def about(self, referral: str) -> list[Alarm]:
        """Raised alarms of one reference that nobody has ended, newest first."""
        ...

    def open(self, since: datetime, limit: int) -> Sequence[Alarm]:
        """Raised alarms that nobody has ended, newest first."""
        ...
