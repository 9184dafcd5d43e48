"""The numbered checks on a leaf, used by both sides of every connection.

gRPC's handshake is not enough: by itself it accepts a leaf without extended key usage, with a CN
alone, with two identities, that is a CA, with RSA-1024, or minted by a CA:TRUE leaf (measured).
The server repeats these checks on the caller's leaf on every call (LeafCache makes the repeat a
dictionary lookup), the client on the leaf that the server's signed Hello names.

 0. The bytes are one DER X.509 v3 certificate (RFC 5280) inside the cap, with a positive serial,
    no extension twice, and no critical extension that these checks do not look at.
 1. The subject alternative names are exactly one SPIFFE ID and, for a node, exactly one DNS name;
    nothing else stands among them.
 2. The SPIFFE ID is of this federation, of the kind asked for (node or operator) and, where the
    caller expects one agency, of that agency; a node's DNS name is the one that follows from it.
 3. Its key is strong (P-256, P-384, RSA of 3072 bits or more) and its signature's hash is SHA-2.
 4. The agency has CAs pinned in the directory; the leaf's issuer and authority key identifier are
    subject and subject key identifier of one of them, and that CA's key made its signature. There
    is no chain: what a leaf or another agency's CA signed is refused here.
 5. That CA is a CA: basicConstraints and keyCertSign, a strong key, inside its own validity.
 6. The leaf is none: CA:FALSE is present, keyUsage has digitalSignature and no keyCertSign, and
    extendedKeyUsage is present, holds the purpose (clientAuth of a caller, serverAuth of a server)
    and nothing but those two; a person's is clientAuth alone.
 7. Now lies inside its validity, both ends included. The 25 hours of clock tolerance are in the
    leaf itself (it starts 25 hours in the past and is renewed days before its end), so there is no
    slack here: TLS grants none either.
 8. Its serial number is not revoked.

No I/O; the time is an argument. Each refusal is a class of its own with a ``reason``.
"""

from __future__ import annotations

import enum
import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from tieline_client.certificate_errors import (
    CertificateAgency,
    CertificateAuthority,
    CertificateExpired,
    CertificateFederation,
    CertificateIssuer,
    CertificateKind,
    CertificateName,
    CertificateNotYetValid,
    CertificateRevoked,
    CertificateUsage,
)
from tieline_client.certificate_parts import (
    check_strength,
    extension,
    load_authority,
    parse_certificate,
    subject,
)
from tieline_client.errors import InvalidInput, TrustError
from tieline_client.identifiers import SpiffeId, dns_name
from tieline_client.limits import LEAF_CACHE_ENTRIES


class Kind(enum.Enum):
    """Whose certificate: which SPIFFE ID form, which CAs."""

    NODE = "node"
    OPERATOR = "operator"


class Purpose(enum.Enum):
    """What the certificate is used for on this connection."""

    CALLER = "caller"
    SERVER = "server"


_NEEDED_USAGE = {
    Purpose.CALLER: ExtendedKeyUsageOID.CLIENT_AUTH,
    Purpose.SERVER: ExtendedKeyUsageOID.SERVER_AUTH,
}
_ALLOWED_USAGES = {
    Kind.NODE: {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH},
    Kind.OPERATOR: {ExtendedKeyUsageOID.CLIENT_AUTH},
}

Pinned = Mapping[str, Sequence[bytes]]
"""Agency id to the DER certificates of its CAs of the kind in question."""

IsRevoked = Callable[[str, int], bool]
"""(agency, serial number) to whether the directory revokes it."""


@dataclass(frozen=True, slots=True)
class LeafIdentity:
    """Who a leaf is, once every check held. Times are UTC, ``digest`` is SHA-256 of the DER."""

    spiffe: SpiffeId
    serial: int
    not_before: datetime
    not_after: datetime
    authority_not_before: datetime
    authority_not_after: datetime
    digest: bytes

    @property
    def agency(self) -> str:
        """The agency whose CA vouches for this leaf."""
        return self.spiffe.agency

    def covers(self, now: datetime) -> bool:
        """Whether leaf and CA are both inside their validity (checks 5 and 7)."""
        return (
            self.not_before <= now <= self.not_after
            and self.authority_not_before <= now <= self.authority_not_after
        )


