"""Looks at what peers ask for signs of enumeration, and sets alarms that an auditor sees.

Digests are looked at where they are looked up anyway, a sample of each batch; few at a time are
gathered until they are enough to judge. What was seen waits in memory until `look`, a job of
housekeeping, writes it: the question's own way is not held up. An alarm of a kind comes once a day
for each peer, with an audit entry that says what was seen and names the question.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import numpy as np
from tieline_client import limits
from tieline_client.digests import DigestKind

from tieline_server.domain.alarm import Alarm, AlarmKind
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.budget import Spent, day_of
from tieline_server.domain.enumeration import (
    Earlier,
    Pattern,
    Rows,
    crafted,
    low_hits,
    repeated,
)
from tieline_server.domain.minhash import resemblances
from tieline_server.domain.ports import Clock, Store, Tx
from tieline_server.domain.ports.sketches import AskedSketch, RecentSketch

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Seen:
    """A pattern in a peer's questions, ``request`` the one in which it showed."""

    peer: str
    request: str
    pattern: Pattern


class Watch:
    """What peers ask of this node. Thread-safe."""

    def __init__(
        self, agency: str, store: Store, clock: Clock, alarmed: Callable[[], None]
    ) -> None:
        self._agency, self._store, self._clock, self._alarmed = agency, store, clock, alarmed
        self._gathered: dict[tuple[str, DigestKind], list[bytes]] = {}
        self._seen: deque[_Seen] = deque(maxlen=limits.PATTERNS_WAITING)
        self._lists: deque[tuple[str, str]] = deque(maxlen=limits.LISTS_WAITING)
        """Questions whose lists are still to be compared with those before: (peer, request)."""
        self._told: set[str] = set()
        self._lock = threading.Lock()

    def asked(self, peer: str, request: str, kind: DigestKind, rows: Rows) -> None:
        """Look at digests of one batch, (n, width), ascending and distinct."""
        if len(rows) < limits.CRAFTED_LEAST:
            few = self._gather(peer, kind, rows)
            if few is None:
                return
            rows = few
        start = random.randrange(max(len(rows) - limits.CRAFTED_SAMPLE, 0) + 1)  # noqa: S311
        self._note(peer, request, crafted(kind, rows[start : start + limits.CRAFTED_SAMPLE]))

    def ended(self, peer: str, request: str, records: int, day: Spent | None) -> None:
        """Look at a question that was answered, and at its peer's day where it was counted anew."""
        if records >= limits.LISTS_LEAST:
            self._lists.append((peer, request))
        if day is not None:
            self._note(peer, request, low_hits(day.asked, day.hits))

    def look(self) -> int:
        """Compare lists, and set alarms for what was seen; return how many."""
        count = 0
        while self._lists:
            peer, request = asked = self._lists.popleft()
            if self._key(peer, AlarmKind.REPEATED) in self._told:
                continue  # one more today would tell nothing new
            with _put_back(self._lists, asked):
                found = self._store.read(lambda tx, one=asked: self._compare(tx, *one))  # type: ignore[misc]
            self._note(peer, request, found)
        while self._seen:
            seen = self._seen.popleft()
            alarm = self._key(seen.peer, seen.pattern.kind)
            if alarm in self._told:
                continue
            with _put_back(self._seen, seen):
                told = self._store.write(lambda tx, one=seen, key=alarm: self._tell(tx, one, key))  # type: ignore[misc]
            if told:
                count += 1
            if len(self._told) >= limits.PATTERNS_WAITING:
                self._told.clear()  # storage knows them all the same
            self._told.add(alarm)
        if count:
            self._alarmed()
        return count

    def _key(self, peer: str, kind: AlarmKind) -> str:
        """The id of today's alarm of a kind about a peer."""
        return f"{peer}/{day_of(self._clock())}/{kind.value}"

    def _compare(self, tx: Tx, peer: str, request: str) -> Pattern | None:
        """Compare a list with those that its peer asked before."""
        since = self._clock() - limits.SKETCH_LIFE
        recent = tx.sketches.recent(peer, since, limits.LISTS_COMPARED)
        mine = next((one for one in recent if one.asked.request == request), None)
        if mine is None:
            return None
        others = [one for one in recent if one is not mine and one.asked.at <= mine.asked.at]
        if not others:
            return None
        shares = resemblances(mine.asked.sketch, [one.asked.sketch for one in others])
        earlier = [
            _earlier(other, float(share), mine.asked)
            for other, share in zip(others, shares, strict=True)
            if share >= limits.LISTS_ALIKE
        ]
        return repeated(mine.case_ref, earlier)

    def _gather(self, peer: str, kind: DigestKind, rows: Rows) -> Rows | None:
        """Keep few digests; return all that were kept once they are enough."""
        with self._lock:
            kept = self._gathered.setdefault((peer, kind), [])
            kept += [row.tobytes() for row in rows]
            if len(kept) < 2 * limits.CRAFTED_LEAST:
                return None
            del self._gathered[peer, kind]
        distinct = b"".join(sorted(set(kept)))
        return np.frombuffer(distinct, dtype=np.uint8).reshape(-1, kind.width)

    def _note(self, peer: str, request: str, pattern: Pattern | None) -> None:
        if pattern is not None:
            self._seen.append(_Seen(peer, request, pattern))

    def _tell(self, tx: Tx, seen: _Seen, key: str) -> bool:
        """Set the alarm and say what was seen; False when it was said today."""
        now = self._clock()
        alarm = Alarm(
            id=key,
            kind=seen.pattern.kind,
            referral=seen.request,
            series="",
            sender=seen.peer,
            recipient=self._agency,
            due=now,
        )
        if not tx.alarms.set(alarm):
            return False
        asked = tx.queries.answered(seen.peer, seen.request)
        tx.audit.append(
            AuditEntry(
                action="query.pattern",
                at=now,
                agency=self._agency,
                person=asked.person if asked else "",
                peer=seen.peer,
                purpose=asked.purpose if asked else "",
                case_ref=asked.case_ref if asked else "",
                subjects=(seen.request,),
                detail={"pattern": seen.pattern.kind.value, "why": seen.pattern.why},
            )
        )
        return True


@contextmanager
def _put_back(waiting: deque[T], one: T) -> Iterator[None]:
    """Have it wait again where storage fails: what was seen is told once storage is back."""
    try:
        yield
    except BaseException:
        waiting.appendleft(one)
        raise


def _earlier(other: RecentSketch, share: float, mine: AskedSketch) -> Earlier:
    """A long list of which one digest was exchanged mostly has the same sketch: what stands behind
    that, the list's own keyed digest, says whether two are the same."""
    before = other.asked
    both = min(len(before.sketch), len(mine.sketch))  # before wire v1.5 without the digest
    same = before.sketch[:both] == mine.sketch[:both]
    today = mine.at - before.at < timedelta(days=1)
    return Earlier(other.case_ref, share, same, today)
