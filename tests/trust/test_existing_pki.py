"""A node with its country's PKI: an RSA root, an RSA issuing CA under it that the directory pins.

Over real mutual TLS, as caller and as server. What is refused of such a PKI is among the hostile
certificates (``pki-``), and at admission here.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from tieline_client import tls
from tieline_client.certificates import Kind, Purpose, check_leaf
from tieline_client.errors import TrustError
from tieline_server.trust.offered_ca import check_offered_authority

from tests.trust.forging import DAY, ExistingPki, Forger, make_world, rsa_key
from tests.trust.handshakes import (
    ACCEPTED,
    hostile_identity,
    node_identity,
    outcome_as_caller,
    outcome_as_server,
    serving,
)
from tests.trust.hostile import honest_of_pki

WORLD = make_world()
AGENCY = "fr-ofmin"


def _pki() -> ExistingPki:
    assert WORLD.pki is not None
    return WORLD.pki


@pytest.mark.parametrize("chain", [False, True], ids=["leaf alone", "with its chain"])
@pytest.mark.parametrize("leaf_key", ["p256", "rsa"])
def test_what_the_pinned_issuing_ca_signs_is_let_in_both_ways(leaf_key: str, chain: bool) -> None:
    case = honest_of_pki(WORLD, leaf_key, chain=chain)
    every_ca = [der for cas in WORLD.pinned_node_cas().values() for der in cas]
    with serving(WORLD, node_identity(WORLD.victim, WORLD.now), every_ca) as (tiny, address):
        assert outcome_as_caller(WORLD, address, tiny, hostile_identity(case)) == ACCEPTED
        assert tiny.effects == 1
    assert outcome_as_server(WORLD, case) == ACCEPTED


def test_the_issuing_ca_is_admitted_with_what_it_means_said() -> None:
    der = _pki().issuing.der
    offered = check_offered_authority(der, kind=Kind.NODE, others=(), now=WORLD.now)
    said = " / ".join(offered.remarks)
    assert f"an existing PKI's issuing CA, under 'CN={AGENCY} root'" in said
    assert "authority key identifier" in said
    assert "CAs below it" in said


def _offers() -> dict[str, tuple[bytes, str]]:
    pki, now, narrow = _pki(), WORLD.now, x509.NameConstraints([x509.DNSName("invalid")], None)
    key, weak = rsa_key("offered"), rsa_key("weak", 2048)
    ended = pki.root.certify("ended", key, now, start=-9 * DAY, end=-DAY)
    soon = pki.root.certify("soon", key, now, end=timedelta(days=6))
    early = pki.root.certify("early", key, now, start=DAY)
    constrained = pki.root.certify("constrained", key, now, constrained=narrow)
    return {
        "expired": (ended.der, "CERTIFICATE_AUTHORITY"),
        "ends within a leaf's life": (soon.der, "CERTIFICATE_AUTHORITY"),
        "not yet valid": (early.der, "CERTIFICATE_AUTHORITY"),
        "name constraints": (constrained.der, "CERTIFICATE_MALFORMED"),
        "RSA of 2048 bits": (pki.root.certify("weak", weak, now).der, "CERTIFICATE_WEAK"),
    }


@pytest.mark.parametrize("name", list(_offers()))
def test_what_may_not_be_pinned_is_refused_at_admission_with_its_check(name: str) -> None:
    der, check = _offers()[name]
    with pytest.raises(TrustError) as refusal:
        check_offered_authority(der, kind=Kind.NODE, others=(), now=WORLD.now)
    assert refusal.value.reason == check
    assert "\n" not in refusal.value.message


def test_a_leaf_of_the_wrong_intermediate_is_named_where_it_is_brought_in() -> None:
    """As `node renew --import` checks it, before any peer sees it."""
    pki = _pki()
    for issuer in (pki.sibling, pki.root):
        leaf = Forger(WORLD, issuer.certificate, issuer.key).leaf(AGENCY)
        with pytest.raises(TrustError) as refusal:
            check_leaf(
                tls.to_der(leaf.pem),
                federation=WORLD.federation,
                kind=Kind.NODE,
                purpose=Purpose.SERVER,
                pinned=WORLD.pinned_node_cas(),
                is_revoked=WORLD.is_revoked,
                now=WORLD.now,
            )
        assert refusal.value.reason == "CERTIFICATE_ISSUER"