def check_leaf(
    der: bytes,
    *,
    federation: str,
    kind: Kind,
    purpose: Purpose,
    pinned: Pinned,
    is_revoked: IsRevoked,
    now: datetime,
    agency: str | None = None,
) -> LeafIdentity:
    """Run the checks 0 to 8 on a leaf and return who it is.

    ``pinned`` holds the node CAs for Kind.NODE, the operator CAs for Kind.OPERATOR. ``agency`` is
    the one agency expected, or None for any. Raises the TrustError of the first check that fails.
    """
    certificate = parse_certificate(der)  # 0
    spiffe = _check_names(certificate, kind)  # 1
    _check_identity(certificate, spiffe, federation, kind, agency)  # 2
    check_strength(certificate)  # 3
    issuer = _find_issuer(certificate, spiffe.agency, pinned)  # 4, 5 but for the time
    _check_authority_time(issuer.not_valid_before_utc, issuer.not_valid_after_utc, now)  # 5
    _check_usage(certificate, kind, purpose)  # 6
    identity = LeafIdentity(
        spiffe=spiffe,
        serial=certificate.serial_number,
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        authority_not_before=issuer.not_valid_before_utc,
        authority_not_after=issuer.not_valid_after_utc,
        digest=hashlib.sha256(der).digest(),
    )
    _check_now(identity, is_revoked, now)  # 7, 8
    return identity


class LeafCache:
    """Remembers the leaves that passed, so that a repeat costs a digest and a lookup.

    The key is the leaf's digest with all that the answer depends on besides the time: the
    directory's version, kind and purpose. Time and revocation (5, 7, 8) are looked at on every
    call. Refusals are not remembered. Safe to share between threads.
    """

    def __init__(self, federation: str, entries: int = LEAF_CACHE_ENTRIES) -> None:
        self._federation = federation
        self._entries = entries
        self._known: dict[tuple[bytes, int, Kind, Purpose], LeafIdentity] = {}
        self._lock = threading.Lock()

    def check(
        self,
        der: bytes,
        *,
        version: int,
        kind: Kind,
        purpose: Purpose,
        pinned: Pinned,
        is_revoked: IsRevoked,
        now: datetime,
        agency: str | None = None,
    ) -> LeafIdentity:
        """As check_leaf; ``version`` is that of the directory that ``pinned`` was taken from."""
        key = (hashlib.sha256(der).digest(), version, kind, purpose)
        known = self._known.get(key)
        if known is not None:
            _check_agency(known.spiffe, agency)
            _check_authority_time(known.authority_not_before, known.authority_not_after, now)
            _check_now(known, is_revoked, now)
            return known
        identity = check_leaf(
            der,
            federation=self._federation,
            kind=kind,
            purpose=purpose,
            pinned=pinned,
            is_revoked=is_revoked,
            now=now,
            agency=agency,
        )
        with self._lock:
            while len(self._known) >= self._entries:
                del self._known[next(iter(self._known))]
            self._known[key] = identity
        return identity


def _check_names(certificate: x509.Certificate, kind: Kind) -> SpiffeId:
    """Check 1."""
    names = extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        raise CertificateName(
            f"{subject(certificate)} has no subject alternative name; a CN names nobody here"
        )
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    dns = names.get_values_for_type(x509.DNSName)
    if len(uris) != 1 or len(dns) + len(uris) != len(names):
        raise CertificateName(
            f"{subject(certificate)} needs exactly one URI name and none but DNS names beside it"
        )
    try:
        spiffe = SpiffeId.parse(uris[0])
    except InvalidInput as error:
        raise CertificateName(error.message) from None
    wanted = 1 if kind is Kind.NODE else 0
    # An operator's certificate where a node's is needed is told as that (2), not as a missing name.
    if (spiffe.operator is None) == (kind is Kind.NODE) and len(dns) != wanted:
        raise CertificateName(f"{spiffe} has {len(dns)} DNS names; a {kind.value} has {wanted}")
    return spiffe


