"""Whether a series has more items than when it was told: they are told by telling it again."""

from __future__ import annotations

from datetime import datetime

from tieline_server.domain.ports import Tx


def grew_since(tx: Tx, series: str, at: datetime) -> bool:
    """Whether items became part of a series after ``at``: imported, or with another series."""
    return grew_by_a_merge(tx, series, at) or tx.items.came_after(series, at)


def grew_by_a_merge(tx: Tx, series: str, at: datetime) -> bool:
    """Whether another series, with items, became part of it since, by this node's own word."""
    parts = (tx.aliases.get(part) for part in tx.aliases.family(series)[1:])
    return any(
        one is not None
        and not one.envelope
        and one.at >= at
        and tx.items.count_of_series(one.merged) > 0
        for one in parts
    )
