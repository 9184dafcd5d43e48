"""Sketches of asked lists in storage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class AskedSketch:
    """What is known for thirty days of a list that a peer asked; ``sketch`` as domain/minhash.py
    makes it under the node's key, followed by the whole list's keyed digest."""

    peer: str
    request: str
    person: str
    purpose: str
    records: int
    sketch: bytes
    at: datetime


class RecentSketch(NamedTuple):
    """A sketch, and under what case its list was asked; "" of one that was not answered."""

    asked: AskedSketch
    case_ref: str


class SketchRepository(Protocol):
    def put(self, sketch: AskedSketch) -> None: ...
    def recent(self, peer: str, since: datetime, limit: int) -> Sequence[RecentSketch]:
        """A peer's sketches from ``since`` on, newest first."""
        ...

    def asked_before(self, sketch: AskedSketch) -> bool:
        """Whether its peer asked a list with this sketch, under another request."""
        ...

    def any_before(self, time: datetime) -> bool: ...
    def erase_before(self, time: datetime) -> int:
        """Erase what is older; return how many were."""
        ...
