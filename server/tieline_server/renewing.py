"""`tieline node renew`: the next leaf, from the CA where its key is within reach, else by hand.

The node that serves takes up what is written here within seconds (trust/node_identity.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.directory import Directory

from tieline_server.config import Home, NodeConfig
from tieline_server.trust import files
from tieline_server.trust.authority import issue_node_leaf
from tieline_server.trust.ca_keys import OwnAuthority
from tieline_server.trust.certificate_requests import node_request
from tieline_server.trust.leaf_import import check_node_leaf, read_certificate


@dataclass(frozen=True, slots=True)
class Renewed:
    """``request`` is the file to have signed, where the CA's key is elsewhere; else the leaf's
    serial number and end are given."""

    request: Path | None = None
    serial: int = 0
    expires: datetime | None = None


def renew(
    home: Home,
    config: NodeConfig,
    directory: Directory,
    node_ca: OwnAuthority,
    passphrase: bytes | None,
    now: datetime,
) -> Renewed:
    """Issue a new leaf, or write the request for one; raise ConfigurationError or TrustError."""
    key = keys.load(home.keys / "node.key", passphrase)
    if node_ca.authority is None:
        pem = node_request(key, directory.federation, config.agency)
        files.write_atomic(home.node_request, pem, mode=0o600)
        return Renewed(request=home.node_request)
    leaf = issue_node_leaf(node_ca.authority, key.public_key(), now=now)
    files.write_atomic(home.node_leaf, leaf.public_bytes(Encoding.PEM), mode=0o600)
    return Renewed(serial=leaf.serial_number, expires=leaf.not_valid_after_utc)


def import_leaf(
    home: Home,
    config: NodeConfig,
    directory: Directory,
    file: Path,
    passphrase: bytes | None,
    now: datetime,
) -> Renewed:
    """Take a leaf that was issued elsewhere; raise ImportRefused with the check that failed, after
    which the present leaf stands as it was."""
    key = keys.load(home.keys / "node.key", passphrase)
    der = read_certificate(file)
    checked = check_node_leaf(
        der, config.agency, directory, key.public_key(), lambda: now, str(file)
    )
    pem = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    files.write_atomic(home.node_leaf, pem, mode=0o600)
    home.node_request.unlink(missing_ok=True)
    return Renewed(serial=checked.serial, expires=checked.not_after.astimezone(UTC))
