"""Taking a certificate that was issued elsewhere: an offline CA, an existing PKI.

It goes through the same numbered checks (certificates.py) as every peer will apply to it, and two
more, in this order:

A. It is one certificate, PEM or DER, without a chain.
B. The checks 0 to 8 under the CAs that the directory pins to this agency: of a node's leaf both as
   caller and as server, of a person's as caller.
C. It certifies the key that is here.

Nothing is replaced unless all of them hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from tieline_client import keys, tls
from tieline_client.certificate_errors import CertificateIssuer
from tieline_client.certificate_parts import parse_certificate
from tieline_client.certificates import IsRevoked, Kind, LeafIdentity, Purpose, check_leaf
from tieline_client.directory import Directory
from tieline_client.errors import ConfigurationError, RefusedError, TrustError
from tieline_client.limits import CERTIFICATE_BYTES

from tieline_server.domain.ports import Clock
from tieline_server.trust.directory_status import revoked_words

_PURPOSES = {Kind.NODE: (Purpose.CALLER, Purpose.SERVER), Kind.OPERATOR: (Purpose.CALLER,)}


class ImportRefused(RefusedError):
    """A certificate that peers would refuse; nothing was replaced."""


def read_certificate(path: Path) -> bytes:
    """Check A: return DER; raise ImportRefused."""
    try:
        with path.open("rb") as file:
            data = file.read(2 * CERTIFICATE_BYTES)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if data[:1] == b"\x30":
        return data
    try:
        return tls.to_der(data)
    except TrustError as error:
        raise ImportRefused(f"{path} is refused: {error.message}") from None


def check_node_leaf(
    der: bytes, agency: str, directory: Directory, key: keys.PublicKey, clock: Clock, what: str
) -> LeafIdentity:
    """Checks B and C on a node's leaf; raise ImportRefused that names the check which failed."""
    cas = directory.member(agency).node_cas
    if revoked := revoked_words(directory, agency):  # check 8 would blame the certificate
        raise ImportRefused(f"{what} is refused: {revoked}")
    checked = _check(
        der, Kind.NODE, directory.federation, agency, cas, directory.is_revoked, clock, what
    )
    _check_key(der, key, what)
    return checked


def check_operator_leaf(
    der: bytes,
    name: str,
    *,
    agency: str,
    federation: str,
    cas: Sequence[bytes],
    is_revoked: IsRevoked,
    clock: Clock,
    key: keys.PublicKey | None = None,
    what: str = "the certificate",
) -> LeafIdentity:
    """Checks B and C on a person's certificate, which must be that of ``name``."""
    checked = _check(der, Kind.OPERATOR, federation, agency, cas, is_revoked, clock, what)
    if checked.spiffe.operator != name:
        raise ImportRefused(
            f"{what} is refused: it is that of {checked.spiffe.operator}, not of {name}"
        )
    if key is not None:
        _check_key(der, key, what)
    return checked


def issued_by(der: bytes, ca: bytes) -> bool:
    """Whether this CA signed a certificate that passed its checks (both DER)."""
    try:
        parse_certificate(der).verify_directly_issued_by(parse_certificate(ca))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _check(
    der: bytes,
    kind: Kind,
    federation: str,
    agency: str,
    cas: Sequence[bytes],
    is_revoked: IsRevoked,
    clock: Clock,
    what: str,
) -> LeafIdentity:
    """Check B."""
    if not cas:
        raise CertificateIssuer(f"no {kind.value} CA of {agency} is known")
    try:
        *_, checked = (
            check_leaf(
                der,
                federation=federation,
                kind=kind,
                purpose=purpose,
                pinned={agency: cas},
                is_revoked=is_revoked,
                now=clock(),
                agency=agency,
            )
            for purpose in _PURPOSES[kind]
        )
    except TrustError as error:
        raise ImportRefused(
            f"{what} is refused, as every peer would ({error.reason}): {error.message}",
            check=error.reason,
        ) from None
    return checked


def _check_key(der: bytes, key: keys.PublicKey, what: str) -> None:
    """Check C."""
    if x509.load_der_x509_certificate(der).public_key() != key:
        raise ImportRefused(
            f"{what} is refused: it certifies another key than the one here; have the request of "
            "`tieline node renew` signed"
        )
