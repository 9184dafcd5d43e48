"""Who this node is: its CAs, its leaf, and what its listeners present and trust."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError, TielineError
from tieline_client.limits import RENEWAL_RETRY
from tieline_client.tls import Identity, ServerMaterial

from tieline_server.services.people import IssuedLeaf
from tieline_server.trust import files
from tieline_server.trust.authority import issue_node_leaf, issue_operator_leaf, renewal_due
from tieline_server.trust.ca_keys import load_own_authority
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.operator_cas import OperatorCas


class NodeIdentity:
    """The node's CAs and leaf.

    The leaf renews itself at half-life where its CA's key is within reach; where it is not, a leaf
    that `tieline node renew --import` put into the home is taken up. Both need no restart:
    listeners ask for ``identity`` at every handshake (ListenerMaterial), and channels to peers are
    opened anew while calls on the old ones end in their own time (peer_pool.py).
    """

    def __init__(
        self,
        keys_folder: Path,
        certs: Path,
        agency: str,
        federation: str,
        *,
        node_ca_key: str = "",
        operator_ca_key: str = "",
    ) -> None:
        """``node_ca_key`` and ``operator_ca_key`` are PKCS#11 URIs, or "" for keys in the home."""
        self._path = certs / "node.pem"
        self.agency, self.federation = agency, federation
        passphrase = keys.passphrase_from_environment()
        self._key = keys.load(keys_folder / "node.key", passphrase)
        self.signing_key = keys.load(keys_folder / "signing.key", passphrase)
        self.audit_key = _audit_key(keys_folder / "audit.key", passphrase)
        own = partial(
            load_own_authority,
            federation=federation,
            agency=agency,
            keys_folder=keys_folder,
            certs=certs,
            passphrase=passphrase,
        )
        self.node_ca = own(Kind.NODE, uri=node_ca_key)
        # A next CA comes while the node runs: it may be under a passphrase of after the start.
        self.operator_cas = OperatorCas(
            own(Kind.OPERATOR, uri=operator_ca_key),
            certs,
            lambda: load_own_authority(
                Kind.OPERATOR,
                federation,
                agency,
                keys_folder=keys_folder,
                certs=certs,
                uri="",
                passphrase=keys.passphrase_from_environment(),
                upcoming=True,
            ),
        )
        self._stamp = self._look()
        self._leaf = self._load_leaf()
        self.identity = self._present(self._leaf)
        self.problem = ""
        """Why the leaf that is due cannot be renewed, or ""."""
        self._not_before: datetime | None = None
        """When to try again what failed."""

    def _load_leaf(self) -> x509.Certificate:
        try:
            leaf = x509.load_pem_x509_certificate(self._path.read_bytes())
        except FileNotFoundError:
            raise ConfigurationError(
                f"the node has no leaf {self._path} yet: join a federation, or, with an offline "
                "CA, have HOME/node.csr signed and run `tieline node renew HOME --import FILE`"
            ) from None
        except (OSError, ValueError):
            raise ConfigurationError(
                f"{self._path} cannot be read; run `tieline node renew HOME`"
            ) from None
        if leaf.public_key() != self._key.public_key():
            raise ConfigurationError(
                f"{self._path} certifies another key than keys/node.key; "
                "run `tieline node renew HOME`"
            )
        return leaf

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    @property
    def leaf_der(self) -> bytes:
        """The leaf as it is presented."""
        return self._leaf.public_bytes(Encoding.DER)

    @property
    def serial(self) -> int:
        """The leaf's serial number."""
        return self._leaf.serial_number

    @property
    def expires(self) -> datetime:
        """When the leaf ends."""
        return self._leaf.not_valid_after_utc

    def renew_if_due(self, now: datetime) -> bool:
        """Take up a leaf that was put into the home, or issue one past the present one's half-life.

        Returns whether the leaf is another one now. What cannot be done stands in ``problem`` and
        is tried again later; the present leaf serves on.
        """
        if self._taken_up():
            return True
        if not renewal_due(self._leaf, now) or (self._not_before and now < self._not_before):
            return False
        authority = self.node_ca.authority
        if authority is None:
            return False
        try:
            leaf = issue_node_leaf(authority, self._key.public_key(), now=now)
        except TielineError as error:
            self.problem = f"the leaf cannot be renewed: {error.message}"
            self._not_before = now + RENEWAL_RETRY
            return False
        self.problem, self._not_before = "", None
        files.write_atomic(self._path, leaf.public_bytes(Encoding.PEM), mode=0o600)
        self._stamp = self._look()
        self._leaf, self.identity = leaf, self._present(leaf)
        return True

    def _taken_up(self) -> bool:
        stamp = self._look()
        if stamp is None or stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            leaf = self._load_leaf()
        except ConfigurationError as error:
            self.problem = error.message
            return False
        self.problem = ""
        if leaf == self._leaf:
            return False
        self._leaf, self.identity = leaf, self._present(leaf)
        return True

    def _present(self, leaf: x509.Certificate) -> Identity:
        return Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(self._key))

    def issue_operator(self, name: str, public_key: bytes, now: datetime) -> IssuedLeaf:
        """Issue a person's leaf.

        Raises InvalidInput for a key that is no P-256 key, ConfigurationError where the CA's key is
        not within reach.
        """
        issuing = self.operator_cas.issuing
        authority = issuing.require(
            f"have it certify {name}, then run `tieline operator add {name} --certificate FILE`"
        )
        leaf = issue_operator_leaf(authority, name, keys.load_public(public_key), now=now)
        return IssuedLeaf(
            leaf.public_bytes(Encoding.DER),
            leaf.serial_number,
            leaf.not_valid_after_utc,
            issuing.fingerprint,
        )


def _audit_key(path: Path, passphrase: bytes | None) -> bytes:
    """Return the secret behind asked lists and sketches; a home of before has none yet.

    It is kept as a private key, since those have their passphrase and file modes already.
    """
    if not path.exists():
        keys.save(path, keys.generate(), passphrase)
    private = keys.load(path, passphrase).private_numbers().private_value
    return hashlib.sha256(b"tieline audit key" + private.to_bytes(32, "big")).digest()


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
