"""What ends by itself, and from when on that is announced. No I/O; the time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

ANNOUNCED_AHEAD = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Ending:
    """Something that ends at a time, and what to do before.

    ``ahead`` is how long before its end it is announced. What renews itself is announced when it
    has not, which is later than a week.
    """

    what: str
    ends: datetime
    advice: str
    ahead: timedelta = ANNOUNCED_AHEAD

    def over(self, now: datetime) -> bool:
        """Whether it has ended."""
        return now >= self.ends

    def due(self, now: datetime) -> bool:
        """Whether it is to be announced: it has ended, or will before long."""
        return now >= self.ends - self.ahead

    def words(self, now: datetime) -> str:
        """One sentence: what, when, what to do."""
        at = f"{self.ends.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"{self.what} {'ended' if self.over(now) else 'ends'} {at}: {self.advice}"


def announced(endings: Iterable[Ending], now: datetime) -> Iterator[Ending]:
    """Yield what is to be announced, the first to end first."""
    return (one for one in sorted(endings, key=lambda one: one.ends) if one.due(now))
