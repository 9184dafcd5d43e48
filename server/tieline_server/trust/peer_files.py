"""A peer as a source of the directory's files, for tuf_copy.verify.

Files named by their SHA-256 are taken from the own copy where it has them; the others are asked
for together as soon as their names are known. All of one refresh has one end in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tieline_client import limits
from tieline_client.errors import Unreachable

from tieline_server.trust.tuf_copy import TARGETS, TufCopy


class Files(Protocol):
    """What serves: DirectoryCalls of tieline_client, or a hostile one in memory."""

    def fetch(self, names: Sequence[str], timeout: float) -> dict[str, bytes | None]: ...


class PeerFiles:
    """Reads one version of a peer's files; made anew for each refresh."""

    def __init__(
        self,
        files: Files,
        known: TufCopy | None,
        seconds: float = limits.DIRECTORY_FETCH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``seconds`` bound the whole refresh."""
        self._files = files
        self._own = known.files if known is not None else {}
        self._monotonic = monotonic
        self._end = monotonic() + seconds
        self._fetched: dict[str, bytes | None] = {}

    def read(self, name: str) -> bytes | None:
        """Return a file; raise a TielineError when the peer does not answer."""
        if name.startswith(f"{TARGETS}/") and name in self._own:
            return self._own[name]
        if name not in self._fetched:
            self.ahead([name])
        return self._fetched[name]

    def ahead(self, names: Sequence[str]) -> None:
        """Fetch what is not here yet, together."""
        wanted = [
            name
            for name in dict.fromkeys(names)
            if name not in self._fetched
            and not (name.startswith(f"{TARGETS}/") and name in self._own)
        ]
        if not wanted:
            return
        left = self._end - self._monotonic()
        if left <= 0:
            raise Unreachable("the directory did not come within its time; it is asked for again")
        self._fetched |= self._files.fetch(wanted, min(left, limits.DIRECTORY_CALL_SECONDS))
