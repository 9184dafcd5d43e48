"""A stream of messages to a server that is looked at again before each of them.

A question may be minutes long, and within them the server may be revoked: what has not left by then
must not leave.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from tieline_client.errors import TielineError


class CheckedStream:
    """Looks at the server again before each message that goes to it, and cancels a call to one that
    is trusted no more."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self.cancel: Callable[[], object] = lambda: None
        self.ready = threading.Event()
        """Set once ``cancel`` is that of the call."""
        self.refused: TielineError | None = None

    def through(self, messages: Iterator[bytes]) -> Iterator[bytes]:
        """Yield them, as long as the server is trusted."""
        for message in messages:
            try:
                self._check()
            except TielineError as error:
                self.refused = error
                self.ready.wait()
                self.cancel()
                return
            yield message
