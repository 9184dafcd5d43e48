"""The checks on a leaf: their edges, a person's certificate, the cache, bytes from anywhere."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client import keys, limits
from tieline_client.certificate_errors import (
    CertificateAgency,
    CertificateAuthority,
    CertificateExpired,
    CertificateIssuer,
    CertificateKind,
    CertificateMalformed,
    CertificateName,
    CertificateNotYetValid,
    CertificateRevoked,
    CertificateUsage,
    CertificateWeak,
)
from tieline_client.certificates import (
    IsRevoked,
    Kind,
    LeafCache,
    LeafIdentity,
    Pinned,
    Purpose,
    check_leaf,
)
from tieline_client.errors import TrustError
from tieline_client.identifiers import SpiffeId
from tieline_server.trust.authority import create_authority, issue_node_leaf, issue_operator_leaf

from tests.trust.forging import CLIENT, SERVER, Forger, make_world, usage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
WORLD = replace(
    make_world("demo", NOW),
    victim=create_authority(
        Kind.NODE, "demo", "pt-pj", keys.generate(), now=NOW - timedelta(days=30)
    ),
)
NODE = Forger(WORLD, WORLD.victim.certificate, WORLD.victim.key)
PERSONS = Forger(WORLD, WORLD.victim_operators.certificate, WORLD.victim_operators.key)
ME = WORLD.victim.agency
LEAF = issue_node_leaf(WORLD.victim, keys.generate().public_key(), now=NOW)
DER = LEAF.public_bytes(Encoding.DER)
PERSON = x509.UniformResourceIdentifier(str(SpiffeId("demo", ME, "ana.silva")))


def none_revoked(_agency: str, _serial: int) -> bool:
    return False


def check(
    der: bytes,
    *,
    kind: Kind = Kind.NODE,
    purpose: Purpose = Purpose.CALLER,
    pinned: Pinned | None = None,
    is_revoked: IsRevoked = none_revoked,
    now: datetime = NOW,
    agency: str | None = None,
) -> LeafIdentity:
    cas = {Kind.NODE: [WORLD.victim.der], Kind.OPERATOR: [WORLD.victim_operators.der]}
    return check_leaf(
        der,
        federation="demo",
        kind=kind,
        purpose=purpose,
        pinned={ME: cas[kind]} if pinned is None else pinned,
        is_revoked=is_revoked,
        now=now,
        agency=agency,
    )


def der_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def test_an_identity_says_who_and_until_when() -> None:
    identity = check(DER, agency=ME)
    assert identity.spiffe == SpiffeId("demo", ME)
    assert identity.agency == ME
    assert identity.serial == LEAF.serial_number
    assert identity.not_after == NOW + limits.NODE_LEAF_LIFE
    assert identity.digest.hex() == LEAF.fingerprint(hashes.SHA256()).hex()


@pytest.mark.parametrize("purpose", Purpose)
def test_time_is_judged_at_both_ends_without_slack(purpose: Purpose) -> None:
    start, end = LEAF.not_valid_before_utc, LEAF.not_valid_after_utc
    assert check(DER, purpose=purpose, now=start)
    assert check(DER, purpose=purpose, now=end)
    with pytest.raises(CertificateNotYetValid, match="clocks"):
        check(DER, purpose=purpose, now=start - SECOND)
    with pytest.raises(CertificateExpired, match="renew"):
        check(DER, purpose=purpose, now=end + SECOND)


def test_a_clock_25_hours_behind_still_accepts_a_new_leaf_and_a_renewed_one_in_time() -> None:
    assert check(DER, now=NOW - limits.CLOCK_TOLERANCE)
    half = NOW + limits.NODE_LEAF_LIFE / 2
    assert check(DER, now=half + limits.CLOCK_TOLERANCE)


def test_a_ca_past_its_end_vouches_for_nobody() -> None:
    old = create_authority(Kind.NODE, "demo", ME, keys.generate(), now=NOW)
    end = old.certificate.not_valid_after_utc
    forger = Forger(replace(WORLD, now=end), old.certificate, old.key)
    leaf = der_of(forger.leaf(ME).certificate)
    pinned = {ME: [old.der]}
    assert check(leaf, pinned=pinned, now=end)
    with pytest.raises(CertificateAuthority, match="compare the clocks"):
        check(leaf, pinned=pinned, now=old.certificate.not_valid_before_utc - SECOND)
    with pytest.raises(CertificateAuthority, match="publish a new one"):
        check(leaf, pinned=pinned, now=end + SECOND)


def test_both_the_old_and_the_new_ca_of_an_agency_count_while_both_are_pinned() -> None:
    successor = create_authority(Kind.NODE, "demo", ME, keys.generate(), now=NOW)
    fresh = der_of(issue_node_leaf(successor, keys.generate().public_key(), now=NOW))
    both = {ME: [successor.der, WORLD.victim.der]}
    assert check(DER, pinned=both)
    assert check(fresh, pinned=both)
    with pytest.raises(CertificateIssuer):
        check(DER, pinned={ME: [successor.der]})


def test_a_look_alike_listed_first_harms_nobody() -> None:
    stranger = keys.generate()
    look_alike = (
        x509.CertificateBuilder()
        .subject_name(WORLD.victim.certificate.subject)
        .issuer_name(WORLD.victim.certificate.subject)
        .public_key(stranger.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + limits.AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(True, 0), critical=True)
        .add_extension(usage(key_cert_sign=True), critical=True)
        .add_extension(
            WORLD.victim.certificate.extensions.get_extension_for_class(
                x509.SubjectKeyIdentifier
            ).value,
            critical=False,
        )
        .sign(stranger, hashes.SHA256())
    )
    assert check(DER, pinned={ME: [der_of(look_alike), WORLD.victim.der]})


def test_an_unusable_pinned_ca_is_named_and_does_not_hide_a_good_one() -> None:
    broken = b"no certificate"
    assert check(DER, pinned={ME: [broken, WORLD.victim.der]})
    with pytest.raises(CertificateMalformed):
        check(DER, pinned={ME: [broken]})


def test_another_agency_than_expected_and_one_without_cas_are_refused() -> None:
    with pytest.raises(CertificateAgency, match="check the address"):
        check(DER, agency="us-ice")
    with pytest.raises(CertificateAgency, match="lists no CA"):
        check(DER, pinned={})
    with pytest.raises(CertificateAgency, match="lists no CA"):
        check(DER, pinned={ME: []})


def test_revocation_is_by_agency_and_serial() -> None:
    asked: list[tuple[str, int]] = []

    def revoked(agency: str, serial: int) -> bool:
        asked.append((agency, serial))
        return True

    with pytest.raises(CertificateRevoked):
        check(DER, is_revoked=revoked)
    assert asked == [(ME, LEAF.serial_number)]


# --- persons -----------------------------------------------------------------------------------


def test_a_person_is_accepted_as_caller_only() -> None:
    leaf = der_of(
        issue_operator_leaf(
            WORLD.victim_operators, "ana.silva", keys.generate().public_key(), now=NOW
        )
    )
    identity = check(leaf, kind=Kind.OPERATOR)
    assert identity.spiffe.operator == "ana.silva"
    with pytest.raises(CertificateUsage):
        check(leaf, kind=Kind.OPERATOR, purpose=Purpose.SERVER)
    with pytest.raises(CertificateKind):
        check(leaf, kind=Kind.NODE)


def test_a_node_is_no_person() -> None:
    with pytest.raises(CertificateKind, match="does not name a person"):
        check(DER, kind=Kind.OPERATOR)


@pytest.mark.parametrize(
    ("leaf", "refusal"),
    [
        (NODE.leaf(ME, names=[PERSON], extended=[CLIENT]), CertificateIssuer),
        (PERSONS.leaf(ME, names=[PERSON], extended=[CLIENT, SERVER]), CertificateUsage),
        (PERSONS.leaf(ME, names=[PERSON, x509.DNSName("a.invalid")]), CertificateName),
        (PERSONS.leaf(ME, names=[PERSON, PERSON], extended=[CLIENT]), CertificateName),
    ],
    ids=["by-the-node-ca", "may-serve", "dns-name", "twice"],
)
def test_a_persons_certificate_must_be_just_that(leaf: object, refusal: type[TrustError]) -> None:
    certificate = leaf.certificate  # type: ignore[attr-defined]
    with pytest.raises(refusal):
        check(der_of(certificate), kind=Kind.OPERATOR)


# --- forms that TLS would not carry ------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "accepted"),
    [
        (ec.generate_private_key(ec.SECP256R1()), True),
        (ec.generate_private_key(ec.SECP384R1()), True),
        (rsa.generate_private_key(65537, 3072), True),
        (ec.generate_private_key(ec.SECP521R1()), False),
        (ec.generate_private_key(ec.SECP256K1()), False),
        (ec.generate_private_key(ec.SECP224R1()), False),
        (rsa.generate_private_key(65537, 3064), False),
        (ed25519.Ed25519PrivateKey.generate(), False),
    ],
    ids=["p256", "p384", "rsa3072", "p521", "secp256k1", "p224", "rsa3064", "ed25519"],
)
def test_keys_at_the_floor_pass_and_below_it_not(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, accepted: bool
) -> None:
    leaf = der_of(NODE.leaf(ME, key=key).certificate)
    if accepted:
        check(leaf)
    else:
        with pytest.raises(CertificateWeak):
            check(leaf)


def test_a_leaf_that_may_not_sign_a_handshake_is_refused() -> None:
    leaf = NODE.leaf(ME, key_usage=usage(key_agreement=True))
    with pytest.raises(CertificateUsage):
        check(der_of(leaf.certificate))


@pytest.mark.parametrize(
    "uri",
    [
        "SPIFFE://demo/agency/pt-pj",
        "spiffe://DEMO/agency/pt-pj",
        "spiffe://demo/agency/PT-PJ",
        "spiffe://demo/agency/pt-pj?x=1",
        "spiffe://demo/agency/pt-pj#x",
        "spiffe://demo:443/agency/pt-pj",
        "spiffe://u@demo/agency/pt-pj",
        "spiffe://demo//agency/pt-pj",
        "spiffe://demo/agency/pt%2dpj",
        "spiffe://demo/agency/pt-pj/operator/",
        "spiffe://demo/agency/pt-pj\n",
        "spiffe://demo/agency/",
        "https://demo/agency/pt-pj",
        "",
    ],
)
def test_no_other_spelling_of_the_identity_counts(uri: str) -> None:
    names = [x509.UniformResourceIdentifier(uri), x509.DNSName("pt-pj.demo.invalid")]
    with pytest.raises(CertificateName):
        check(der_of(NODE.leaf(ME, names=names).certificate))


@pytest.mark.parametrize(
    "dns", ["PT-PJ.demo.invalid", "pt-pj.demo.invalid.", "pt-pj.demo.invalid\0.x", "pt-pj", ""]
)
def test_no_other_spelling_of_the_dns_name_counts(dns: str) -> None:
    uri = x509.UniformResourceIdentifier("spiffe://demo/agency/pt-pj")
    leaf = NODE.leaf(ME, names=[uri, x509.DNSName(dns)])
    with pytest.raises(CertificateName):
        check(der_of(leaf.certificate))


# The library warns of a serial that is not positive; here it is refused.
@pytest.mark.filterwarnings("ignore:Parsed a serial number")
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_no_altered_byte_passes_and_every_refusal_is_typed(data: st.DataObject) -> None:
    changed = bytearray(DER)
    at = data.draw(st.integers(0, len(DER) - 1))
    changed[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != DER[at]))
    with pytest.raises(TrustError):
        check(bytes(changed))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_refused_with_a_typed_error(data: bytes) -> None:
    with pytest.raises(CertificateMalformed):
        check(data)


@pytest.mark.parametrize("der", [DER + b"\0", DER[:-1], DER + DER, LEAF.public_bytes(Encoding.PEM)])
def test_exactly_one_der_certificate_is_needed(der: bytes) -> None:
    with pytest.raises(CertificateMalformed):
        check(der)


def test_a_subject_cannot_write_into_the_log() -> None:
    leaf = NODE.leaf(ME, names=[], common_name="a\r\n\x1b[2Jb")
    with pytest.raises(CertificateName) as refusal:
        check(der_of(leaf.certificate))
    assert refusal.value.message.isprintable()


# --- the cache ---------------------------------------------------------------------------------


class Counting(dict[str, list[bytes]]):
    """Pinned CAs that count how often the issuer was looked for."""

    looks = 0

    def get(self, key: str, default: object = None) -> list[bytes]:
        Counting.looks += 1
        return super().get(key) or []


@pytest.fixture
def pinned() -> Counting:
    Counting.looks = 0
    return Counting({ME: [WORLD.victim.der]})


def cached(
    cache: LeafCache,
    pinned: Pinned,
    *,
    der: bytes = DER,
    version: int = 1,
    purpose: Purpose = Purpose.CALLER,
    is_revoked: IsRevoked = none_revoked,
    now: datetime = NOW,
    agency: str | None = None,
) -> LeafIdentity:
    return cache.check(
        der,
        version=version,
        kind=Kind.NODE,
        purpose=purpose,
        pinned=pinned,
        is_revoked=is_revoked,
        now=now,
        agency=agency,
    )


def test_a_repeat_checks_no_signature_again(pinned: Counting) -> None:
    cache = LeafCache("demo")
    first = cached(cache, pinned)
    assert all(cached(cache, pinned) is first for _ in range(10))
    assert Counting.looks == 1
    cached(cache, pinned, purpose=Purpose.SERVER)
    cached(cache, pinned, version=2)
    assert Counting.looks == 3


def test_a_repeat_still_sees_time_and_revocation(pinned: Counting) -> None:
    cache = LeafCache("demo")
    cached(cache, pinned)
    with pytest.raises(CertificateExpired):
        cached(cache, pinned, now=LEAF.not_valid_after_utc + SECOND)
    with pytest.raises(CertificateNotYetValid):
        cached(cache, pinned, now=NOW - limits.CLOCK_TOLERANCE - SECOND)
    with pytest.raises(CertificateRevoked):
        cached(cache, pinned, is_revoked=lambda *_: True)
    with pytest.raises(CertificateAgency):
        cached(cache, pinned, agency="us-ice")
    with pytest.raises(CertificateAuthority):
        cached(cache, pinned, now=NOW + limits.AUTHORITY_LIFE + SECOND)
    cached(cache, pinned)
    assert Counting.looks == 1


def test_a_new_directory_that_no_longer_pins_the_ca_refuses_at_once(pinned: Counting) -> None:
    cache = LeafCache("demo")
    cached(cache, pinned, version=1)
    with pytest.raises(CertificateAgency):
        cached(cache, {}, version=2)


def test_refusals_are_not_remembered(pinned: Counting) -> None:
    cache = LeafCache("demo")
    with pytest.raises(CertificateAgency):
        cached(cache, {})
    assert cached(cache, pinned)


def test_the_cache_is_bounded_and_drops_the_oldest(pinned: Counting) -> None:
    cache = LeafCache("demo", entries=2)
    for version in (1, 2, 3):
        cached(cache, pinned, version=version)
    cached(cache, pinned, version=3)
    cached(cache, pinned, version=2)
    assert Counting.looks == 3
    cached(cache, pinned, version=1)
    assert Counting.looks == 4


def test_many_threads_may_share_it(pinned: Counting) -> None:
    cache = LeafCache("demo", entries=3)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(200):
                assert cached(cache, pinned, version=(seed + turn) % 7).agency == ME
        except BaseException as error:  # noqa: BLE001 - handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
