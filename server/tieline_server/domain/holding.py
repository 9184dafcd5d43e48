"""What an answer says of an item that is held in several ways.

One agency may hold an item under several imports, each with restrictions of its own. Holdings of
the same series, or of the same case, are one matter: there the strictest decides, so that a later
import without restrictions does not undo an earlier one with them. Holdings of different matters
stand by themselves: what one case may tell is told, whatever another keeps back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tieline_server.domain.policy import Disclosure


class Way(NamedTuple):
    """One way in which an item is held. ``series`` is 0 for none; ``level`` is what policy would
    disclose of this holding by itself, None where it does not count (staged, referred here only,
    withdrawn)."""

    series: int
    case_ref: str
    level: Disclosure | None


def decided(ways: Sequence[Way]) -> tuple[Disclosure, ...]:
    """Return for each way what may be disclosed of it, beside the others."""
    levels = []
    for way in ways:
        if way.level is None:
            levels.append(Disclosure.NOTHING)
            continue
        alike = (
            other.level
            for other in ways
            if other.level is not None
            and ((way.series and way.series == other.series) or way.case_ref == other.case_ref)
        )
        levels.append(min(alike))
    return tuple(levels)
