"""What the federation checks on a CA before the directory pins it.

A CA that is admitted stands among the roots of every node's federation port, so one look-alike
harms others: with the subject of another member's CA, listed first, it breaks that member's
handshakes where key identifiers are missing (measured). The checks, in order:

1. It parses strictly and is a CA with a strong key, a SHA-2 signature and a subject key identifier
   (checks 0, 3 and 5 of certificates.py); if it restricts extended key usage, both serverAuth and
   clientAuth of a node, or clientAuth of a person, remain.
2. It is valid now, and for at least as long as one node leaf lives.
3. Its subject, its key and its key identifier are no other CA's: not another member's, and not the
   same agency's other CA's.
4. What an existing PKI's issuing CA means is said: that it is not self-signed, that it may sign
   CAs below it, that its leaves must carry the authority key identifier.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID
from tieline_client.certificate_errors import CertificateAuthority
from tieline_client.certificate_parts import extension, load_authority, subject
from tieline_client.certificates import Kind
from tieline_client.limits import NODE_LEAF_LIFE

_NEEDED_USAGES = {
    Kind.NODE: {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
    Kind.OPERATOR: {ExtendedKeyUsageOID.CLIENT_AUTH},
}


@dataclass(frozen=True, slots=True)
class OfferedAuthority:
    """A CA that may be pinned. ``remarks`` are sentences for the person who admits it."""

    subject: str
    digest: bytes
    not_after: datetime
    remarks: tuple[str, ...]


def check_offered_authority(
    der: bytes, *, kind: Kind, others: Iterable[tuple[str, bytes]], now: datetime
) -> OfferedAuthority:
    """Run the checks 1 to 4 on a CA (DER) that a request offers.

    ``others`` are (agency, DER) of every CA pinned or offered besides this one: all members' node
    and operator CAs, and the request's own other CAs. A member that offers a CA it has already
    leaves that one out. Raises the TrustError of the first check that fails.
    """
    # 1
    offered = load_authority(der)
    certificate = offered.certificate
    usages = extension(certificate, x509.ExtendedKeyUsage)
    if usages is not None and not set(usages) >= _NEEDED_USAGES[kind]:
        raise CertificateAuthority(
            f"{subject(certificate)} may not issue what a {kind.value} needs: its extended key"
            " usage is too narrow"
        )
    # 2
    if (
        not certificate.not_valid_before_utc
        <= now
        <= certificate.not_valid_after_utc - NODE_LEAF_LIFE
    ):
        raise CertificateAuthority(
            f"{subject(certificate)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d} to"
            f" {certificate.not_valid_after_utc:%Y-%m-%d}: not now, or for less than a node's leaf"
            " lives; offer its successor"
        )
    # 3
    for agency, other_der in others:
        other = load_authority(other_der)
        if other.certificate.subject == certificate.subject:
            taken = "subject"
        elif _public(other.certificate) == _public(certificate):
            taken = "key"
        elif other.key_identifier == offered.key_identifier:
            taken = "subject key identifier"
        else:
            continue
        raise CertificateAuthority(
            f"{subject(certificate)} has the {taken} of a CA of {agency}; every CA needs its own"
        )
    # 4
    return OfferedAuthority(
        subject=certificate.subject.rfc4514_string(),
        digest=offered.digest,
        not_after=certificate.not_valid_after_utc,
        remarks=_remarks(certificate),
    )


def _remarks(certificate: x509.Certificate) -> tuple[str, ...]:
    remarks = []
    if certificate.issuer != certificate.subject:
        remarks.append(
            f"an existing PKI's issuing CA, under {certificate.issuer.rfc4514_string()!r}: only"
            " what it signs itself counts, whatever stands above it"
        )
        remarks.append("its leaves must carry an authority key identifier, else they are refused")
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.path_length != 0:
        remarks.append("it may sign CAs below it; their leaves are refused by every node")
    return tuple(remarks)


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
