"""Relayed connections on their way to the audit log: counted by who, to whom and minute.

Connections come and go as often as somebody likes, so, like refusals, they are no free flood of
durable writes. Counts only: nobody who relays knows what was said. No I/O here; the time comes with
each event.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from tieline_client import limits


class RelayEvent(StrEnum):
    """What is counted: a node's standing stream, or a connection to it."""

    ATTACHED = "relay.attached"
    CONNECTED = "relay.connected"


@dataclass(frozen=True, slots=True)
class RelayCount:
    """What happened within one window that began at ``at``.

    ``asker`` wanted to reach ``target``, a node that only calls out; for ATTACHED it is "".
    """

    event: RelayEvent
    asker: str
    target: str
    at: datetime
    last: datetime
    opened: int = 0
    closed: int = 0


class RelayLog:
    """Counts between entries. Thread-safe; the owner writes what ``due`` and ``flush`` return."""

    def __init__(self) -> None:
        self._open: dict[tuple[RelayEvent, str, str], RelayCount] = {}
        self._lock = threading.Lock()

    def add(
        self, event: RelayEvent, asker: str, target: str, at: datetime, *, opened: bool
    ) -> None:
        """Count one that was opened, or closed."""
        with self._lock:
            key = (event, asker, target)
            known = self._open.get(key) or RelayCount(event, asker, target, at, at)
            self._open[key] = replace(
                known,
                last=max(known.last, at),
                opened=known.opened + opened,
                closed=known.closed + (not opened),
            )

    def due(self, now: datetime) -> Sequence[RelayCount]:
        """Return the counts whose minute is over, either way the clock was set."""
        with self._lock:
            keys = [
                key
                for key, count in self._open.items()
                if abs(now - count.at) >= limits.REFUSAL_WINDOW
            ]
            return [self._open.pop(key) for key in keys]

    def flush(self) -> Sequence[RelayCount]:
        """Return all counts; the node is about to stop."""
        with self._lock:
            ready = list(self._open.values())
            self._open.clear()
            return ready
