"""How many calls one caller may make in a while: a bucket of tokens for each, one token a call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tieline_client import limits
from tieline_client.errors import LimitExceeded


class Rates:
    """Thread-safe. Callers are members of the federation, so there are few buckets.

    A bucket fills by ``per_second`` and holds what ``at_once_seconds`` bring. Who finds it empty is
    told when to come again, and costs no more than that.
    """

    def __init__(
        self,
        per_second: float = limits.PEER_CALLS_PER_SECOND,
        at_once_seconds: float = limits.PEER_CALLS_AT_ONCE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second, self._most = per_second, max(per_second * at_once_seconds, 1.0)
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, caller: str) -> None:
        """Take a token; raise LimitExceeded, with the seconds to wait, when there is none."""
        now = self._monotonic()
        with self._lock:
            left, since = self._buckets.get(caller, (self._most, now))
            left = min(left + (now - since) * self._per_second, self._most)
            if left >= 1.0:
                self._buckets[caller] = (left - 1.0, now)
                return
            self._buckets[caller] = (left, now)
        wait = max((1.0 - left) / self._per_second, 0.001)  # as it is told: never "at once"
        raise LimitExceeded(
            f"more than {self._per_second:g} calls a second; come again in {wait:.3f} seconds",
            check="RATE",
            retry_after=f"{wait:.3f}",
        )
