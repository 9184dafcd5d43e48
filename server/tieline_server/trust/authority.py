"""An agency's two CAs and the leaves they issue.

The node CA vouches for the agency's node, the operator CA for its people; they share no key, so
that neither can stand in for the other. Both are self-signed, sign leaves only (pathlen 0), and
carry the subject key identifier without which a look-alike CA would break handshakes. Every
subject holds a piece of its key's identifier, so that a CA's successor has another name.

A leaf names its holder in its subject alternative names and nowhere else; roles are the node's own
record, never the certificate's. Leaves start 25 hours in the past, which is the clock tolerance,
and never outlive their CA.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tieline_client import keys
from tieline_client.certificate_errors import CertificateAuthority
from tieline_client.certificate_parts import load_authority, subject
from tieline_client.certificates import Kind
from tieline_client.errors import ConfigurationError
from tieline_client.identifiers import (
    SpiffeId,
    check_agency,
    check_federation,
    check_operator,
    dns_name,
)
from tieline_client.limits import (
    AUTHORITY_LIFE,
    CLOCK_TOLERANCE,
    NODE_LEAF_LIFE,
    OPERATOR_LEAF_LIFE,
)

LeafKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
"""What a leaf may certify: our own P-256 keys, or those of an existing PKI."""

_SUBJECT_KEY_DIGITS = 16
_ORGANIZATION = "Tieline"


@dataclass(frozen=True, slots=True)
class AgencyAuthority:
    """One CA of an agency together with its private key."""

    kind: Kind
    federation: str
    agency: str
    certificate: x509.Certificate
    key: keys.PrivateKey

    @property
    def der(self) -> bytes:
        """The CA's certificate as the directory pins it."""
        return self.certificate.public_bytes(Encoding.DER)


def create_authority(
    kind: Kind, federation: str, agency: str, key: keys.PrivateKey, *, now: datetime
) -> AgencyAuthority:
    """Make a CA and join it with its key and federation.

    Raises InvalidInput for names that are not those of a federation and an agency.
    """
    certificate = authority_certificate(kind, agency, key, now=now)
    return AgencyAuthority(kind, check_federation(federation), agency, certificate, key)


def authority_certificate(
    kind: Kind, agency: str, key: keys.PrivateKey, *, now: datetime
) -> x509.Certificate:
    """Make a self-signed CA (ECDSA P-256, ten years) for the nodes or the people of one agency.

    It names no federation: an agency makes its CAs before it joins one. Raises InvalidInput for a
    name that is no agency's.
    """
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, check_agency(agency)),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{agency} {kind.value} CA"),
            x509.NameAttribute(
                NameOID.SERIAL_NUMBER, identifier.digest.hex()[:_SUBJECT_KEY_DIGITS]
            ),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def load_agency_authority(
    kind: Kind, federation: str, agency: str, pem: bytes, key: keys.PrivateKey
) -> AgencyAuthority:
    """Join a CA's certificate (PEM) with its key: our own, or an existing PKI's issuing CA.

    Raises ConfigurationError when it is no PEM certificate or the key is another's, and the
    TrustError of ``load_authority`` when it is not usable as a CA.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigurationError(f"the {kind.value} CA of {agency} is no PEM certificate") from None
    load_authority(certificate.public_bytes(Encoding.DER))
    if certificate.public_key() != key.public_key():
        raise ConfigurationError(
            f"the key of the {kind.value} CA of {agency} does not belong to its certificate;"
            " restore the pair"
        )
    return AgencyAuthority(kind, federation, agency, certificate, key)


def issue_node_leaf(
    authority: AgencyAuthority,
    public_key: LeafKey,
    *,
    now: datetime,
    life: timedelta = NODE_LEAF_LIFE,
) -> x509.Certificate:
    """Issue a node's leaf: both SANs, serverAuth and clientAuth, from now - 25 h to now + life.

    Raises CertificateAuthority when the CA is not valid now, ConfigurationError when it is an
    operator CA.
    """
    _require(authority, Kind.NODE)
    spiffe = SpiffeId(authority.federation, authority.agency)
    return _issue(
        authority,
        public_key,
        names=[
            x509.UniformResourceIdentifier(str(spiffe)),
            x509.DNSName(dns_name(authority.agency, authority.federation)),
        ],
        usages=[ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        common_name=f"{authority.agency} node",
        now=now,
        life=life,
    )


def issue_operator_leaf(
    authority: AgencyAuthority,
    name: str,
    public_key: LeafKey,
    *,
    now: datetime,
    life: timedelta = OPERATOR_LEAF_LIFE,
) -> x509.Certificate:
    """Issue a person's leaf: one URI SAN with their name, clientAuth only.

    Raises InvalidInput for a name that is none, and as issue_node_leaf.
    """
    _require(authority, Kind.OPERATOR)
    spiffe = SpiffeId(authority.federation, authority.agency, check_operator(name))
    return _issue(
        authority,
        public_key,
        names=[x509.UniformResourceIdentifier(str(spiffe))],
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
        common_name=name,
        now=now,
        life=life,
    )


def renewal_due(leaf: x509.Certificate, now: datetime) -> bool:
    """Whether a leaf is past the half of the life it was issued for (the 25 hours not counted)."""
    issued = leaf.not_valid_before_utc + CLOCK_TOLERANCE
    return now >= issued + (leaf.not_valid_after_utc - issued) / 2


def _issue(
    authority: AgencyAuthority,
    public_key: LeafKey,
    *,
    names: list[x509.GeneralName],
    usages: list[x509.ObjectIdentifier],
    common_name: str,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    ca = authority.certificate
    if not ca.not_valid_before_utc <= now < ca.not_valid_after_utc:
        raise CertificateAuthority(
            f"{subject(ca)} is not valid now and can issue nothing; check the clock"
        )
    identifier = load_authority(authority.der).key_identifier
    name = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, authority.federation),
        x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, authority.agency),
        x509.NameAttribute(NameOID.COMMON_NAME, common_name),
    ]
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(name))
        .issuer_name(ca.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_TOLERANCE)
        .not_valid_after(min(now + life, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(leaf_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(identifier, None, None), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    try:
        leaf.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        # A token is not opened before it signs, so here is where another's key shows.
        raise ConfigurationError(
            f"the key of {subject(ca)} does not belong to its certificate; restore the pair"
        ) from None
    return leaf


def leaf_key_usage() -> x509.KeyUsage:
    """What a leaf's key is for: signing handshakes."""
    return _key_usage(digital_signature=True)


def _require(authority: AgencyAuthority, kind: Kind) -> None:
    if authority.kind is not kind:
        raise ConfigurationError(
            f"a {kind.value}'s certificate is issued by the {kind.value} CA, not by"
            f" {subject(authority.certificate)}"
        )


def _key_usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
