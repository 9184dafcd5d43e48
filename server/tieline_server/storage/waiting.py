"""How long the oldest pending audit entry has waited. No I/O; times are arguments, in seconds.

Each look tells the oldest and the newest number that wait. An entry has waited since the first look
whose newest number reached it, so a queue whose head moves, but more slowly than it grows, is as
late as it is: what counts is the age of what is oldest now, not when another was oldest.
"""

from __future__ import annotations

from collections import deque

LOOK_SECONDS = 0.25
"""Looks closer together than this are remembered as one."""


class Waiting:
    """What was seen to wait, and since when. One thread looks, any may ask for the age."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._seen: deque[tuple[int, float]] = deque()
        """Newest number and time of looks, both ascending; the first reaches the oldest."""

    def look(self, oldest: int | None, newest: int | None, now: float) -> None:
        """Note which numbers wait; None and None where none does."""
        if oldest is None or newest is None:
            self._seen.clear()
            self._since = now
            return
        while self._seen and self._seen[0][0] < oldest:
            self._seen.popleft()
        last = self._seen[-1] if self._seen else (-1, now - LOOK_SECONDS)
        if newest > last[0] and now - last[1] >= LOOK_SECONDS:
            self._seen.append((newest, now))
        self._since = self._seen[0][1]

    def age(self, now: float) -> float:
        """Return how long the oldest has waited; where none did, how long ago that was seen."""
        return now - self._since
