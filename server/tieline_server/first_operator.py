"""The first operator's profile: made at `node join`, with all four roles.

Where the operator CA's key is elsewhere, the first join leaves a key and a request in
``HOME/operators``; a second one, with the certificate, makes the profile of both.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError, UsageError
from tieline_client.identifiers import dns_name
from tieline_client.profile import Profile

from tieline_server.config import Home, NodeConfig
from tieline_server.domain.ports import Operator, Store, Tx
from tieline_server.services.people import ROLES
from tieline_server.storage.engine import open_store
from tieline_server.trust import files
from tieline_server.trust.authority import issue_operator_leaf
from tieline_server.trust.ca_keys import OwnAuthority
from tieline_server.trust.certificate_requests import operator_request
from tieline_server.trust.leaf_import import check_operator_leaf, read_certificate


class FirstOperator:
    """One home's first operator."""

    def __init__(
        self,
        home: Home,
        config: NodeConfig,
        directory: Directory,
        authority: OwnAuthority,
        passphrase: bytes | None,
        now: datetime,
    ) -> None:
        self._home, self._config, self._directory = home, config, directory
        self._authority, self._passphrase, self._now = authority, passphrase, now
        self._name = config.first_operator
        self.path = home.operators / f"{self._name}.json"
        self.request = home.operators / f"{self._name}.csr"
        self._key_file = home.operators / f"{self._name}.key"

    def make(self, certificate: Path | None) -> Path | None:
        """Write the profile and return its path; None when it exists, or its CA signs elsewhere."""
        if certificate is not None:
            return self._of(certificate)
        if self.path.exists():
            return None
        if self._authority.authority is None:
            self._ask()
            return None
        key = keys.generate()
        leaf = issue_operator_leaf(
            self._authority.authority, self._name, key.public_key(), now=self._now
        )
        return self._write(leaf, key)

    def _ask(self) -> None:
        """Leave a request, with the same key each time."""
        if not self._key_file.exists():
            keys.save(self._key_file, keys.generate(), self._passphrase)
        key = keys.load(self._key_file, self._passphrase)
        pem = operator_request(key, self._directory.federation, self._config.agency, self._name)
        files.write_atomic(self.request, pem, mode=0o600)

    def _of(self, certificate: Path) -> Path:
        if self.path.exists():
            raise UsageError(
                f"{self._name} has a profile, {self.path}; give a new certificate with "
                f"`tieline operator add {self._name} --certificate FILE`, or move it away first"
            )
        if not self._key_file.exists():
            raise UsageError(
                "no request for a first operator's certificate was made here; "
                "run `tieline node join` without --operator-certificate first"
            )
        key = keys.load(self._key_file, self._passphrase)
        der = read_certificate(certificate)
        check_operator_leaf(
            der,
            self._name,
            agency=self._config.agency,
            federation=self._directory.federation,
            cas=(self._authority.der,),
            is_revoked=self._directory.is_revoked,
            clock=lambda: self._now,
            key=key.public_key(),
            what=str(certificate),
        )
        made = self._write(x509.load_der_x509_certificate(der), key)
        self._key_file.unlink()
        self.request.unlink(missing_ok=True)
        return made

    def _write(self, leaf: x509.Certificate, key: keys.PrivateKey) -> Path:
        store = open_store(self._home.database_url(self._config), clock=lambda: self._now)
        try:
            _put_operator(store, self._name, leaf, self._now, self._authority.fingerprint)
        finally:
            store.close()
        try:
            node_ca = "".join(
                path.read_text()
                for name in ("node-ca.pem", "node-ca.next.pem")
                if (path := self._home.certs / name).exists() or name == "node-ca.pem"
            )
        except OSError as error:
            raise ConfigurationError(f"the node CA cannot be read: {error.strerror}") from None
        Profile(
            agency=self._config.agency,
            federation=self._directory.federation,
            operator=self._name,
            address=self._config.operator_listen,
            target_name=dns_name(self._config.agency, self._directory.federation),
            node_ca=node_ca,
            certificate=leaf.public_bytes(Encoding.PEM).decode(),
            key=keys.to_pem(key, self._passphrase).decode(),
        ).save(self.path)
        return self.path


def _put_operator(
    store: Store, name: str, leaf: x509.Certificate, now: datetime, issuer: str
) -> None:
    def work(tx: Tx) -> None:
        known = tx.operators.get(name)
        tx.operators.put(
            Operator(
                name,
                ROLES,
                (leaf.serial_number,),
                known.created if known else now,
                expires=leaf.not_valid_after_utc,
                issuer=issuer,
            )
        )

    store.write(work)
