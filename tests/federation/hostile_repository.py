"""A peer in memory that serves a directory and lies about it, file by file.

It starts from a real federation's files. Tests change what it serves, or sign what they like with
the keys that an attacker of that family would have.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tieline_client import keys
from tieline_client.directory import Directory
from tieline_client.errors import DirectoryError, TielineError
from tieline_server.trust import federation_edits as edits
from tieline_server.trust import federation_init, tuf_online
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.federation import Federation
from tieline_server.trust.peer_files import PeerFiles
from tieline_server.trust.request import Request, tuf_signer
from tieline_server.trust.stated import Stated
from tieline_server.trust.tuf_copy import TufCopy
from tieline_server.trust.tuf_online import OnlineKeys
from tuf.api.metadata import Metadata, Root, Targets

from tests.federation.building import FEDERATION, NOW, Agency

PJ, ICE = Agency("pt-pj"), Agency("us-ice", countries=["US"])


class Hostile:
    """Serves ``files``; ``asked`` are the names that it was asked for, in order."""

    def __init__(self, copy: TufCopy) -> None:
        self.files: dict[str, bytes] = dict(copy.files)
        self.asked: list[str] = []
        self.before: Callable[[Sequence[str]], None] = lambda _names: None

    def fetch(self, names: Sequence[str], timeout: float) -> dict[str, bytes | None]:
        """As a peer's DirectoryService."""
        assert timeout > 0
        self.asked += names
        self.before(names)
        return {name: self.files.get(name) for name in names}

    def serve(self, copy: TufCopy) -> None:
        """Serve another version."""
        self.files = dict(copy.files)

    def swap(self, ending: str, data: bytes) -> None:
        """Serve other bytes under every name that ends so."""
        for name in self.files:
            if name.endswith(ending):
                self.files[name] = data


@cache
def _founded() -> Path:
    """A federation of two members under two of three holders, made once."""
    folder = Path(tempfile.mkdtemp(prefix="tieline-test-")) / "authority"
    made = federation_init.create(folder, FEDERATION, passphrases=[None] * 3, threshold=2, now=NOW)
    for request in (PJ.request(), ICE.request()):
        claims = request.claims

        def admit(stated: Stated, request: Request = request) -> Stated:
            return edits.admit(stated, request, claims.role, claims.countries, NOW)[0]  # noqa: B023

        made.propose(admit, NOW)
        for number in (1, 2):
            made.sign(keys.load(folder / "keys" / f"holder-{number}.pem"), NOW)
    return folder


class Scene:
    """A federation whose every key is at hand, a hostile peer, and a node that knows version 1."""

    def __init__(self, root: Path) -> None:
        self.federation = Federation.open(shutil.copytree(_founded(), root / "authority"))
        self.store = DirectoryStore(root / "home")
        self.first = self.store.trust(self.federation.folder)
        self.peer = Hostile(self.federation.published())

    @property
    def online(self) -> OnlineKeys:
        return OnlineKeys.load(self.federation.folder / "online")

    def holder(self, number: int) -> keys.PrivateKey:
        """One holder's key."""
        return keys.load(self.federation.folder / "keys" / f"holder-{number}.pem")

    def take(self) -> Directory:
        """Let the node take what the peer serves."""
        files = PeerFiles(self.peer, self.store.copy())
        return self.store.take(files.read, "mallory", NOW, files.ahead)

    def refused(self, why: str, kind: type[TielineError] = DirectoryError) -> None:
        """The peer is refused, and what was known stands, also after a restart."""
        before = self.store.current()
        with pytest.raises(kind, match=why):
            self.take()
        assert self.store.current() == before
        assert DirectoryStore(self.store.folder.parent).current() == before

    def put(self, edit: Callable[[Stated], Stated]) -> TufCopy:
        """Let the holders put a change in force; return the version."""
        self.federation.propose(edit, NOW)
        return self.sign()

    def sign(self, *others: keys.PrivateKey) -> TufCopy:
        """Let the first holders, and these, sign what is proposed; return the version."""
        signers = chain(others, map(self.holder, range(1, 10)))
        while not self.federation.sign(next(signers), NOW).in_force:
            pass
        return self.federation.published()

    def change(self, code: str = "training") -> TufCopy:
        """Let the holders put some change in force; return the version."""
        return self.put(lambda stated: edits.set_purpose(stated, code, "Text"))

    def bound(self, base: TufCopy, *, ahead: int = 1, **parts: Any) -> TufCopy:
        """Bind parts with the stolen online keys, ``ahead`` of all versions there are."""
        copy = replace(base, **parts)
        return tuf_online.bind(
            roots=copy.roots,
            targets=copy.targets,
            roles=copy.roles,
            contents=copy.contents,
            online=self.online,
            now=NOW,
            after=tuple(number + ahead - 1 for number in tuf_online.versions(base)),  # type: ignore[arg-type]
        )


def signed(metadata: Metadata[Root] | Metadata[Targets], *signers: keys.PrivateKey) -> bytes:
    """Sign metadata with these keys and no others."""
    metadata.signatures.clear()
    for key in signers:
        metadata.sign(tuf_signer(key), append=True)
    return metadata.to_bytes()
