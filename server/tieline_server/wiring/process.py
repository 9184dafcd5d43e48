"""The process around a node: its log, its signals, its memory, the lock on its home."""

from __future__ import annotations

import gc
import json
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import structlog
from tieline_client.errors import HomeInUse

from tieline_server.config import Home
from tieline_server.trust import files

_SIGNAL_SECONDS = 0.5
_COLLECTED_AFTER = 10_000
"""Objects made and not gone again after which the collector looks for cycles."""


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold a home, so that no other process serves or changes it; raise HomeInUse."""
    try:
        held = ExitStack()
        held.enter_context(files.locked(home.lock_file, str(home.path)))
    except HomeInUse:
        raise HomeInUse(f"another process serves {home.path}; stop it first") from None
    with held:
        yield


def ended_by_signal() -> threading.Event:
    """Return what is set by SIGTERM or SIGINT from now on."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to look at
    return ended


def on_hangup(work: Callable[[], None]) -> None:
    """Do this on SIGHUP from now on."""
    signal.signal(signal.SIGHUP, lambda *_: work())


def wait_for(ended: threading.Event) -> None:
    """Return once it is set: the system may hand a signal to any thread, but only this one runs
    its handler, once awake."""
    while not ended.wait(_SIGNAL_SECONDS):
        pass


def settle_memory() -> None:
    """What is there by now stays: the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AFTER)


def say_ready() -> None:
    """Write ``ready`` as the log writes: a line of its own, whatever other threads have to say."""
    structlog.WriteLogger(sys.stderr).msg("ready")


def _one_line(event: object, **how: Any) -> str:
    """Return an event as ASCII, with what JSON leaves raw (DEL) escaped as well."""
    return json.dumps(event, **how).replace("\x7f", "\\u007f")


def configure_log() -> None:
    """One JSON line per event on stderr; control characters are escaped by JSON."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(
                structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
            ),
            structlog.processors.JSONRenderer(_one_line),
        ],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
    )
