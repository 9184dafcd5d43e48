"""What an export lacks: entries that retention erased, and entries outside of its period."""

from __future__ import annotations

import json
from typing import Any

ERASURE = "audit.erased"
"""The action of the entry that says which entries retention erased."""


class Gaps:
    """Erased entries, and the entries that say so."""

    def __init__(self) -> None:
        self._runs: list[list[int]] = []
        self._said: list[tuple[int, int]] = []
        self.count = 0

    def erased(self, position: int) -> None:
        """Take an entry of which only the hash is left."""
        self.count += 1
        if self._runs and self._runs[-1][1] == position - 1:
            self._runs[-1][1] = position
        else:
            self._runs.append([position, position])

    def read(self, position: int, leaf: bytes) -> None:
        """Take an entry that may say what was erased before it."""
        if not speaks_of_erasure(leaf):
            return
        detail = read_entry(leaf).get("detail")
        ranges = detail.get("ranges") if isinstance(detail, dict) else None
        for one in ranges if isinstance(ranges, list) else ():
            if _is_range(one) and one[1] < position:
                self._said.append((one[0], one[1]))

    def unexplained(self) -> int | None:
        """Return the first erased entry that no later entry speaks of."""
        said = sorted(self._said)
        for first, last in self._runs:
            at = first
            for start, end in said:
                if start <= at <= end:
                    at = end + 1
            if at <= last:
                return at
        return None


class Outside:
    """Entries outside the period: before its first entry or after its last, nowhere between."""

    def __init__(self) -> None:
        self.count = 0
        self._shown = self._ended = False
        self.between: int | None = None

    def take(self, position: int, *, outside: bool, leaf: bytes) -> None:
        """Take the next entry."""
        if outside:
            self.count += 1
            self._ended = self._shown
        elif not speaks_of_erasure(leaf):
            if self._ended and self.between is None:
                self.between = position - 1
            self._shown = True


def speaks_of_erasure(leaf: bytes) -> bool:
    return b'"action":"' + ERASURE.encode() in leaf[:64]


def _is_range(one: object) -> bool:
    return isinstance(one, list) and len(one) == 2 and all(type(n) is int for n in one)


def read_entry(leaf: bytes) -> dict[str, Any]:
    """Return an entry as a document; an empty one when the leaf is broken."""
    try:
        document = json.loads(leaf)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
