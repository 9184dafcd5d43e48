"""How the peers of a question ended: what is complained of, and what the exit code says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tieline_client.cli.output import say
from tieline_client.errors import EXIT_REFUSED, EXIT_UNREACHABLE

NEVER_ENDED = "the own node ended the question before this peer answered"


class End(Protocol):
    """How one peer ended."""

    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def receipt(self) -> str: ...


def complain(ends: Mapping[str, End | None]) -> None:
    """Say on stderr who did not answer, and when nobody was asked; None never ended."""
    for agency, end in ends.items():
        if end is None:
            say(f"{agency}: unreachable: {NEVER_ENDED}")
        elif end.status in ("refused", "unreachable", "pending"):
            say(f"{agency}: {end.status}: {end.reason}")
    if not ends:
        say(
            "policy lists no member for this purpose, so nobody was asked; "
            "see `tieline peers --purpose CODE`, or name one with --peer"
        )


def exit_code(ends: Mapping[str, End | None]) -> int:
    """4 when some could not be reached, 3 when all (or nobody) refused, else 0."""
    states = {"unreachable" if one is None else one.status for one in ends.values()}
    if "unreachable" in states:
        return EXIT_UNREACHABLE
    return EXIT_REFUSED if states <= {"refused"} else 0


def unended(agency: str) -> dict[str, object]:
    """Return the document of a peer that never ended."""
    return {
        "agency": agency,
        "status": "unreachable",
        "reason": NEVER_ENDED,
        "overlaps": [],
        "count": None,
        "truncated": False,
        "receipt": "",
        "budget": None,
        "request": None,
    }
