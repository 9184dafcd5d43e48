"""What this agency may still ask of its peers, as they said when they last answered.

Kept in memory: a node that starts knows nothing until it asks. A peer says it with an answer and a
refusal only, so what its admin changed since is not known before the next question; until then, or
the end of the day, the last word stands, with its time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tieline.v1 import budget_pb2, exchange_pb2
from tieline_client import limits
from tieline_client.errors import BudgetExceeded, MalformedMessage
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.budget import resets_at


@dataclass(frozen=True, slots=True)
class _Word:
    left: int
    budget: int
    at: datetime
    resets: datetime


class Heard:
    """One word for each peer, the last. Used from any thread."""

    def __init__(self) -> None:
        self._words: dict[str, _Word] = {}

    def told(self, agency: str, word: exchange_pb2.BudgetLeft, now: datetime) -> None:
        """Take what an answer says; what cannot be is passed over."""
        try:
            resets = moment(word.reset_time)
        except MalformedMessage:
            return
        if word.left <= word.budget <= limits.POLICY_NUMBER_MOST:
            self._words[agency] = _Word(word.left, word.budget, now, resets)

    def refused(self, agency: str, error: BudgetExceeded, now: datetime) -> None:
        """Take what a refusal says."""
        numbers = [error.metadata.get(key, "") for key in ("left", "budget")]
        if all(one.isascii() and one.isdecimal() and len(one) <= 10 for one in numbers):
            left, budget = map(int, numbers)
            word = exchange_pb2.BudgetLeft(
                left=left, budget=budget, reset_time=timestamp(resets_at(now))
            )
            self.told(agency, word, now)

    def views(self, now: datetime) -> list[budget_pb2.OwnBudgetView]:
        """Return them by agency."""
        return [
            budget_pb2.OwnBudgetView(
                agency=agency,
                budget=word.budget,
                left=word.left if now < word.resets else word.budget,
                heard_time=timestamp(word.at),
                reset_time=timestamp(word.resets if now < word.resets else resets_at(now)),
            )
            for agency, word in sorted(self._words.items())
        ]

    def warnings(self, now: datetime) -> Iterator[str]:
        """Say where 80 % are used."""
        for agency, word in sorted(self._words.items()):
            if now < word.resets and used_up(word.left, word.budget):
                yield (
                    f"this agency had {word.left} of {word.budget} units left at {agency} until "
                    f"{word.resets:%Y-%m-%dT%H:%M:%SZ}, as {agency} said last, at "
                    f"{word.at:%Y-%m-%dT%H:%M:%SZ}; its next answer says it anew"
                )


def used_up(left: int, budget: int) -> bool:
    """Whether 80 % of a budget are used."""
    return (budget - left) * 100 >= limits.BUDGET_WARN_PERCENT * budget
