"""What this agency states of itself: changed here, signed with its directory key, handed in.

A change is written into HOME/directory/own before anybody hears of it, so that it survives a hub
that is down: the running node hands it in again until the directory holds it. Where there is no hub
the same statement, under the same signature, goes to the authority as a request. The directory key
is needed for the change alone and may be kept elsewhere otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from tieline_client import keys, limits
from tieline_client.errors import ConfigurationError, TielineError, WrongState
from tuf.api.metadata import Metadata, TargetFile, Targets

from tieline_server.domain.expiry import ANNOUNCED_AHEAD
from tieline_server.trust import files, statements
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.online_half import OnlineHalf
from tieline_server.trust.request import Request, assemble, build, read_role, tuf_signer
from tieline_server.trust.statements import AgencyStatement, OwnStatement
from tieline_server.trust.tuf_copy import TufCopy

OWN = Path("directory", "own")
"""Below a node's home: its own statement, where the directory does not hold it yet."""
_METADATA, _STATEMENT = "metadata.json", "statement.json"

Edit = Callable[[OwnStatement], OwnStatement]


@dataclass(frozen=True, slots=True)
class Signed:
    """A statement with its TUF metadata, as they are handed in."""

    metadata: bytes
    statement: bytes

    @property
    def version(self) -> int:
        """The number of the statement; a later one has a higher."""
        return read_role(self.metadata).signed.version


class NoHub(WrongState):
    """Nobody takes statements over the wire; the authority takes them as files."""


class Hub(Protocol):
    """DirectoryService of a hub."""

    def submit(self, metadata: bytes, statement: bytes) -> int: ...


class Peers(Protocol):
    """The node's channels, as far as they matter here."""

    def directory_files(self, agency: str) -> Hub: ...


