"""Makes certificates that are honest but for what a test overrides.

``make_world`` makes the CAs of three agencies; a test with nodes of its own builds a ``World`` from
theirs. ``cryptography`` refuses to write some of what a cheat would; ``signed_with_sha1`` goes
below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from asn1crypto import algos
from asn1crypto import x509 as asn1_x509
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.identifiers import SpiffeId, dns_name
from tieline_server.trust.authority import AgencyAuthority, create_authority

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
DAY = timedelta(days=1)


@dataclass(frozen=True)
class World:
    """The honest CAs that hostile certificates are made around.

    ``victim`` and ``victim_operators`` belong to the agency that is impersonated, ``other`` is
    another member's node CA, ``unbounded`` a third member's that comes from an existing PKI and
    has no path length. ``stale`` is a node CA of the victim that the directory still pins though
    it has expired; a test without it leaves it None.
    """

    federation: str
    now: datetime
    victim: AgencyAuthority
    victim_operators: AgencyAuthority
    other: AgencyAuthority
    unbounded: AgencyAuthority | None = None
    stale: AgencyAuthority | None = None
    revoked_serial: int = 0x7E57ED

    def pinned_node_cas(self) -> dict[str, list[bytes]]:
        """Agency id to its DER node CAs, as the directory of this world pins them."""
        pinned: dict[str, list[bytes]] = {}
        for authority in (self.victim, self.other, self.unbounded, self.stale):
            if authority is not None:
                pinned.setdefault(authority.agency, []).append(authority.der)
        return pinned

    def is_revoked(self, agency: str, serial: int) -> bool:
        """The victim has revoked one serial."""
        return (agency, serial) == (self.victim.agency, self.revoked_serial)


def make_world(federation: str = "demo", now: datetime | None = None) -> World:
    """Make the CAs; ``now`` defaults to the real time, since TLS looks at the real clock."""
    moment = (now or datetime.now(UTC)).replace(microsecond=0)

    def create(kind: Kind, agency: str, at: datetime = moment) -> AgencyAuthority:
        return create_authority(kind, federation, agency, keys.generate(), now=at)

    return World(
        federation=federation,
        now=moment,
        victim=create(Kind.NODE, "pt-pj"),
        victim_operators=create(Kind.OPERATOR, "pt-pj"),
        other=create(Kind.NODE, "us-ice"),
        unbounded=_existing_pki(federation, "fr-ofmin", moment),
        stale=create(Kind.NODE, "pt-pj", moment - 4000 * DAY),
    )


def _existing_pki(federation: str, agency: str, now: datetime) -> AgencyAuthority:
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{agency} issuing CA 3")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 1000 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return AgencyAuthority(Kind.NODE, federation, agency, certificate, key)


@dataclass(frozen=True)
class Forged:
    """A leaf with its key, ready for use or as the issuer of the next."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def usage(**flags: bool) -> x509.KeyUsage:
    """KeyUsage with the given flags and no others."""
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
        " key_cert_sign crl_sign encipher_only decipher_only"
    )
    return x509.KeyUsage(**(dict.fromkeys(every.split(), False) | flags))


LEAF_CONSTRAINTS = x509.BasicConstraints(ca=False, path_length=None)
SIGN_ONLY = usage(digital_signature=True)


def node_names(agency: str, federation: str) -> list[x509.GeneralName]:
    """The two names that an honest node's leaf has."""
    return [
        x509.UniformResourceIdentifier(str(SpiffeId(federation, agency))),
        x509.DNSName(dns_name(agency, federation)),
    ]


@dataclass(frozen=True)
class Forger:
    """Issues leaves under one CA's name and key, honest but for what is overridden."""

    world: World
    issuer: x509.Certificate
    key: Key

    def leaf(
        self,
        agency: str,
        *,
        names: Sequence[x509.GeneralName] | None = None,
        common_name: str | None = None,
        key: Key | None = None,
        start: timedelta = -DAY,
        end: timedelta = 7 * DAY,
        constraints: x509.BasicConstraints | None = LEAF_CONSTRAINTS,
        key_usage: x509.KeyUsage | None = SIGN_ONLY,
        extended: Sequence[x509.ObjectIdentifier] = (SERVER, CLIENT),
        serial: int | None = None,
        authority_identifier: bytes | None = None,
        extra: tuple[x509.ExtensionType, bool] | None = None,
    ) -> Forged:
        """Return a leaf; ``names`` None means the honest pair, empty means no SAN at all.

        The common name is the node's DNS name unless given, as a bare TLS client would take it.

        ``authority_identifier`` None means the issuer's, empty means none.
        """
        own = key or keys.generate()
        common = common_name or dns_name(agency, self.world.federation)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)]))
            .issuer_name(self.issuer.subject)
            .public_key(own.public_key())
            .serial_number(serial or x509.random_serial_number())
            .not_valid_before(self.world.now + start)
            .not_valid_after(self.world.now + end)
        )
        given = node_names(agency, self.world.federation) if names is None else names
        if given:
            builder = builder.add_extension(x509.SubjectAlternativeName(given), critical=False)
        if constraints is not None:
            builder = builder.add_extension(constraints, critical=True)
        if key_usage is not None:
            builder = builder.add_extension(key_usage, critical=True)
        if extended:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
        identifier = x509.SubjectKeyIdentifier.from_public_key(own.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if authority_identifier is None:
            authority_identifier = identifier_of(self.issuer)
        if authority_identifier:
            aki = x509.AuthorityKeyIdentifier(authority_identifier, None, None)
            builder = builder.add_extension(aki, critical=False)
        if extra is not None:
            builder = builder.add_extension(extra[0], critical=extra[1])
        return Forged(builder.sign(self.key, hashes.SHA256()), own)


def identifier_of(certificate: x509.Certificate) -> bytes:
    """The subject key identifier of a certificate."""
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def self_signed(agency: str, federation: str, now: datetime) -> Forged:
    """Return a leaf with the honest names that its own key signed."""
    key = keys.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name(agency, federation))])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName(node_names(agency, federation)), critical=False)
        .add_extension(LEAF_CONSTRAINTS, critical=True)
        .add_extension(SIGN_ONLY, critical=True)
        .add_extension(x509.ExtendedKeyUsage([SERVER, CLIENT]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier(identifier.digest, None, None), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Forged(certificate, key)


def signed_with_sha1(forged: Forged, issuer: keys.PrivateKey) -> Forged:
    """Return the same certificate signed anew with ECDSA and SHA-1."""
    parsed = asn1_x509.Certificate.load(forged.certificate.public_bytes(Encoding.DER))
    algorithm = algos.SignedDigestAlgorithm({"algorithm": "sha1_ecdsa"})
    parsed["tbs_certificate"]["signature"] = algorithm
    parsed["signature_algorithm"] = algorithm
    body = parsed["tbs_certificate"].dump(force=True)
    parsed["signature_value"] = issuer.sign(body, ec.ECDSA(hashes.SHA1()))
    return Forged(x509.load_der_x509_certificate(parsed.dump(force=True)), forged.key)


def altered(forged: Forged) -> Forged:
    """Return the same certificate with the last bit of its signature flipped."""
    der = bytearray(forged.certificate.public_bytes(Encoding.DER))
    der[-1] ^= 1
    return Forged(x509.load_der_x509_certificate(bytes(der)), forged.key)
