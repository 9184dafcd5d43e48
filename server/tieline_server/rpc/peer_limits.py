"""How many calls one caller may have open at once, so that a slow peer costs only itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tieline_client import limits
from tieline_client.errors import LimitExceeded

from tieline_server.rpc.methods import STANDING, Weight

_STANDING = {
    Weight.STANDING: limits.ATTACH_CALLS_PER_PEER,
    Weight.RELAYED: limits.RELAY_STREAMS_PER_PEER,
}


class PeerLimits:
    """Counts open calls by caller: all of them, and those that stream. Thread-safe.

    Standing streams and relayed connections are counted apart, and all peers' together as well.
    A call over the cap is refused at once; waiting would hold a thread that others need.
    """

    def __init__(
        self,
        calls: int = limits.CONCURRENT_RPCS_PER_PEER,
        streams: int = limits.CONCURRENT_STREAMS_PER_PEER,
        standing: Mapping[Weight, int] = _STANDING,
        standing_total: int = limits.RELAY_STREAMS,
    ) -> None:
        self._most = {Weight.SINGLE: calls, Weight.STREAM: min(streams, calls)}
        self._calls: Counter[str] = Counter()
        self._streams: Counter[str] = Counter()
        self._standing_most, self._standing_total = standing, standing_total
        self._standing: Counter[tuple[str, Weight]] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def slot(self, caller: str, weight: Weight) -> Iterator[None]:
        """Hold a place for one call; raise LimitExceeded when there is none."""
        if weight in STANDING:
            with self._standing_slot(caller, weight):
                yield
            return
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

    @contextmanager
    def _standing_slot(self, caller: str, weight: Weight) -> Iterator[None]:
        key = (caller, weight)
        with self._lock:
            own, total = self._standing[key], self._standing.total()
            if own >= self._standing_most[weight] or total >= self._standing_total:
                raise LimitExceeded(
                    f"{own} {weight.value} streams of {caller} are open already, {total} in all;"
                    " wait for one to end",
                    check="CONCURRENCY",
                )
            self._standing[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._standing[key] -= 1
                if self._standing[key] <= 0:
                    del self._standing[key]

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
