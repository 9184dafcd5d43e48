"""Reading X.509 certificates strictly: the steps of certificates.py that leaf and CA share.

No I/O, no time: what is decided here stays true for the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tieline_client.certificate_errors import (
    CertificateAuthority,
    CertificateMalformed,
    CertificateWeak,
)
from tieline_client.limits import CERTIFICATE_BYTES

E = TypeVar("E", bound=x509.ExtensionType)

_STRONG_CURVES = (ec.SECP256R1, ec.SECP384R1)
_RSA_BITS_LEAST, _RSA_BITS_MOST = 3072, 8192
_STRONG_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNPARSED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_LOOKED_AT = frozenset(
    extension.oid
    for extension in (
        x509.BasicConstraints,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.SubjectAlternativeName,
        x509.SubjectKeyIdentifier,
        x509.AuthorityKeyIdentifier,
    )
)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA certificate that passed check 5 of certificates.py but for the time."""

    certificate: x509.Certificate
    key_identifier: bytes
    digest: bytes


def parse_certificate(der: bytes) -> x509.Certificate:
    """Check 0: return the certificate; raise CertificateMalformed."""
    if len(der) > CERTIFICATE_BYTES:
        raise CertificateMalformed(f"a certificate of {len(der)} bytes is over {CERTIFICATE_BYTES}")
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = list(certificate.extensions)
        version, serial = certificate.version, certificate.serial_number
        _read_all(certificate)
    except _UNPARSED as error:
        raise CertificateMalformed(
            f"a certificate does not parse ({type(error).__name__}); issue a new one"
        ) from None
    if version is not x509.Version.v3 or serial <= 0:
        raise CertificateMalformed("a certificate is not X.509 v3 with a positive serial number")
    for extension in extensions:
        if extension.critical and extension.oid not in _LOOKED_AT:
            raise CertificateMalformed(
                f"a certificate has the critical extension {extension.oid.dotted_string}, which"
                " Tieline does not process; issue one without it"
            )
    return certificate


def _read_all(certificate: x509.Certificate) -> None:
    """Touch every part that is used later, since the library parses some only when asked."""
    certificate.public_key()
    certificate.subject.rfc4514_string()
    certificate.issuer.rfc4514_string()
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    _ = certificate.signature_algorithm_oid, certificate.signature


@lru_cache(maxsize=1024)
def load_authority(der: bytes) -> Authority:
    """Check 5 without the time: parse a pinned CA's certificate, once.

    Raises CertificateMalformed, CertificateWeak, or CertificateAuthority when it is not a CA that
    may sign certificates, or has no subject key identifier.
    """
    certificate = parse_certificate(der)
    constraints = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    identifier = extension(certificate, x509.SubjectKeyIdentifier)
    if constraints is None or not constraints.ca or usage is None or not usage.key_cert_sign:
        raise CertificateAuthority(
            f"{subject(certificate)} is not a CA: basicConstraints CA:TRUE and keyUsage keyCertSign"
            " are needed"
        )
    if identifier is None or not identifier.digest:
        raise CertificateAuthority(
            f"{subject(certificate)} has no subject key identifier; issue the CA's certificate"
            " again with one"
        )
    check_strength(certificate)
    return Authority(certificate, identifier.digest, hashlib.sha256(der).digest())


def check_strength(certificate: x509.Certificate) -> None:
    """Check 3; raise CertificateWeak."""
    key = certificate.public_key()
    strong = (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, _STRONG_CURVES)
    ) or (isinstance(key, rsa.RSAPublicKey) and _RSA_BITS_LEAST <= key.key_size <= _RSA_BITS_MOST)
    if not strong:
        raise CertificateWeak(
            f"the key of {subject(certificate)} is not ECDSA P-256 or P-384, or RSA of"
            f" {_RSA_BITS_LEAST} to {_RSA_BITS_MOST} bits; issue a certificate for such a key"
        )
    try:
        digest = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        digest = None
    if not isinstance(digest, _STRONG_HASHES):
        raise CertificateWeak(
            f"{subject(certificate)} is not signed with SHA-256, SHA-384 or SHA-512; issue it again"
        )


def extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def subject(certificate: x509.Certificate) -> str:
    """Name a certificate in a message: its subject, cut short, quoted for logs and terminals."""
    return repr(certificate.subject.rfc4514_string()[:120])
