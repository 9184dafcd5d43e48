"""Two series that turn out to be one: which becomes part of which, and what the whole is then.

Nothing moves and nothing is renamed: the series that is merged keeps its row, its items and
everything that was told of it under its own id, and an *alias* says which series it is part of.
Whoever looks for it finds the whole; what was told of it is taken back under the id it was told by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tieline_client.errors import InvalidInput, WrongState

from tieline_server.domain.retraction import Restriction
from tieline_server.domain.series import Series, SeriesStatus

_ORDER = tuple(SeriesStatus)
_CHAIN_MOST = 32


@dataclass(frozen=True, slots=True)
class Alias:
    """``merged`` is part of ``series`` since ``at``.

    ``envelope`` is the owner's word as it came, empty where this node said it.
    """

    merged: str
    series: str
    id: str
    person: str
    at: datetime
    envelope: bytes = b""


def follow(aliases: Mapping[str, str], series: str) -> str:
    """Return the series that an id stands for; an id that is part of nothing stands for itself.

    A chain of an owner that goes round ends where it began.
    """
    seen = {series}
    while (current := aliases.get(series)) and current not in seen and len(seen) < _CHAIN_MOST:
        seen.add(current)
        series = current
    return series


def check_merge(
    agency: str, kept: Series, merged: Series, before: Restriction, other: Restriction
) -> None:
    """Raise InvalidInput or WrongState unless ``merged`` may become part of ``kept``.

    1. Both are the agency's own, and two.
    2. Neither is withdrawn.
    3. Both are narrowed to the same agencies: nobody gains items by a merge.
    """
    if kept.id == merged.id:
        raise InvalidInput("both names stand for one series already")
    for one in (kept, merged):
        if one.owner != agency:
            raise InvalidInput(f"{one.id} is {one.owner}'s; only own series are merged")
        if one.status is SeriesStatus.WITHDRAWN:
            raise WrongState(f"{one.id} is withdrawn; it is not merged")
    if before.only != other.only:
        raise WrongState(
            "the two are narrowed to different agencies; narrow both with --only to the same"
        )


def status_of_both(kept: SeriesStatus, merged: SeriesStatus) -> SeriesStatus:
    """Return where the whole stands: as far as the one that came further, unless closed."""
    return max(
        kept, merged, key=lambda one: -1 if one is SeriesStatus.CLOSED else _ORDER.index(one)
    )