class OwnStatements:
    """The statements of one home. Raises ConfigurationError or WrongState."""

    def __init__(self, home: Path, agency: str, store: DirectoryStore) -> None:
        self._folder, self._keys = home / OWN, home / "keys"
        self._request_file = home / "request.json"
        self._agency, self._store = agency, store

    def pending(self) -> Signed | None:
        """Return what the directory does not hold yet, or None."""
        metadata = files.read_bounded(self._folder / _METADATA, limits.DIRECTORY_FILE_BYTES)
        own = files.read_bounded(self._folder / _STATEMENT, limits.DIRECTORY_FILE_BYTES)
        if metadata is None or own is None:
            return None
        written = Signed(metadata, own)
        held = self._store.copy().roles.get(self._agency)
        if held is not None and written.version <= read_role(held).signed.version:
            return None
        return written

    def stated(self) -> OwnStatement:
        """Return what this agency states: what is pending, or else what the directory holds."""
        written = self.pending()
        path = statements.own_path(self._agency)
        data = written.statement if written is not None else self._copy().contents[path]
        return statements.parse(OwnStatement, data, path)

    def change(self, edit: Edit, now: datetime) -> Signed | None:
        """Apply an edit, sign and write it; None where it changes nothing.

        What is pending is signed anew where the directory knows another key of ours by now, and
        what stands is once its end is announced.
        """
        before = self.stated()
        after = edit(before)
        pending = self.pending()
        unchanged = after == before and (pending is None or self._under_known_key(pending))
        if unchanged and not self._ending(now):
            return pending
        own = statements.to_bytes(
            statements.check(OwnStatement, after.model_dump(mode="json"), "the statement")
        )
        path = statements.own_path(self._agency)
        metadata = Metadata(
            Targets(
                version=max(int(now.timestamp()), self.highest() + 1),
                expires=(now + limits.AUTHORITY_LIFE).replace(microsecond=0),
                targets={path: TargetFile.from_data(path, own, ["sha256"])},
            )
        )
        metadata.sign(tuf_signer(self.directory_key()))
        signed = Signed(metadata.to_bytes(), own)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write_atomic(self._folder / _STATEMENT, signed.statement, mode=0o600)
        files.write_atomic(self._folder / _METADATA, signed.metadata, mode=0o600)
        return signed

    def _ending(self, now: datetime) -> bool:
        """Whether what this agency signed last ends within the time that is announced."""
        written = files.read_bounded(self._folder / _METADATA, limits.DIRECTORY_FILE_BYTES)
        held = self._copy().roles[self._agency]
        ends = [read_role(one).signed.expires for one in (written, held) if one is not None]
        return now >= max(ends) - ANNOUNCED_AHEAD

    def hand_in(self, peers: Peers, online: OnlineHalf, now: datetime) -> None:
        """Hand in what the directory does not hold yet, to the first hub that takes it.

        Where this node is that hub, it takes it itself. Raises what the last hub said.
        """
        signed = self.pending()
        if signed is None:
            return
        self.submit(signed, peers, online, now)

    def submit(self, signed: Signed, peers: Peers, online: OnlineHalf, now: datetime) -> int:
        """Hand in a statement; return the directory version that holds it."""
        if online.held:
            return online.accept(self._agency, signed.metadata, signed.statement, now)
        hubs = [one.agency for one in self._store.current().hubs() if one.agency != self._agency]
        failure: TielineError = NoHub(
            "there is no hub to hand it to; give HOME/request.json to the authority, who runs "
            "`tieline federation accept`"
        )
        for hub in hubs:
            try:
                return peers.directory_files(hub).submit(signed.metadata, signed.statement)
            except TielineError as error:
                failure = error
        raise failure

    def highest(self) -> int:
        """Return the highest number that a statement of this home has, wherever it is by now."""
        known = read_role(self._copy().roles[self._agency]).signed.version
        written = self.pending()
        return max(known, written.version if written is not None else 0, self._asked())

    def _asked(self) -> int:
        """The number in HOME/request.json, which the authority may have by now; 0 without one."""
        data = files.read_bounded(self._request_file, limits.DIRECTORY_FILE_BYTES)
        try:
            version = json.loads(data or b"{}")["metadata"]["signed"]["version"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return 0
        return version if isinstance(version, int) else 0

    def request(self, now: datetime) -> Request | None:
        """Return what is pending as a request that the authority takes; None if nothing is."""
        written = self.pending()
        if written is None:
            return None
        return assemble(self.claims(), written.statement, written.metadata, self._known_key(), now)

    def request_under(self, key: keys.PrivateKey, now: datetime) -> Request:
        """Return what this agency states, as a request under another directory key."""
        return build(self.claims(), self.stated(), key, now, self.highest())

    def claims(self) -> AgencyStatement:
        """Return what the authority states of this agency."""
        path = statements.agency_path(self._agency)
        return statements.parse(AgencyStatement, self._copy().contents[path], path)

    def _under_known_key(self, signed: Signed) -> bool:
        known = self._store.current().member(self._agency).directory_key
        return known in read_role(signed.metadata).signatures

    def _known_key(self) -> keys.PublicKey:
        delegations = self._copy().parsed_targets.delegations
        assert delegations is not None
        listed = delegations.keys[self._store.current().member(self._agency).directory_key]
        key = load_pem_public_key(str(listed.keyval["public"]).encode())
        assert isinstance(key, keys.PublicKey)
        return key

    def directory_key(self) -> keys.PrivateKey:
        """Return the directory key by which the federation knows this agency now."""
        known = self._store.current().member(self._agency).directory_key
        passphrase = keys.passphrase_from_environment()
        for name in ("directory.key", "directory.next.key"):
            if (self._keys / name).exists():
                key = keys.load(self._keys / name, passphrase)
                if keys.keyid(key) == known:
                    return key
        raise ConfigurationError(
            f"{self._keys} does not hold the directory key of {self._agency}; bring directory.key "
            "back for this change, or have a new request.json admitted (`tieline node rekey HOME "
            "--directory` writes it)"
        )

    def _copy(self) -> TufCopy:
        copy = self._store.copy()
        if self._agency not in copy.roles:
            raise WrongState(f"{self._agency} is in no directory yet; let it be admitted first")
        return copy
