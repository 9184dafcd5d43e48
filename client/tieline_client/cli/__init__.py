"""The `tieline` command."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code (contract.md)."""
    # Not at the top: the server's commands import from this package while app.py finds them.
    from tieline_client.cli.app import run_command_line  # noqa: PLC0415

    return run_command_line(arguments)
