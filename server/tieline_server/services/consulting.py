"""Reading is logged too: who looked at which series, messages and answers (2016/680 Art. 25).

What a person reads is in the log before it is shown; where it cannot be logged, nothing is shown.
Somebody who looks at the same thing again within five minutes, as a page does that keeps itself
up to date, adds no entry: the next one says how often.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from tieline_client import limits

from tieline_server.domain.ports import Record
from tieline_server.services.context import Node, Person

_Key = tuple[str, str, tuple[str, ...]]


class Consultations:
    """Logs what people read. Thread-safe."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._seen: dict[_Key, tuple[datetime, int]] = {}
        """When it was logged last, and how often it was read since."""

    def note(self, person: Person, action: str, subjects: Iterable[str] = ()) -> None:
        """Log that a person reads this. Raises StorageUnavailable: then it must not be shown."""
        ids = tuple(subjects)
        key = (person.name, action, ids)
        now = self._node.clock()
        with self._lock:
            last, repeats = self._seen.get(key, (None, 0))
            if last is not None and timedelta(0) <= now - last < limits.READ_AGAIN:
                self._seen[key] = (last, repeats + 1)
                return
        again: dict[str, Any] = {"repeated": repeats} if repeats else {}
        entries = [
            self._node.entry(
                action,
                person=person.name,
                subjects=ids[start : start + limits.SUBJECTS_PER_ENTRY],
                **again,
            )
            for start in range(0, max(len(ids), 1), limits.SUBJECTS_PER_ENTRY)
        ]

        def work(tx: Record) -> None:
            for entry in entries:
                tx.audit.append(entry)

        self._node.store.note(work)
        with self._lock:
            if len(self._seen) >= limits.READS_REMEMBERED:
                self._seen.clear()
            self._seen[key] = (now, 0)
