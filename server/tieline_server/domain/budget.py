"""How much a peer may ask on one day: what a question costs, who is held to what, when it ends.

A unit is one asked record; a perceptual hash costs ten. The budget is per peer and UTC day,
whatever purpose is typed; a purpose may have a narrower cap within it. No I/O here; the time is an
argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from tieline_client import limits
from tieline_client.digests import DigestKind

ALL = ""
"""Where a purpose stands: all of them together."""


def units_of(records: int, counts: Sequence[int]) -> int:
    """Return what a question costs, by what its header announces; ``counts`` by kind, from MD5 on.

    A record has at most one digest of a kind, so a header that names fewer records than digests of
    some kind is charged by these. Exact kinds of one record are one unit together.
    """
    pdq = counts[DigestKind.PDQ - 1] if len(counts) >= DigestKind.PDQ else 0
    return max(records, *counts, 0) + (limits.NEAR_UNITS - 1) * pdq


def day_of(now: datetime) -> str:
    """Return the UTC day, as 2026-03-01."""
    return now.astimezone(UTC).date().isoformat()


def resets_at(now: datetime) -> datetime:
    """Return the moment from which the next day's budget counts."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)


def block_of(left: int) -> int:
    """Return how many units may be reserved ahead when so many are left.

    Blocks spare most questions a commit of their own. They shrink to nothing towards the end, so
    that no unit is out of reach because another process holds it.
    """
    return limits.BUDGET_BLOCK_UNITS if left >= 100 * limits.BUDGET_BLOCK_UNITS else 0


def warns(before: int, after: int, budget: int) -> bool:
    """Whether 80 % of a budget are reached now that were not before."""
    mark = -(-budget * limits.BUDGET_WARN_PERCENT // 100)
    return before < mark <= after


class StatedBy(StrEnum):
    """Where a budget comes from; each goes before the one above."""

    DEFAULT = "default"
    CONFIGURATION = "configuration"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Budgets:
    """What config.toml states: for all peers, for some, and for purposes within them."""

    default: int = limits.BUDGET_UNITS
    peers: Mapping[str, int] = field(default_factory=dict)
    purposes: Mapping[str, int] = field(default_factory=dict)

    def of(self, peer: str, purpose: str, stated: int | None) -> tuple[int, StatedBy]:
        """Return the budget of a peer (purpose ALL), or its cap for one purpose.

        ``stated`` is what an admin set. A purpose without a cap has none but the peer's budget.
        """
        if stated is not None:
            return stated, StatedBy.ADMIN
        if purpose:
            cap = self.purposes.get(purpose)
            if cap is None:
                return limits.POLICY_NUMBER_MOST, StatedBy.DEFAULT
            return cap, StatedBy.CONFIGURATION
        if peer in self.peers:
            return self.peers[peer], StatedBy.CONFIGURATION
        return self.default, StatedBy.DEFAULT


@dataclass(frozen=True, slots=True)
class Spent:
    """What a peer has reserved on a day, for one purpose or ALL; for ALL also how many records its
    questions held and how many hits were told, of those that ended."""

    peer: str
    purpose: str
    units: int
    asked: int = 0
    hits: int = 0
