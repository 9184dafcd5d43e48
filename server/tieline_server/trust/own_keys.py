"""Whether the directory lists the keys and CAs that this home has: no more of them, and no fewer.

They part in two ways. A backup made before a roll-over was finished brings back keys that the
directory has dropped, and every other node refuses them. And a finish that was cut off before its
statement leaves the old keys listed, good for whoever has them.

``finding`` decides, without I/O; ``look`` reads a home for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.directory import Directory, SigningKey
from tieline_client.errors import TielineError
from tieline_client.findings import Finding, State

from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.own_statement import OwnStatements


class Listed(Protocol):
    """What a directory or a statement lists of an agency."""

    @property
    def node_cas(self) -> tuple[bytes, ...]: ...
    @property
    def operator_cas(self) -> tuple[bytes, ...]: ...
    @property
    def signing_keys(self) -> tuple[SigningKey, ...]: ...


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """What a home has. Of each the present one comes first, then the next, if there is one."""

    leaf: x509.Certificate | None
    """The leaf in use; None before the first."""
    node_cas: tuple[bytes, ...]
    operator_cas: tuple[bytes, ...]
    signing_keys: tuple[str, ...]
    """Key ids; empty where the keys could not be opened, and then nothing is said of them."""

    def unlisted(self, listed: Listed, now: datetime) -> list[str]:
        """Name what the node uses and is not listed."""
        found = []
        if not self._leaf_listed(listed.node_cas):
            found.append("node CA")
        if listed.operator_cas and not set(self.operator_cas[:1]) <= set(listed.operator_cas):
            found.append("operator CA")
        in_use = {
            one.keyid for one in listed.signing_keys if one.not_after is None or now < one.not_after
        }
        if not set(self.signing_keys[:1]) <= in_use:
            found.append("signing key")
        return found

    def _leaf_listed(self, cas: Iterable[bytes]) -> bool:
        if self.leaf is None:
            return bool(set(self.node_cas) & set(cas))
        return any(issued(self.leaf, ca) for ca in cas)

    def left_over(self, listed: Listed) -> list[str]:
        """Name what others would still take and this home has no more."""
        found = []
        if set(listed.node_cas) - set(self.node_cas):
            found.append("node CA")
        if set(listed.operator_cas) - set(self.operator_cas):
            found.append("operator CA")
        in_use = {one.keyid for one in listed.signing_keys if one.not_after is None}
        if self.signing_keys and in_use - set(self.signing_keys):
            found.append("signing key")
        return found


def issued(leaf: x509.Certificate, ca: bytes) -> bool:
    """Whether a CA (DER) issued a leaf."""
    try:
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(ca))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def finding(
    own: OwnKeys,
    agency: str,
    directory: Directory,
    stated: Listed,
    home: Path,
    now: datetime,
) -> Finding | None:
    """Say how the directory and a home part, and what to do; None where they agree.

    ``stated`` is what the agency stated last, whether or not the directory holds it yet. Of an
    agency that is revoked, or whose own statement has lapsed, others say enough.
    """
    member = directory.by_agency.get(agency)
    if member is None or member.revoked or not member.node_cas:
        return None
    finish = f"stop the node and run `tieline node rekey {home} --finish`"
    unlisted = own.unlisted(member, now)
    if unlisted:
        waits = not own.unlisted(stated, now)
        refused = unlisted != ["operator CA"]  # people come to their own node alone
        return Finding(
            "keys",
            State.FAILED if refused else State.WARNING,
            f"the directory (version {directory.version}) does not list the "
            f"{' and '.join(unlisted)} in use here{', and other nodes refuse it' * refused}: "
            "this home is of before a roll-over that was finished",
            f"give {home / 'request.json'} to the authority (`tieline federation accept`)"
            if waits
            else f"{finish}, which states what is here; or restore a backup of after it",
        )
    left = own.left_over(stated)
    if left:
        return Finding(
            "keys",
            State.WARNING,
            f"the directory still lists what is no longer here: {' and '.join(left)}; "
            "a roll-over was not finished",
            finish,
        )
    return None


def look(
    home: Path,
    agency: str,
    store: DirectoryStore,
    now: datetime,
    signing: keys.PrivateKey | None = None,
) -> Finding | None:
    """Compare a home with its directory. ``signing`` is its signing key, if it is open already.

    Of an agency that is not admitted, or certificates that cannot be read, others say enough.
    """
    directory = store.current()
    if agency not in directory.by_agency:
        return None
    try:
        own = read(home / "keys", home / "certs", signing)
    except (OSError, ValueError):
        return None
    stated = OwnStatements(home, agency, store).stated()
    return finding(own, agency, directory, stated, home, now)


def read(keys_folder: Path, certs: Path, signing: keys.PrivateKey | None = None) -> OwnKeys:
    """Read what a home has."""
    leaf = certs / "node.pem"
    return OwnKeys(
        x509.load_pem_x509_certificate(leaf.read_bytes()) if leaf.exists() else None,
        _cas(certs, "node-ca"),
        _cas(certs, "operator-ca"),
        _signing_keys(keys_folder, signing),
    )


def _cas(certs: Path, name: str) -> tuple[bytes, ...]:
    present, upcoming = certs / f"{name}.pem", certs / f"{name}.next.pem"
    return tuple(
        x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)
        for path in (present, upcoming)
        if path == present or path.exists()
    )


def _signing_keys(folder: Path, signing: keys.PrivateKey | None) -> tuple[str, ...]:
    """All or none of their ids: what a command without the passphrase cannot open it passes by."""
    upcoming = folder / "signing.next.key"
    with suppress(TielineError):
        passphrase = keys.passphrase_from_environment()
        found = [signing or keys.load(folder / "signing.key", passphrase)]
        if upcoming.exists():
            found.append(keys.load(upcoming, passphrase))
        return tuple(keys.keyid(one) for one in found)
    return ()
