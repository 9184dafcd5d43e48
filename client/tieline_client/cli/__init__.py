"""The `tieline` command."""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from imports: what they make stays, and it would go through
    all of it again and again (a seventh of a node's start)."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def ended_in_order() -> Iterator[None]:
    """Let SIGTERM, and the SIGHUP of a session that closes, end a command as Ctrl-C does: the files
    that it works with go with it. A node takes both for its own (`tieline node serve`), and
    whoever ignores one (nohup) goes on ignoring it."""
    ours = []
    if threading.current_thread() is threading.main_thread():
        kinds = (signal.SIGTERM, signal.SIGHUP)
        ours = [kind for kind in kinds if signal.getsignal(kind) is signal.SIG_DFL]
    for kind in ours:
        signal.signal(kind, signal.default_int_handler)
    try:
        yield
    finally:
        for kind in ours:
            if signal.getsignal(kind) is signal.default_int_handler:
                signal.signal(kind, signal.SIG_DFL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (contract.md)."""
    # Not at the top: the server's commands import from this package while app.py finds them.
    with uncollected():
        from tieline_client.cli.app import run_command_line  # noqa: PLC0415

    with ended_in_order():
        return run_command_line(arguments)
