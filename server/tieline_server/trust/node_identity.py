"""Who this node is: its CAs, its leaf, and what its listeners present and trust."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError
from tieline_client.tls import Identity, ServerMaterial

from tieline_server.services.people import IssuedLeaf
from tieline_server.trust import files
from tieline_server.trust.authority import (
    AgencyAuthority,
    issue_node_leaf,
    issue_operator_leaf,
    load_agency_authority,
    renewal_due,
)
from tieline_server.trust.directory_store import DirectoryStore


class NodeIdentity:
    """The node's CAs and leaf; the leaf renews itself at half-life while the CA's key is here."""

    def __init__(self, keys_folder: Path, certs: Path, agency: str, federation: str) -> None:
        self._keys, self._certs = keys_folder, certs
        self.agency, self.federation = agency, federation
        passphrase = keys.passphrase_from_environment()
        self._key = keys.load(keys_folder / "node.key", passphrase)
        self.signing_key = keys.load(keys_folder / "signing.key", passphrase)
        self.audit_key = self._audit_key(passphrase)
        self.node_ca = self._authority(Kind.NODE, passphrase)
        self.operator_ca = self._authority(Kind.OPERATOR, passphrase)
        self._leaf = self._load_leaf()
        self.identity = self._identity()

    def _authority(self, kind: Kind, passphrase: bytes | None) -> AgencyAuthority:
        name = f"{kind.value}-ca"
        key = keys.load(self._keys / f"{name}.key", passphrase)
        pem = (self._certs / f"{name}.pem").read_bytes()
        return load_agency_authority(kind, self.federation, self.agency, pem, key)

    def _audit_key(self, passphrase: bytes | None) -> bytes:
        """Return the secret behind asked lists and sketches; a home of before has none yet.

        It is kept as a private key, since those have their passphrase and file modes already.
        """
        path = self._keys / "audit.key"
        if not path.exists():
            keys.save(path, keys.generate(), passphrase)
        private = keys.load(path, passphrase).private_numbers().private_value
        return hashlib.sha256(b"tieline audit key" + private.to_bytes(32, "big")).digest()

    def _load_leaf(self) -> x509.Certificate:
        path = self._certs / "node.pem"
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            raise ConfigurationError(
                f"{path} cannot be read; run `tieline node join` again"
            ) from None

    def _identity(self) -> Identity:
        return Identity(self._leaf.public_bytes(Encoding.PEM), keys.private_pem(self._key))

    @property
    def leaf_der(self) -> bytes:
        """The leaf as it is presented."""
        return self._leaf.public_bytes(Encoding.DER)

    @property
    def expires(self) -> datetime:
        """When the leaf ends."""
        return self._leaf.not_valid_after_utc

    def renew_if_due(self, now: datetime) -> bool:
        """Issue a new leaf when the present one is past its half-life."""
        if not renewal_due(self._leaf, now):
            return False
        self._leaf = issue_node_leaf(self.node_ca, self._key.public_key(), now=now)
        files.write_atomic(
            self._certs / "node.pem", self._leaf.public_bytes(Encoding.PEM), mode=0o600
        )
        self.identity = self._identity()
        return True

    def issue_operator(self, name: str, public_key: bytes, now: datetime) -> IssuedLeaf:
        """Issue a person's leaf; raise InvalidInput for a key that is no P-256 key."""
        leaf = issue_operator_leaf(self.operator_ca, name, keys.load_public(public_key), now=now)
        return IssuedLeaf(leaf.public_bytes(Encoding.DER), leaf.serial_number)


class ListenerMaterial:
    """What a listener presents and trusts; the same object until one of them changes."""

    def __init__(self, identity: NodeIdentity, cas: Callable[[], tuple[bytes, ...]]) -> None:
        self._identity, self._cas = identity, cas
        self._current = ServerMaterial(identity.identity, cas())

    def __call__(self) -> ServerMaterial:
        cas, identity = self._cas(), self._identity.identity
        if cas != self._current.caller_cas or identity is not self._current.identity:
            self._current = ServerMaterial(identity, cas)
        return self._current


class MemberCas:
    """The node CAs of all active members, once per directory."""

    def __init__(self, directory: DirectoryStore) -> None:
        self._directory = directory
        self._of: Directory | None = None
        self._cas: tuple[bytes, ...] = ()

    def __call__(self) -> tuple[bytes, ...]:
        current = self._directory.current()
        if current is not self._of:
            pinned = current.pinned_node_cas()
            self._cas = tuple(ca for agency in sorted(pinned) for ca in pinned[agency])
            self._of = current
        return self._cas
