"""What `tieline doctor` finds: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tieline_client.errors import EXIT_FAILED, EXIT_UNREACHABLE

PEER = "peer"
"""The check whose failure is a peer's that cannot be reached."""


class State(StrEnum):
    """How something is."""

    WELL = "well"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """``check`` names what was looked at; ``advice`` is empty where there is nothing to do."""

    check: str
    state: State
    text: str
    advice: str = ""


LookAtHome = Callable[[Path], Sequence[Finding]]
"""What a distribution with the node's parts brings: a home seen from outside."""


def exit_code(findings: Sequence[Finding]) -> int:
    """0 when nothing failed, 4 when only peers did, else 1."""
    failed = {one.check for one in findings if one.state is State.FAILED}
    if not failed:
        return 0
    return EXIT_UNREACHABLE if failed == {PEER} else EXIT_FAILED
