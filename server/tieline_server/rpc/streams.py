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
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue

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
        # Queues in C: waking a thread costs as much as all that is done with a batch.
        self._messages: SimpleQueue[bytes | None] = SimpleQueue()
        self._room: SimpleQueue[bool] = SimpleQueue()
        for _ in range(ahead):
            self._room.put(True)
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
        if not self._ended:
            try:
                message = self._messages.get(timeout=timeout)
            except Empty:
                raise TimeoutError from None
            if message is not None:
                self._room.put(True)
                return message
            self._ended = True
        if self._failure is not None:
            raise CallerGone from self._failure
        return None

    def close(self) -> None:
        """Drop what was read and let the thread end; whoever takes finds the end."""
        self._closed = True
        self._room.put(False)
        with suppress(Empty):
            while True:
                self._messages.get_nowait()
        # What was dropped may have been the end, for which somebody still waits.
        self._messages.put(None)

    def _read(self) -> None:
        try:
            for message in self._source:
                self._room.get()
                if self._closed:
                    return
                self._messages.put(message)
        except Exception as error:  # noqa: BLE001  gRPC raises a bare RpcError when a call is over
            self._failure = error
        finally:
            self._messages.put(None)


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
        self._lock = threading.Lock()
        self._busy = threading.Event()
        """Set while there are calls: without, the thread sleeps."""
        self._pause = threading.Event()  # never set: only waited for
        self._thread: threading.Thread | None = None

    def watch(self, call: Watched) -> None:
        """Look after a call until ``release``."""
        with self._lock:
            self._calls.add(call)
            if not self._busy.is_set():
                self._busy.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rpc-watch", daemon=True)
                self._thread.start()

    def release(self, call: Watched) -> None:
        """Stop looking after it."""
        with self._lock:
            self._calls.discard(call)

    def _run(self) -> None:
        while True:
            self._busy.wait()
            self._pause.wait(self._interval)
            now = self._monotonic()
            with self._lock:
                if not self._calls:
                    self._busy.clear()
                stuck = [call for call in self._calls if now >= call.due and not call.cut]
            for call in stuck:
                call.cut = True
                try:
                    call.cancel()
                except Exception as error:  # noqa: BLE001  the others still need their watch
                    _log.error("rpc.cancel_failed", exc_info=error)
