"""threats.md 10 and 11: every hostile certificate over real mutual TLS, in both directions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline_client.certificates import Kind, Purpose, check_leaf
from tieline_client.errors import TrustError
from tieline_client.tls import to_der

from tests.trust import handshakes
from tests.trust.forging import World, make_world
from tests.trust.handshakes import ACCEPTED, Row
from tests.trust.hostile import HANDSHAKE, NOT_APPLICABLE, hostile_cases

WORLD = make_world()
CASES = {case.name: case for case in hostile_cases(WORLD)}


@pytest.fixture(scope="module")
def world() -> World:
    return WORLD


@pytest.fixture(scope="module")
def rows(world: World) -> dict[str, Row]:
    return {row.case.name: row for row in handshakes.measure(world)}


def test_an_honest_node_is_accepted_both_ways(world: World) -> None:
    victim = handshakes.node_identity(world.victim, world.now)
    other = handshakes.node_identity(world.other, world.now)
    with handshakes.serving(world, victim, [world.other.der]) as (tiny, address):
        outcome = handshakes.outcome_as_caller(world, address, tiny, other)
    assert (outcome, tiny.effects, tiny.refusals) == (ACCEPTED, 1, [])


@pytest.mark.parametrize("name", CASES)
def test_each_hostile_certificate_gets_what_its_line_says(name: str, rows: dict[str, Row]) -> None:
    row, case = rows[name], CASES[name]
    assert row.as_caller == (case.as_caller or ACCEPTED)
    assert row.as_server == (case.as_server or ACCEPTED)
    assert NOT_APPLICABLE not in (row.as_caller, row.as_server)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("purpose", Purpose)
def test_the_check_alone_refuses_what_the_handshake_would_have(
    name: str, purpose: Purpose, world: World
) -> None:
    case = CASES[name]
    expected = case.as_caller if purpose is Purpose.CALLER else case.as_server
    if expected == NOT_APPLICABLE:
        pytest.skip("honest in this use")
    with pytest.raises(TrustError) as refusal:
        check_leaf(
            to_der(case.leaf_pem),
            federation=world.federation,
            kind=Kind.NODE,
            purpose=purpose,
            pinned=world.pinned_node_cas(),
            is_revoked=world.is_revoked,
            now=world.now,
            agency=case.agency if purpose is Purpose.CALLER else world.victim.agency,
        )
    if expected != HANDSHAKE and case.agency == world.victim.agency:
        assert refusal.value.reason == expected
    assert refusal.value.metadata["check"] == refusal.value.reason
    assert "\n" not in refusal.value.message


def test_every_case_of_the_list_of_threats_is_here() -> None:
    listed = {
        "expired", "not-yet-valid", "wrong-ca", "server-auth-only", "no-eku", "cn-only", "two-uris",
        "ca-true", "rsa-1024", "child-of-a-leaf", "child-of-a-ca-leaf", "operator",
        "node-ca-for-operator", "another-agencys-ca",
    }  # fmt: skip
    assert listed <= set(CASES)


def test_a_world_made_for_another_day_judges_by_its_own_clock() -> None:
    later = make_world(now=WORLD.now + timedelta(days=400))
    reasons = {}
    for case in hostile_cases(later):
        if case.name in {"expired", "not-yet-valid", "expired-ca"}:
            with pytest.raises(TrustError) as refusal:
                check_leaf(
                    to_der(case.leaf_pem),
                    federation=later.federation,
                    kind=Kind.NODE,
                    purpose=Purpose.CALLER,
                    pinned=later.pinned_node_cas(),
                    is_revoked=later.is_revoked,
                    now=later.now,
                )
            reasons[case.name] = refusal.value.reason
    assert reasons == {
        "expired": "CERTIFICATE_EXPIRED",
        "not-yet-valid": "CERTIFICATE_NOT_YET_VALID",
        "expired-ca": "CERTIFICATE_AUTHORITY",
    }
