"""The `tieline` command."""

from __future__ import annotations

import gc
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (contract.md)."""
    # Not at the top: the server's commands import from this package while app.py finds them.
    with uncollected():
        from tieline_client.cli.app import run_command_line  # noqa: PLC0415

    return run_command_line(arguments)
