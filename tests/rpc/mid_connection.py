"""What happens to connections that stand when trust ends: cases against real listeners.

Each case opens a connection (or a stream on it) over mutual TLS to a listener behind the node's own
guard, or from the node's own client to a server, and sees it work; then something changes; then the
same connection is used once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.rpc import (
    mid_connection_callers,
    mid_connection_people,
    mid_connection_relay,
    mid_connection_servers,
)


@dataclass(frozen=True)
class Case:
    """``side`` is who is looked at; ``run`` returns what the connection got, ``expected`` what it
    must get."""

    side: str
    name: str
    run: Callable[[], str]
    expected: str


def cases() -> list[Case]:
    """All of them, in the order of the table."""
    sides = {
        "node that calls": mid_connection_callers.rows(),
        "node that only calls out": mid_connection_relay.rows(),
        "person": mid_connection_people.rows(),
        "server": mid_connection_servers.rows(),
    }
    return [Case(side, *row) for side, rows in sides.items() for row in rows]
