"""Which entries of the audit log are erased, and which are held. Without I/O.

What an agency's rule says is past its time is erased, unless a control that goes on needs it (a
hold). Entries that say what was erased stay: without them a gap would look like damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tieline_server.domain.audit import AuditRecord

ERASED = "audit.erased"


@dataclass(frozen=True, slots=True)
class Hold:
    """Entries that have everything which is given stay; an empty word is any."""

    id: str
    reason: str
    case_ref: str
    person: str
    peer: str
    set_by: str
    at: datetime

    def covers(self, entry: dict[str, Any]) -> bool:
        """Whether an entry is held by this."""
        wanted = (("case", self.case_ref), ("person", self.person), ("peer", self.peer))
        return all(not word or entry.get(key) == word for key, word in wanted)


@dataclass(frozen=True, slots=True)
class Due:
    """What of some records is erased: ranges of positions, both ends included."""

    ranges: tuple[tuple[int, int], ...]
    held: int
    subjects: frozenset[str]
    """What the held entries are about: their kept lists and receipts stay as well."""
    last: bool
    """Whether a record came that is not yet past its time: what follows is younger."""
    first_held: int | None

    @property
    def count(self) -> int:
        """How many entries."""
        return sum(last - first + 1 for first, last in self.ranges)


def due(records: Iterable[AuditRecord], before: datetime, holds: Sequence[Hold]) -> Due:
    """Look through records in order of position; those without a leaf were erased before."""
    ranges: list[tuple[int, int]] = []
    held, first_held = 0, None
    subjects: set[str] = set()
    for record in records:
        if not record.leaf:
            continue
        entry = json.loads(record.leaf)
        if datetime.fromisoformat(entry["at"]) >= before:
            return Due(tuple(ranges), held, frozenset(subjects), True, first_held)
        if entry["action"] == ERASED:
            continue
        if any(one.covers(entry) for one in holds):
            held += 1
            subjects.update(entry.get("subjects", ()))
            first_held = record.position if first_held is None else first_held
            continue
        at = record.position
        if ranges and ranges[-1][1] == at - 1:
            ranges[-1] = (ranges[-1][0], at)
        else:
            ranges.append((at, at))
    return Due(tuple(ranges), held, frozenset(subjects), False, first_held)