def _check_identity(
    certificate: x509.Certificate,
    spiffe: SpiffeId,
    federation: str,
    kind: Kind,
    agency: str | None,
) -> None:
    """Check 2."""
    if spiffe.federation != federation:
        raise CertificateFederation(f"{spiffe} is not of the federation {federation}")
    if (spiffe.operator is None) != (kind is Kind.NODE):
        raise CertificateKind(
            f"{spiffe} does not name {'a node' if kind is Kind.NODE else 'a person'}"
        )
    _check_agency(spiffe, agency)
    names = extension(certificate, x509.SubjectAlternativeName)
    dns = names.get_values_for_type(x509.DNSName) if names is not None else []
    if kind is Kind.NODE and dns != [dns_name(spiffe.agency, federation)]:
        raise CertificateName(
            f"the DNS name of {spiffe} is not {dns_name(spiffe.agency, federation)}"
        )


def _check_agency(spiffe: SpiffeId, agency: str | None) -> None:
    if agency is not None and spiffe.agency != agency:
        raise CertificateAgency(f"{spiffe} is not {agency}, which was expected; check the address")


def _find_issuer(certificate: x509.Certificate, agency: str, pinned: Pinned) -> x509.Certificate:
    """Check 4, and 5 without the time."""
    candidates = pinned.get(agency, ())
    if not candidates:
        raise CertificateAgency(
            f"the directory lists no CA of {agency}; it is no member, or the directory is old"
        )
    unusable: TrustError | None = None
    identifier = extension(certificate, x509.AuthorityKeyIdentifier)
    if identifier is not None and identifier.key_identifier:
        for der in candidates:
            try:
                authority = load_authority(der)
            except TrustError as error:
                unusable = error
                continue
            if authority.key_identifier != identifier.key_identifier:
                continue
            try:
                certificate.verify_directly_issued_by(authority.certificate)
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                continue
            return authority.certificate
    if unusable is not None:
        raise unusable
    raise CertificateIssuer(
        f"{subject(certificate)} is not issued by a CA that the directory pins to {agency}"
    )


def _check_authority_time(not_before: datetime, not_after: datetime, now: datetime) -> None:
    """Check 5, the time."""
    if now < not_before:
        raise CertificateAuthority(
            f"the issuing CA starts at {not_before:%Y-%m-%dT%H:%MZ}; compare the clocks of both"
            " nodes"
        )
    if now > not_after:
        raise CertificateAuthority(
            f"the issuing CA ended at {not_after:%Y-%m-%dT%H:%MZ}; its agency must publish a new"
            " one"
        )


def _check_usage(certificate: x509.Certificate, kind: Kind, purpose: Purpose) -> None:
    """Check 6."""
    constraints = extension(certificate, x509.BasicConstraints)
    if constraints is None or constraints.ca:
        raise CertificateUsage(f"{subject(certificate)} does not say CA:FALSE; issue it as a leaf")
    usage = extension(certificate, x509.KeyUsage)
    if usage is None or not usage.digital_signature or usage.key_cert_sign:
        raise CertificateUsage(
            f"{subject(certificate)} needs keyUsage digitalSignature and must not have keyCertSign"
        )
    extended = extension(certificate, x509.ExtendedKeyUsage)
    usages = set(extended) if extended is not None else set()
    if _NEEDED_USAGE[purpose] not in usages or usages - _ALLOWED_USAGES[kind]:
        needed = "clientAuth" if purpose is Purpose.CALLER else "serverAuth"
        raise CertificateUsage(
            f"the extended key usage of {subject(certificate)} lacks {needed} or allows more than a"
            f" {kind.value} needs"
        )


def _check_now(identity: LeafIdentity, is_revoked: IsRevoked, now: datetime) -> None:
    """Checks 7 and 8."""
    if now < identity.not_before:
        raise CertificateNotYetValid(
            f"the certificate of {identity.spiffe} starts at {identity.not_before:%Y-%m-%dT%H:%MZ};"
            " compare the clocks of both nodes"
        )
    if now > identity.not_after:
        raise CertificateExpired(
            f"the certificate of {identity.spiffe} ended at {identity.not_after:%Y-%m-%dT%H:%MZ};"
            " restart that node, which renews it"
        )
    if is_revoked(identity.agency, identity.serial):
        raise CertificateRevoked(
            f"certificate {identity.serial:x} of {identity.spiffe} is revoked; its agency must"
            " issue a new one"
        )
