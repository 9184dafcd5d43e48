"""What peers have asked of their budgets, in storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tieline_server.domain.budget import Spent


class BudgetRepository(Protocol):
    def reserve(
        self, day: str, peer: str, purpose: str, units: int, *, budget: int, cap: int
    ) -> Spent | None:
        """Add units to the peer's day and to its purpose, both or neither.

        Returns the peer's day as it is then; None where there is no room in ``budget`` for the day
        or in ``cap`` for the purpose. Nothing ever goes over either, whoever else reserves at once.
        """
        ...

    def tally(self, day: str, peer: str, asked: int, hits: int) -> Spent | None:
        """Count records that were asked and hits that were told; return the peer's day."""
        ...

    def give_back(self, day: str, peer: str, purpose: str, units: int) -> None:
        """Take units off again that were reserved and not used."""
        ...

    def spent(self, day: str, peer: str = "") -> Sequence[Spent]:
        """What is reserved on a day, by everybody or one peer, by purpose and in all."""
        ...

    def forget(self, before: str) -> None:
        """Drop the days before this one."""
        ...

    def stated(self, peer: str = "") -> dict[tuple[str, str], int]:
        """What admins set, by peer and purpose."""
        ...

    def state(self, peer: str, purpose: str, units: int | None) -> None:
        """Set a budget; None: as configured again."""
        ...
