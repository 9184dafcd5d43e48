"""What a repository counts of the series that agencies deposited."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Held(NamedTuple):
    """Distinct items, and those that somebody stated to be baseline."""

    items: int
    baseline: int


class DepositRepository(Protocol):
    def held(self, series: Sequence[str]) -> Held: ...
    def submissions(self, items: Sequence[int]) -> dict[int, int]:
        """Of items, how many complete imports brought each."""
        ...
