"""What agencies write to each other about a series that they share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class SeriesNote:
    """A note of ``agency``'s person; ``told`` are those whom this agency sent it to. Notes stand in
    the order of ``at``, then ``id``, on every side."""

    id: str
    series: str
    agency: str
    person: str
    at: datetime
    text: str
    told: tuple[str, ...] = ()
