"""Makes certificates that are honest but for what a test overrides.

``make_world`` makes the CAs of three agencies; a test with nodes of its own builds a ``World`` from
theirs. ``cryptography`` refuses to write some of what a cheat would; ``signed_with_sha1`` goes
below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

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
class Issuer:
    """A CA of an existing PKI, with its key: RSA of 3072 bits."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def certify(
        self,
        name: str,
        key: rsa.RSAPrivateKey,
        now: datetime,
        *,
        start: timedelta = -DAY,
        end: timedelta = 1000 * DAY,
        path_length: int | None = None,
        constrained: x509.NameConstraints | None = None,
    ) -> Issuer:
        """Return a CA below this one."""
        return Issuer(
            _ca(name, key, self.certificate.subject, self.key, now + start, now + end,
                path_length, constrained, identifier_of(self.certificate)),
            key,
        )  # fmt: skip


@dataclass(frozen=True)
class ExistingPki:
    """A country's own PKI: a root, under it the issuing CA that the directory pins, and others."""

    root: Issuer
    issuing: Issuer
    sibling: Issuer
    """Another issuing CA under the same root, which nobody pins."""


@cache
def rsa_key(name: str, bits: int = 3072) -> rsa.RSAPrivateKey:
    """Return a key of this process by name: they take a second to make."""
    return rsa.generate_private_key(65537, bits)


def make_pki(agency: str, now: datetime) -> ExistingPki:
    """Make a root and two issuing CAs under it, all RSA-3072, none with a path length."""
    key = rsa_key("root")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{agency} root")])
    root = Issuer(
        _ca(f"{agency} root", key, name, key, now - DAY, now + 3000 * DAY, None, None, b""), key
    )
    return ExistingPki(
        root=root,
        issuing=root.certify(f"{agency} issuing CA 3", rsa_key("issuing"), now),
        sibling=root.certify(f"{agency} issuing CA 4", rsa_key("sibling"), now),
    )


def _ca(
    name: str,
    key: rsa.RSAPrivateKey,
    issuer: x509.Name,
    issuer_key: rsa.RSAPrivateKey,
    start: datetime,
    end: datetime,
    path_length: int | None,
    constrained: x509.NameConstraints | None,
    authority: bytes,
) -> x509.Certificate:
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
    )
    if authority:
        aki = x509.AuthorityKeyIdentifier(authority, None, None)
        builder = builder.add_extension(aki, critical=False)
    if constrained is not None:
        builder = builder.add_extension(constrained, critical=True)
    return builder.sign(issuer_key, hashes.SHA256())


@dataclass(frozen=True)
class World:
    """The honest CAs that hostile certificates are made around.

    ``victim`` and ``victim_operators`` belong to the agency that is impersonated, ``other`` is
    another member's node CA, ``unbounded`` a third member's that comes from an existing PKI and
    has no path length; ``pki`` is what stands above and beside it there. ``stale`` is a node CA of
    the victim that the directory still pins though it has expired; a test without it leaves it
    None.
    """

    federation: str
    now: datetime
    victim: AgencyAuthority
    victim_operators: AgencyAuthority
    other: AgencyAuthority
    unbounded: AgencyAuthority | None = None
    pki: ExistingPki | None = None
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

    pki = make_pki("fr-ofmin", moment)
    return World(
        federation=federation,
        now=moment,
        pki=pki,
        victim=create(Kind.NODE, "pt-pj"),
        victim_operators=create(Kind.OPERATOR, "pt-pj"),
        other=create(Kind.NODE, "us-ice"),
        unbounded=_existing_pki(federation, "fr-ofmin", pki),
        stale=create(Kind.NODE, "pt-pj", moment - 4000 * DAY),
    )


def _existing_pki(federation: str, agency: str, pki: ExistingPki) -> AgencyAuthority:
    """Its issuing CA, as the agency's authority. Only the forgers issue with it."""
    key: Any = pki.issuing.key
    return AgencyAuthority(Kind.NODE, federation, agency, pki.issuing.certificate, key)


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
