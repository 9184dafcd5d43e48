"""Refusals on their way to the audit log: which are entries of their own, which are counted.

A refusal by policy, role or budget is a decision about a known person or agency: each is one entry
at once. A refusal before that (trust, malformed messages, caps) can be provoked as often as
somebody likes, so those are counted by who, what and why within a minute, and written as one entry
when the minute is over: refusals are no free flood of durable writes (design.md). No I/O here; the
time comes with each refusal.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from tieline_client import limits

SINGLE = frozenset({"POLICY_REFUSED", "ROLE_REFUSED", "BUDGET_EXCEEDED", "REFUSED"})
"""Reasons whose refusals are entries of their own."""
_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A call that was refused.

    ``peer`` is the agency that the caller proved to be, "" where it proved nothing; ``claimed`` is
    then the agency that its certificate names. ``person`` is known on the operator port, and from
    a peer's signed message; ``purpose`` and ``case_ref`` where the refused work stated them.
    ``reason`` is one of ErrorReason, ``check`` the finer one or "".
    """

    peer: str
    person: str
    method: str
    reason: str
    check: str
    at: datetime
    claimed: str = ""
    purpose: str = ""
    case_ref: str = ""


@dataclass(frozen=True, slots=True)
class RefusalEntry:
    """What the log is told: a refusal, how often it happened, and when last."""

    refusal: Refusal
    count: int
    last: datetime


class RefusalLog:
    """Counts refusals between entries. Thread-safe.

    The owner writes what ``add`` and ``due`` return, and calls ``due`` every few seconds and
    ``flush`` at the end.
    """

    def __init__(self, kinds: int = limits.REFUSAL_KINDS) -> None:
        self._kinds = kinds
        self._open: dict[tuple[str, ...], RefusalEntry] = {}
        self._lock = threading.Lock()

    def add(self, refusal: Refusal) -> Sequence[RefusalEntry]:
        """Take a refusal; return the entries that are now to be written, oldest first."""
        if refusal.reason in SINGLE:
            return [*self.due(refusal.at), RefusalEntry(refusal, 1, refusal.at)]
        with self._lock:
            ready = self._take_due(refusal.at)
            key = _key(refusal)
            if key not in self._open and len(self._open) >= self._kinds:
                refusal = replace(
                    refusal, peer="", person="", method="", check=_OTHERS, claimed=_OTHERS
                )
                key = _key(refusal)
            known = self._open.get(key)
            if known is None:
                self._open[key] = RefusalEntry(refusal, 1, refusal.at)
            else:
                last = max(known.last, refusal.at)
                self._open[key] = replace(known, count=known.count + 1, last=last)
            return ready

    def due(self, now: datetime) -> Sequence[RefusalEntry]:
        """Return the counted entries whose minute is over at ``now``."""
        with self._lock:
            return self._take_due(now)

    def flush(self) -> Sequence[RefusalEntry]:
        """Return all counted entries; the node is about to stop."""
        with self._lock:
            ready = list(self._open.values())
            self._open.clear()
            return ready

    def _take_due(self, now: datetime) -> list[RefusalEntry]:
        # A clock that was set back must not keep an entry for ever: its age counts either way.
        keys = [
            key
            for key, entry in self._open.items()
            if abs(now - entry.refusal.at) >= limits.REFUSAL_WINDOW
        ]
        return [self._open.pop(key) for key in keys]


def _key(refusal: Refusal) -> tuple[str, ...]:
    return (
        refusal.peer,
        refusal.person,
        refusal.method,
        refusal.reason,
        refusal.check,
        refusal.claimed,
    )
