"""The operator CAs of a running node: the present one, and the next while one replaces the other.

`tieline node rekey HOME --operator-ca` puts the next one into the home. The node sees it there and
from then on lets people in under either, and issues under the next: so everybody who refreshes a
profile or gets a new one is ready for the day on which the old one ends. A next CA that cannot be
used changes nothing: the present one goes on alone, and ``problem`` says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tieline_client.errors import TielineError

from tieline_server.trust.ca_keys import OwnAuthority

NEXT = "operator-ca.next.pem"


class OperatorCas:
    """One home's operator CAs; ``load_next`` reads the next one, with its key where it is here."""

    def __init__(
        self, present: OwnAuthority, certs: Path, load_next: Callable[[], OwnAuthority]
    ) -> None:
        self.present = present
        self._path, self._load_next = certs / NEXT, load_next
        self._stamp: tuple[int, int, int] | None = None
        self.upcoming: OwnAuthority | None = None
        self.problem = ""
        """Why a next CA that is in the home is not used, or ""."""
        self.look()

    @property
    def issuing(self) -> OwnAuthority:
        """The CA that certifies people from now on."""
        return self.upcoming or self.present

    def replacing(self) -> str:
        """Return the fingerprint of the next CA, or "" where there is none that issues here."""
        upcoming = self.upcoming
        return upcoming.fingerprint if upcoming and upcoming.authority is not None else ""

    def trusted(self) -> tuple[bytes, ...]:
        """Return the CAs under which people come in, DER."""
        upcoming = self.upcoming
        return (self.present.der,) if upcoming is None else (self.present.der, upcoming.der)

    def look(self) -> bool:
        """Take up a next CA that was put into the home; return whether there is one anew."""
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        if stamp is None:
            self.upcoming, self.problem = None, ""
            return False
        try:
            self.upcoming = self._load_next()
        except TielineError as error:
            self.upcoming = None
            self.problem = f"the next operator CA cannot be used: {error.message}"
            return False
        self.problem = ""
        return True

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
