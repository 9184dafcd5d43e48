"""The agency's CAs, the leaves they issue, and what a federation checks on a CA that is offered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline_client import keys, limits
from tieline_client.certificate_errors import (
    CertificateAuthority,
    CertificateMalformed,
    CertificateWeak,
)
from tieline_client.certificates import Kind, Purpose, check_leaf
from tieline_client.errors import ConfigurationError, InvalidInput, TrustError
from tieline_server.trust.authority import (
    AgencyAuthority,
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
    load_agency_authority,
    renewal_due,
)
from tieline_server.trust.offered_ca import check_offered_authority

from tests.trust.forging import usage

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = keys.generate()


def authority(kind: Kind = Kind.NODE, agency: str = "pt-pj") -> AgencyAuthority:
    return create_authority(kind, "demo", agency, keys.generate(), now=NOW)


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def foreign_ca(
    *,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    common_name: str = "National issuing CA 7",
    issuer: str | None = None,
    start: timedelta = timedelta(days=-1),
    end: timedelta = timedelta(days=900),
    constraints: x509.BasicConstraints | None = x509.BasicConstraints(True, 0),  # noqa: B008
    identifier: bytes | None = None,
    extra: tuple[x509.ExtensionType, bool] | None = None,
) -> bytes:
    """A CA as an existing PKI might offer it, DER; an empty ``identifier`` means none."""
    own = key or keys.generate()

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common)])

    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(name(issuer or common_name))
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + start)
        .not_valid_after(NOW + end)
        .add_extension(usage(key_cert_sign=True), critical=True)
    )
    if constraints is not None:
        builder = builder.add_extension(constraints, critical=True)
    if identifier is None:
        identifier = x509.SubjectKeyIdentifier.from_public_key(own.public_key()).digest
    if identifier:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(identifier), critical=False)
    if extra is not None:
        builder = builder.add_extension(extra[0], critical=extra[1])
    return builder.sign(own, hashes.SHA256()).public_bytes(Encoding.DER)


def test_a_ca_is_one_and_says_whose() -> None:
    ca = authority(Kind.OPERATOR).certificate
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=0)
    allowed = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert allowed.critical
    assert allowed.value == usage(key_cert_sign=True, crl_sign=True)
    assert "CN=pt-pj operator CA,OU=pt-pj,O=Tieline" in ca.subject.rfc4514_string()
    assert ca.issuer == ca.subject
    assert ca.not_valid_before_utc == NOW - limits.CLOCK_TOLERANCE
    assert ca.not_valid_after_utc == NOW + limits.AUTHORITY_LIFE
    ca.verify_directly_issued_by(ca)


def test_the_successor_of_a_ca_has_another_subject() -> None:
    assert authority().certificate.subject != authority().certificate.subject


def test_a_nodes_leaf_has_both_names_and_both_purposes() -> None:
    ca = authority()
    leaf = issue_node_leaf(ca, KEY.public_key(), now=NOW)
    assert names_of(leaf) == [
        x509.UniformResourceIdentifier("spiffe://demo/agency/pt-pj"),
        x509.DNSName("pt-pj.demo.invalid"),
    ]
    assert usages_of(leaf) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_before_utc == NOW - timedelta(hours=25)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=7)
    allowed = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert allowed == usage(digital_signature=True)
    issued_by = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert issued_by.key_identifier == own.digest
    assert leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def test_a_persons_leaf_has_one_name_and_one_purpose_and_no_role() -> None:
    leaf = issue_operator_leaf(authority(Kind.OPERATOR), "ana.silva", KEY.public_key(), now=NOW)
    assert names_of(leaf) == [
        x509.UniformResourceIdentifier("spiffe://demo/agency/pt-pj/operator/ana.silva")
    ]
    assert usages_of(leaf) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert leaf.not_valid_after_utc == NOW + limits.OPERATOR_LEAF_LIFE


@settings(max_examples=25, deadline=None)
@given(
    agency=st.from_regex(r"[a-z0-9-]{2,32}", fullmatch=True),
    federation=st.from_regex(r"[a-z0-9](?:[a-z0-9.-]{0,61}[a-z0-9])?", fullmatch=True),
    operator=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True),
    kind=st.sampled_from(Kind),
)
def test_whatever_is_issued_passes_the_checks(
    agency: str, federation: str, operator: str, kind: Kind
) -> None:
    ca = create_authority(kind, federation, agency, KEY, now=NOW)
    if kind is Kind.NODE:
        leaf, purposes = issue_node_leaf(ca, KEY.public_key(), now=NOW), list(Purpose)
    else:
        leaf = issue_operator_leaf(ca, operator, KEY.public_key(), now=NOW)
        purposes = [Purpose.CALLER]
    for purpose in purposes:
        identity = check_leaf(
            leaf.public_bytes(Encoding.DER),
            federation=federation,
            kind=kind,
            purpose=purpose,
            pinned={agency: [ca.der]},
            is_revoked=lambda *_: False,
            now=NOW,
        )
        assert identity.agency == agency
        assert identity.spiffe.operator == (operator if kind is Kind.OPERATOR else None)


def test_no_leaf_outlives_its_ca() -> None:
    ca = authority()
    late = ca.certificate.not_valid_after_utc - timedelta(days=2)
    leaf = issue_node_leaf(ca, KEY.public_key(), now=late)
    assert leaf.not_valid_after_utc == ca.certificate.not_valid_after_utc


@pytest.mark.parametrize("offset", [timedelta(days=-2), limits.AUTHORITY_LIFE])
def test_a_ca_outside_its_validity_issues_nothing(offset: timedelta) -> None:
    with pytest.raises(CertificateAuthority, match="check the clock"):
        issue_node_leaf(authority(), KEY.public_key(), now=NOW + offset)


def test_neither_ca_does_the_others_work() -> None:
    with pytest.raises(ConfigurationError, match="issued by the node CA"):
        issue_node_leaf(authority(Kind.OPERATOR), KEY.public_key(), now=NOW)
    with pytest.raises(ConfigurationError, match="issued by the operator CA"):
        issue_operator_leaf(authority(), "ana", KEY.public_key(), now=NOW)


@pytest.mark.parametrize("name", ["", "Ana", "ana silva", "../ana", "ana/operator/root", "é"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        issue_operator_leaf(authority(Kind.OPERATOR), name, KEY.public_key(), now=NOW)


def test_a_leaf_is_renewed_at_half_of_its_life() -> None:
    leaf = issue_node_leaf(authority(), KEY.public_key(), now=NOW)
    half = NOW + timedelta(days=3, hours=12)
    assert not renewal_due(leaf, NOW)
    assert not renewal_due(leaf, half - timedelta(seconds=1))
    assert renewal_due(leaf, half)
    # What remains is more than the clock tolerance.
    assert leaf.not_valid_after_utc - half > limits.CLOCK_TOLERANCE


def test_a_ca_is_loaded_with_its_own_key_only() -> None:
    key = keys.generate()
    made = create_authority(Kind.NODE, "demo", "pt-pj", key, now=NOW)
    pem = made.certificate.public_bytes(Encoding.PEM)
    loaded = load_agency_authority(Kind.NODE, "demo", "pt-pj", pem, key)
    assert loaded.der == made.der
    with pytest.raises(ConfigurationError, match="does not belong"):
        load_agency_authority(Kind.NODE, "demo", "pt-pj", pem, KEY)
    with pytest.raises(ConfigurationError, match="no PEM certificate"):
        load_agency_authority(Kind.NODE, "demo", "pt-pj", b"nothing", KEY)


# --- a CA that is offered ----------------------------------------------------------------------


def offer(der: bytes, *others: bytes, kind: Kind = Kind.NODE) -> tuple[str, ...]:
    listed = [("us-ice", other) for other in others]
    return check_offered_authority(der, kind=kind, others=listed, now=NOW).remarks


def test_our_own_cas_are_admitted_without_remark() -> None:
    node, operators = authority(), authority(Kind.OPERATOR)
    assert offer(node.der, operators.der, authority(agency="us-ice").der) == ()
    assert offer(operators.der, node.der, kind=Kind.OPERATOR) == ()


def test_an_existing_pki_is_admitted_and_said() -> None:
    der = foreign_ca(issuer="National root", constraints=x509.BasicConstraints(True, None))
    remarks = " ".join(offer(der))
    assert "an existing PKI's issuing CA, under 'CN=National root'" in remarks
    assert "authority key identifier" in remarks
    assert "may sign CAs below it" in remarks


def test_another_members_subject_key_or_identifier_is_refused() -> None:
    key = keys.generate()
    theirs = foreign_ca(key=key, common_name="A")
    with pytest.raises(CertificateAuthority, match="has the subject of a CA of us-ice"):
        offer(foreign_ca(common_name="A"), theirs)
    with pytest.raises(CertificateAuthority, match="has the key of a CA of us-ice"):
        offer(foreign_ca(key=key, common_name="B", identifier=b"other"), theirs)
    copied = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    with pytest.raises(CertificateAuthority, match="has the subject key identifier of a CA"):
        offer(foreign_ca(common_name="C", identifier=copied), theirs)


def test_one_key_for_both_cas_of_an_agency_is_refused() -> None:
    key = keys.generate()
    node = create_authority(Kind.NODE, "demo", "pt-pj", key, now=NOW)
    operators = create_authority(Kind.OPERATOR, "demo", "pt-pj", key, now=NOW)
    with pytest.raises(CertificateAuthority, match="has the key"):
        offer(operators.der, node.der, kind=Kind.OPERATOR)


WEAK = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("der", "refusal", "says"),
    [
        (b"", CertificateMalformed, "does not parse"),
        (b"-----BEGIN CERTIFICATE-----", CertificateMalformed, "does not parse"),
        (foreign_ca() + b"\0", CertificateMalformed, "does not parse"),
        (bytes(limits.CERTIFICATE_BYTES + 1), CertificateMalformed, "is over"),
        (foreign_ca(identifier=b""), CertificateAuthority, "no subject key identifier"),
        (foreign_ca(constraints=None), CertificateAuthority, "is not a CA"),
        (foreign_ca(constraints=x509.BasicConstraints(False, None)), CertificateAuthority, "not a"),
        (foreign_ca(key=WEAK), CertificateWeak, "3072"),
        (foreign_ca(key=ec.generate_private_key(ec.SECP521R1())), CertificateWeak, "P-256"),
        (foreign_ca(start=timedelta(days=-9), end=timedelta(0)), CertificateAuthority, "not now"),
        (foreign_ca(end=timedelta(days=6)), CertificateAuthority, "less than"),
        (foreign_ca(start=timedelta(hours=1)), CertificateAuthority, "not now"),
        (
            foreign_ca(extra=(x509.NameConstraints([x509.DNSName("gov.invalid")], None), True)),
            CertificateMalformed,
            "does not process",
        ),
        (
            foreign_ca(
                extra=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
            ),
            CertificateAuthority,
            "too narrow",
        ),
    ],
)
def test_what_is_no_usable_ca_is_refused(der: bytes, refusal: type[TrustError], says: str) -> None:
    with pytest.raises(refusal, match=says):
        offer(der)


def test_a_nodes_leaf_is_no_ca() -> None:
    leaf = issue_node_leaf(authority(), KEY.public_key(), now=NOW)
    with pytest.raises(CertificateAuthority, match="is not a CA"):
        offer(leaf.public_bytes(Encoding.DER))


def test_an_operator_ca_may_be_for_client_authentication_alone() -> None:
    der = foreign_ca(extra=(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False))
    assert offer(der, kind=Kind.OPERATOR) == ()
    with pytest.raises(CertificateAuthority, match="too narrow"):
        offer(der, kind=Kind.NODE)
