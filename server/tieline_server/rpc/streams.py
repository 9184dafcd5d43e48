"""Bounds in time: reading a request stream with a limit, and cutting off a call that is stuck.

gRPC for Python waits without end for the next message of a caller, and for a caller to read. Where
the handler waits for messages, a reader thread fetches them and the handler gives up by itself,
with a reason (RequestReader). Where gRPC itself is stuck (a blocked write, a single request that
does not come), only ``cancel`` from outside helps; an abort from another thread would hang
(measured.md). The caller then sees a bare CANCELLED (Watchdog).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

import structlog
from tieline_client import limits

_log = structlog.get_logger(__name__)


class CallerGone(Exception):
    """The caller cancelled or its connection broke: there is nobody to answer."""


class RequestReader:
    """Reads a caller's messages in a thread of its own, at most ``ahead`` before they are taken.

    Close it when the call ends; the thread ends with the call.
    """

    def __init__(self, source: Iterator[bytes], ahead: int = limits.REQUESTS_AHEAD) -> None:
        self._source = source
        self._ahead = ahead
        self._messages: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._read, name="rpc-reader", daemon=True)
        self._thread.start()

    def take(self, timeout: float) -> bytes | None:
        """Return the next message, or None at the end of the stream.

        A caller that goes away can look like one that ended its stream, so what depends on having
        all of it needs a count or a last message of its own.

        Raises TimeoutError when none came within ``timeout`` seconds, CallerGone when the call
        ended.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._messages or self._ended, timeout):
                raise TimeoutError
            if self._messages:
                message = self._messages.popleft()
                self._changed.notify_all()
                return message
            if self._failure is not None:
                raise CallerGone from self._failure
            return None

    def close(self) -> None:
        """Drop what was read and let the thread end."""
        with self._changed:
            self._closed = True
            self._messages.clear()
            self._changed.notify_all()

    def _read(self) -> None:
        try:
            for message in self._source:
                with self._changed:
                    self._changed.wait_for(
                        lambda: len(self._messages) < self._ahead or self._closed
                    )
                    if self._closed:
                        return
                    self._messages.append(message)
                    self._changed.notify_all()
        except Exception as error:  # noqa: BLE001  gRPC raises a bare RpcError when a call is over
            self._failure = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()


class Watched:
    """One call under watch. ``due`` is a reading of the monotonic clock, seconds."""

    __slots__ = ("cancel", "cut", "due")

    def __init__(self, cancel: Callable[[], None], due: float) -> None:
        self.cancel = cancel
        self.due = due
        self.cut = False
        """Whether the watchdog ended it."""


class Watchdog:
    """Cancels calls that are past their ``due``, within ``interval`` seconds. One thread."""

    def __init__(
        self,
        interval: float = limits.WATCH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval = interval
        self._monotonic = monotonic
        self._calls: set[Watched] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def watch(self, call: Watched) -> None:
        """Look after a call until ``release``."""
        with self._changed:
            self._calls.add(call)
            self._changed.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rpc-watch", daemon=True)
                self._thread.start()

    def release(self, call: Watched) -> None:
        """Stop looking after it."""
        with self._changed:
            self._calls.discard(call)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._calls)
            time.sleep(self._interval)
            now = self._monotonic()
            with self._changed:
                stuck = [call for call in self._calls if now >= call.due and not call.cut]
            for call in stuck:
                call.cut = True
                try:
                    call.cancel()
                except Exception as error:  # noqa: BLE001  the others still need their watch
                    _log.error("rpc.cancel_failed", exc_info=error)
