"""How many calls one caller may have open at once, so that a slow peer costs only itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tieline_client import limits
from tieline_client.errors import LimitExceeded

from tieline_server.rpc.methods import Weight


class PeerLimits:
    """Counts open calls by caller: all of them, and those that stream. Thread-safe.

    A call over the cap is refused at once; waiting would hold a thread that others need.
    """

    def __init__(
        self,
        calls: int = limits.CONCURRENT_RPCS_PER_PEER,
        streams: int = limits.CONCURRENT_STREAMS_PER_PEER,
    ) -> None:
        self._most = {Weight.SINGLE: calls, Weight.STREAM: min(streams, calls)}
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, caller: str, weight: Weight) -> Iterator[None]:
        """Hold a place for one call; raise LimitExceeded when there is none."""
        with self._lock:
            self._require(self._calls[caller], Weight.SINGLE, "calls")
            if weight is Weight.STREAM:
                self._require(self._streams[caller], Weight.STREAM, "streams")
                self._streams[caller] += 1
            self._calls[caller] += 1
        try:
            yield
        finally:
            with self._lock:
                self._release(self._calls, caller)
                if weight is Weight.STREAM:
                    self._release(self._streams, caller)

    def open(self, caller: str) -> int:
        """How many calls of this caller are open."""
        with self._lock:
            return self._calls.get(caller, 0)

    def _require(self, count: int, weight: Weight, what: str) -> None:
        most = self._most[weight]
        if count >= most:
            raise LimitExceeded(
                f"{count} {what} are open already, at most {most} at once; wait for one to end",
                check="CONCURRENCY",
            )

    @staticmethod
    def _release(counts: Counter[str], caller: str) -> None:
        counts[caller] -= 1
        if counts[caller] <= 0:
            del counts[caller]
