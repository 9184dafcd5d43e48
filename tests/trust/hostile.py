"""Certificates that must never open a door, made by script (threats.md 10 and 11).

``hostile_cases(world)`` forges one leaf per way of cheating. Every case says what must become of it
as caller and as server: HANDSHAKE (TLS itself refuses, no handler runs), the ``reason`` of the
check of certificates.py that refuses it, or NOT_APPLICABLE where that use is honest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.identifiers import SpiffeId
from tieline_server.trust.authority import create_authority

from tests.trust.forging import (
    CLIENT,
    DAY,
    SERVER,
    Forged,
    Forger,
    Issuer,
    World,
    altered,
    identifier_of,
    node_names,
    rsa_key,
    self_signed,
    signed_with_sha1,
    usage,
)

HANDSHAKE = "HANDSHAKE"
NOT_APPLICABLE = ""

_ANY = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_PRIVATE_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.57264.99.1")
_CA_TRUE = x509.BasicConstraints(ca=True, path_length=None)
_CA_USAGE = usage(digital_signature=True, key_cert_sign=True)


@dataclass(frozen=True)
class HostileCase:
    """One forged certificate, PEM; ``chain`` is what the cheat sends after its leaf, PEM too.

    ``agency`` is whom the leaf claims to be, and thus whom a caller expects who meets it as
    server.
    """

    name: str
    description: str
    agency: str
    leaf_pem: bytes
    key_pem: bytes
    chain: bytes
    as_caller: str
    as_server: str


def hostile_cases(world: World) -> list[HostileCase]:
    """Forge every case against ``world``, in the order of the table."""
    families = (
        _times,
        _issuers,
        _descendants,
        _pki,
        _purposes,
        _names,
        _identities,
        _strengths,
        _rest,
    )
    return [case for family in families for case in family(world)]


def _case(
    world: World,
    name: str,
    description: str,
    forged: Forged,
    as_caller: str,
    as_server: str | None = None,
    *,
    chain: Sequence[Forged] = (),
    agency: str | None = None,
) -> HostileCase:
    """``as_server`` None means the same as ``as_caller``; ``agency`` None means the victim."""
    return HostileCase(
        name=name,
        description=description,
        agency=agency or world.victim.agency,
        leaf_pem=forged.pem,
        key_pem=forged.key_pem,
        chain=b"".join(link.pem for link in chain),
        as_caller=as_caller,
        as_server=as_caller if as_server is None else as_server,
    )


def _victims_ca(world: World) -> Forger:
    return Forger(world, world.victim.certificate, world.victim.key)


def _times(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    ended = node.leaf(me, start=-8 * DAY, end=-DAY)
    yield _case(world, "expired", "ended yesterday", ended, HANDSHAKE)
    early = node.leaf(me, start=DAY)
    yield _case(world, "not-yet-valid", "starts tomorrow", early, HANDSHAKE)
    if world.stale is not None:
        stale = Forger(world, world.stale.certificate, world.stale.key).leaf(me)
        yield _case(world, "expired-ca", "its CA expired but is still pinned", stale, HANDSHAKE)


def _issuers(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    stranger = keys.generate()
    nobody = create_authority(Kind.NODE, world.federation, me, stranger, now=world.now)
    theirs = Forger(world, nobody.certificate, stranger).leaf(me)
    yield _case(world, "wrong-ca", "a CA of the right form that nobody pins", theirs, HANDSHAKE)

    look_alike = Forger(world, world.victim.certificate, stranger)
    theirs = look_alike.leaf(me, authority_identifier=identifier_of(nobody.certificate))
    description = "a CA with the subject of the victim's CA and another key"
    yield _case(world, "look-alike-ca", description, theirs, HANDSHAKE)
    description = "as before, and it copies the key identifier too"
    yield _case(world, "look-alike-ca-copied", description, look_alike.leaf(me), HANDSHAKE)

    other = Forger(world, world.other.certificate, world.other.key)
    description = "another member's CA certifies the victim's names"
    yield _case(
        world, "another-agencys-ca", description, other.leaf(me), "CERTIFICATE_ISSUER", HANDSHAKE
    )
    honest = other.leaf(world.other.agency)
    description = "another member's honest leaf, met at the victim's address"
    yield _case(world, "another-agency", description, honest, NOT_APPLICABLE, HANDSHAKE)
    stolen = node.leaf(world.other.agency)
    yield _case(
        world,
        "another-agencys-name",
        "the victim's CA certifies another member's names",
        stolen,
        "CERTIFICATE_ISSUER",
        HANDSHAKE,
        agency=world.other.agency,
    )
    own = self_signed(me, world.federation, world.now)
    yield _case(world, "self-signed", "signed by its own key", own, HANDSHAKE)
    silent = node.leaf(me, authority_identifier=b"")
    description = "no authority key identifier"
    yield _case(world, "no-aki", description, silent, "CERTIFICATE_ISSUER")


def _descendants(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    good = node.leaf(me)
    child = Forger(world, good.certificate, good.key).leaf(me)
    description = "minted with an honest leaf's key"
    yield _case(world, "child-of-a-leaf", description, child, HANDSHAKE, chain=[good])

    middle = node.leaf(me, constraints=_CA_TRUE, key_usage=_CA_USAGE)
    child = Forger(world, middle.certificate, middle.key).leaf(me, common_name="somebody else")
    yield _case(
        world,
        "child-of-a-ca-leaf",
        "minted by a CA:TRUE leaf; gRPC's TLS overlooks the CA's path length 0",
        child,
        "CERTIFICATE_ISSUER",
        chain=[middle],
    )
    if world.unbounded is None:
        return
    agency = world.unbounded.agency
    free = Forger(world, world.unbounded.certificate, world.unbounded.key)
    middle = free.leaf(agency, constraints=_CA_TRUE, key_usage=_CA_USAGE)
    yield _case(
        world,
        "child-of-a-ca-leaf-unbounded",
        "minted by a CA:TRUE leaf under a CA without path length",
        Forger(world, middle.certificate, middle.key).leaf(agency, common_name="somebody else"),
        "CERTIFICATE_ISSUER",
        chain=[middle],
        agency=agency,
    )


def honest_of_pki(world: World, leaf_key: str, *, chain: bool) -> HostileCase:
    """An honest leaf of an existing PKI's pinned CA, of key "p256" or "rsa", in a case's form."""
    assert world.unbounded is not None
    assert world.pki is not None
    pki, agency = world.pki, world.unbounded.agency
    key = rsa_key("leaf") if leaf_key == "rsa" else None
    leaf = Forger(world, pki.issuing.certificate, pki.issuing.key).leaf(agency, key=key)
    links = [Forged(one.certificate, one.key) for one in (pki.issuing, pki.root) if chain]
    words = f"{leaf_key}, {'with its chain' if chain else 'alone'}"
    return _case(world, words, "honest", leaf, NOT_APPLICABLE, chain=links, agency=agency)


def _pki(world: World) -> Iterator[HostileCase]:
    """An existing PKI whose issuing CA is pinned: what else stands in it counts for nothing."""
    if world.unbounded is None or world.pki is None:
        return
    agency, now, pki = world.unbounded.agency, world.now, world.pki

    def case(
        name: str, description: str, issuer: Issuer, outcome: str, *chain: Issuer
    ) -> HostileCase:
        leaf = Forger(world, issuer.certificate, issuer.key).leaf(agency)
        links = [Forged(one.certificate, one.key) for one in chain]
        return _case(world, name, description, leaf, outcome, chain=links, agency=agency)

    sibling, key = pki.sibling, rsa_key("below")
    description = "issued beside the pinned CA, under the same RSA root; sends its chain"
    yield case("pki-sibling", description, sibling, HANDSHAKE, sibling, pki.root)
    description = "issued by the root above the pinned CA; sends it"
    yield case("pki-root", description, pki.root, HANDSHAKE, pki.root)
    below = pki.issuing.certify(f"{agency} issuing CA 3 a", key, now)
    description = "issued by an intermediate below the pinned CA; sends it"
    yield case("pki-below", description, below, "CERTIFICATE_ISSUER", below)
    ended = pki.issuing.certify(f"{agency} issuing CA 3 b", key, now, start=-9 * DAY, end=-DAY)
    description = "as before, and the intermediate has expired"
    yield case("pki-below-expired", description, ended, HANDSHAKE, ended)
    narrow = x509.NameConstraints(None, [x509.DNSName("invalid")])
    other = pki.issuing.certify(f"{agency} issuing CA 3 c", key, now, constrained=narrow)
    description = "as before, and the intermediate's name constraints exclude its names"
    yield case("pki-below-constrained", description, other, HANDSHAKE, other)
    fitting = x509.NameConstraints([x509.DNSName("invalid")], None)
    other = pki.issuing.certify(f"{agency} issuing CA 3 d", key, now, constrained=fitting)
    description = "as before, and its name constraints allow its names"
    yield case("pki-below-allowed", description, other, "CERTIFICATE_ISSUER", other)


def _purposes(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    refused = "CERTIFICATE_USAGE"
    only = node.leaf(me, extended=[SERVER])
    yield _case(world, "server-auth-only", "may only serve", only, HANDSHAKE, NOT_APPLICABLE)
    only = node.leaf(me, extended=[CLIENT])
    yield _case(world, "client-auth-only", "may only call", only, NOT_APPLICABLE, HANDSHAKE)
    leaf = node.leaf(me, extended=())
    yield _case(world, "no-eku", "no extended key usage", leaf, refused)
    leaf = node.leaf(me, extended=[_ANY])
    yield _case(world, "any-eku", "anyExtendedKeyUsage alone", leaf, HANDSHAKE)
    leaf = node.leaf(me, extended=[SERVER, CLIENT, _ANY])
    yield _case(world, "any-eku-besides", "anyExtendedKeyUsage besides the two", leaf, refused)
    leaf = node.leaf(me, constraints=_CA_TRUE, key_usage=_CA_USAGE)
    yield _case(world, "ca-true", "a leaf that is a CA", leaf, refused)
    leaf = node.leaf(me, constraints=None)
    yield _case(world, "no-basic-constraints", "does not say that it is no CA", leaf, refused)
    leaf = node.leaf(me, key_usage=_CA_USAGE)
    yield _case(world, "key-cert-sign", "CA:FALSE, yet it may sign", leaf, refused)
    leaf = node.leaf(me, key_usage=None)
    yield _case(world, "no-key-usage", "no key usage", leaf, refused)


def _names(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    uri, dns = node_names(me, world.federation)
    other_uri, other_dns = node_names(world.other.agency, world.federation)
    refused = "CERTIFICATE_NAME"

    def named(*names: x509.GeneralName) -> Forged:
        return node.leaf(me, names=names)

    yield _case(world, "cn-only", "the right common name and no SAN", named(), refused)
    yield _case(world, "dns-only", "no SPIFFE ID", named(dns), refused)
    both = named(uri, other_uri, dns)
    yield _case(world, "two-uris", "the victim's SPIFFE ID and another's", both, refused)
    both = named(uri, dns, other_dns)
    yield _case(world, "two-dns", "the victim's DNS name and another's", both, refused)
    yield _case(world, "no-dns", "no DNS name", named(uri), refused)
    wrong = named(uri, other_dns)
    yield _case(world, "wrong-dns", "another member's DNS name", wrong, refused, HANDSHAKE)
    wildcard = named(uri, x509.DNSName(f"*.{world.federation}.invalid"))
    yield _case(world, "wildcard-dns", "a wildcard for the federation", wildcard, refused)
    mail = named(uri, dns, x509.RFC822Name(f"duty@{me}.example"))
    yield _case(world, "email-besides", "an e-mail address besides", mail, refused)
    longer = named(x509.UniformResourceIdentifier(f"{uri.value}/"), dns)
    yield _case(world, "trailing-path", "a SPIFFE ID that goes on", longer, refused)


def _identities(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    _, dns = node_names(me, world.federation)
    elsewhere = node.leaf(me, names=[node_names(me, "elsewhere")[0], dns])
    description = "the same agency in another federation"
    yield _case(world, "other-federation", description, elsewhere, "CERTIFICATE_FEDERATION")
    unknown = node.leaf("xx-none")
    yield _case(
        world,
        "unknown-agency",
        "an agency that the directory does not list",
        unknown,
        "CERTIFICATE_AGENCY",
        agency="xx-none",
    )
    operators = Forger(world, world.victim_operators.certificate, world.victim_operators.key)
    person = x509.UniformResourceIdentifier(str(SpiffeId(world.federation, me, "ana.silva")))
    leaf = operators.leaf(me, names=[person], extended=[CLIENT])
    yield _case(world, "operator", "a person's honest certificate", leaf, HANDSHAKE)
    leaf = operators.leaf(me)
    description = "the operator CA certifies the node's names"
    yield _case(world, "operator-ca-for-node", description, leaf, HANDSHAKE)
    leaf = node.leaf(me, names=[person, dns])
    description = "the node CA certifies a person's SPIFFE ID"
    yield _case(world, "node-ca-for-operator", description, leaf, "CERTIFICATE_KIND")


def _strengths(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    refused = "CERTIFICATE_WEAK"
    for bits in (1024, 2048):
        leaf = node.leaf(me, key=rsa.generate_private_key(65537, bits))
        yield _case(world, f"rsa-{bits}", f"an RSA key of {bits} bits", leaf, refused)
    leaf = signed_with_sha1(node.leaf(me), world.victim.key)
    yield _case(world, "sha1-signature", "signed by the right CA with SHA-1", leaf, refused)


def _rest(world: World) -> Iterator[HostileCase]:
    node, me = _victims_ca(world), world.victim.agency
    leaf = node.leaf(me, serial=world.revoked_serial)
    yield _case(world, "revoked", "its serial number is revoked", leaf, "CERTIFICATE_REVOKED")
    unknown = x509.UnrecognizedExtension(_PRIVATE_EXTENSION, b"\x05\x00")
    leaf = node.leaf(me, extra=(unknown, True))
    description = "a critical extension that nobody knows"
    yield _case(world, "unknown-critical", description, leaf, HANDSHAKE)
    constraints = x509.NameConstraints([x509.DNSName("invalid")], None)
    leaf = node.leaf(me, extra=(constraints, True))
    description = "a critical extension that TLS knows and these checks do not look at"
    yield _case(world, "critical-besides", description, leaf, "CERTIFICATE_MALFORMED")
    leaf = altered(node.leaf(me))
    yield _case(world, "altered-byte", "one bit of its signature is flipped", leaf, HANDSHAKE)
