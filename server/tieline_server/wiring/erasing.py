"""The thread that carries erasures out as they come, and what was left of them."""

from __future__ import annotations

import threading

import structlog
from tieline_client import limits
from tieline_client.errors import TielineError

from tieline_server.wiring.housekeeping import HOUSEKEEPING_SECONDS
from tieline_server.wiring.parts import Parts

_log = structlog.get_logger(__name__)


class Eraser:
    """Runs services/purging.py whenever something is ``due``, and every few seconds."""

    def __init__(self, parts: Parts, due: threading.Event) -> None:
        self._parts, self._due = parts, due
        self._thread = threading.Thread(target=self._run, name="purging", daemon=True)

    def start(self) -> None:
        """Begin with what was left."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is under way; the node is stopping already."""
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(limits.STOP_SECONDS)

    def _run(self) -> None:
        parts = self._parts
        while not parts.stopping.is_set():
            hurried = self._due.is_set()
            self._due.clear()
            try:
                if hurried:
                    parts.delivery.start()  # retractions that were just forwarded
                parts.purging.run()
            except TielineError as error:
                _log.warning("purging.waits", reason=error.reason, text=error.message)
            except Exception as error:  # noqa: BLE001 - the next round tries again
                _log.error("purging.failed", error=type(error).__name__, text=str(error))
            self._due.wait(HOUSEKEEPING_SECONDS)
