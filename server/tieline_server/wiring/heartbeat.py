"""The thread by which a process on a shared database says that it is there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import structlog
from tieline_client.errors import TielineError
from tieline_client.identifiers import new_id

from tieline_server.services.processes import BEAT_SECONDS, Processes

_log = structlog.get_logger(__name__)


def process_id(indexes: Path) -> str:
    """Return the id of the process that keeps its index in a folder; it goes with the folder."""
    path = indexes / "process"
    if not path.exists():
        path.write_text(new_id() + "\n")
    return path.read_text().strip()


def process_name(home: Path) -> str:
    """Return what people find a process by."""
    return f"{socket.gethostname()}:{home}"


class Heartbeat:
    """Beats in a thread of its own: rewriting an index may hold up everything else for minutes."""

    def __init__(self, processes: Processes) -> None:
        self._processes = processes
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Register, and go on."""
        self._processes.begin()
        self._thread.start()

    def stop(self) -> None:
        """Say that the process stops."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(BEAT_SECONDS)
        self._try(self._processes.end)

    def _run(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            self._try(self._processes.beat)

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except TielineError as error:
            _log.warning("heartbeat.missed", reason=error.reason, text=error.message)
