"""threats.md 10 and 11 at a running node: what each forged caller gets, and what the log says.

tests/trust/hostile.py forges nodes' certificates; the persons' are forged here. What is measured is
compared with docs/hostile-certificates.md, which ``python -m tests.e2e.hostile_table`` writes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from tieline.v1 import operator_pb2
from tieline_client import tls
from tieline_client.certificates import Kind
from tieline_client.identifiers import SpiffeId

from tests.e2e.federation import tieline
from tests.e2e.hostile_table import PAGE, render
from tests.e2e.hostile_world import (
    NODE,
    OTHER,
    VICTIM,
    HostileFederation,
    as_caller,
    as_server,
    hostile_federation,
    outcome_of,
)
from tests.e2e.rogue import SECONDS
from tests.trust.forging import CLIENT, DAY, SERVER, Forged, Forger, node_names
from tests.trust.handshakes import ACCEPTED, Row, hostile_identity
from tests.trust.hostile import HANDSHAKE, honest_of_pki, hostile_cases

GET_STATS = "/tieline.v1.OperatorService/GetStats"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileFederation]:
    with hostile_federation(tmp_path_factory.mktemp("callers")) as made:
        yield made


@pytest.fixture(scope="module")
def met() -> Counter[tuple[str, str]]:
    """How often this module was refused by the guard: (method, check)."""
    return Counter()


def _met(met: Counter[tuple[str, str]], method: str, outcome: str) -> str:
    if outcome not in (HANDSHAKE, ACCEPTED):
        met[method, outcome] += 1
    return outcome


@pytest.fixture(scope="module")
def rows(stage: HostileFederation, met: Counter[tuple[str, str]]) -> dict[str, Row]:
    """What became of every forged node, both ways."""
    made = {}
    for case in hostile_cases(stage.world):
        outcome = _met(met, "Hello", as_caller(stage, hostile_identity(case)))
        made[case.name] = Row(case, outcome, as_server(stage, case))
    return made


def test_honest_nodes_are_served(stage: HostileFederation) -> None:
    for rogue in stage.rogues.values():
        assert as_caller(stage, rogue.identity) == ACCEPTED


def test_leaves_of_an_existing_pki_are_let_in_both_ways(stage: HostileFederation) -> None:
    """RSA root, RSA issuing CA under it, which is what the directory pins."""
    for leaf_key, chain in (("p256", False), ("rsa", False), ("rsa", True)):
        case = honest_of_pki(stage.world, leaf_key, chain=chain)
        assert as_caller(stage, hostile_identity(case)) == ACCEPTED, case.name
        assert as_server(stage, case) == ACCEPTED, case.name


def test_each_forged_node_gets_what_its_line_says(rows: dict[str, Row]) -> None:
    assert len(rows) > 40
    for name, row in rows.items():
        assert row.as_caller == (row.case.as_caller or ACCEPTED), name
        if name == "unknown-agency":
            # Nobody asks an agency that the directory does not list.
            assert row.as_server == "UNKNOWN_AGENCY"
        else:
            assert row.as_server == (row.case.as_server or ACCEPTED), name


def test_the_published_table_is_what_was_measured(rows: dict[str, Row]) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(rows.values())


# --- persons --------------------------------------------------------------------------------------


def _person(stage: HostileFederation, agency: str = NODE) -> Forger:
    """Whoever holds an agency's operator CA."""
    authority = stage.rogues[agency].authority(Kind.OPERATOR)
    return Forger(stage.world, authority.certificate, authority.key)


def _names(stage: HostileFederation, name: str = "eve", agency: str = NODE) -> Any:
    spiffe = SpiffeId(stage.federation.name, agency, name)
    return [x509.UniformResourceIdentifier(str(spiffe))]


def _forged(
    stage: HostileFederation, agency: str = NODE, **changes: Any
) -> Callable[[], tls.Identity]:
    def make() -> tls.Identity:
        fields: dict[str, Any] = {"names": _names(stage), "extended": [CLIENT]}
        return _identity(_person(stage, agency).leaf(NODE, **(fields | changes)))

    return make


def _identity(forged: Forged) -> tls.Identity:
    return tls.Identity(forged.pem, forged.key_pem)


def _call(stage: HostileFederation, identity: tls.Identity) -> str:
    with tls.node_channel(
        stage.node.operator_address,
        agency=NODE,
        federation=stage.federation.name,
        roots=[stage.rogues[NODE].authority().der],
        identity=identity,
    ) as channel:
        call = channel.unary_unary(GET_STATS, None, None)
        request = operator_pb2.GetStatsRequest().SerializeToString()
        return outcome_of(lambda: call(request, timeout=SECONDS))


def test_forged_persons_do_not_get_in(
    stage: HostileFederation, met: Counter[tuple[str, str]]
) -> None:
    name = stage.federation.name
    uri, dns = node_names(NODE, name)
    node_ca = stage.rogues[NODE].authority()
    by_node_ca = Forger(stage.world, node_ca.certificate, node_ca.key)
    ca = x509.BasicConstraints(ca=True, path_length=None)
    cases: dict[str, tuple[Callable[[], tls.Identity], str]] = {
        "nobody that the node knows": (_forged(stage), "CERTIFICATE_REVOKED"),
        "a known person, another certificate": (
            _forged(stage, names=_names(stage, "admin")),
            "CERTIFICATE_REVOKED",
        ),
        "expired": (_forged(stage, start=-9 * DAY, end=-DAY), HANDSHAKE),
        "not yet valid": (_forged(stage, start=DAY), HANDSHAKE),
        "another agency's operator CA": (_forged(stage, OTHER), HANDSHAKE),
        "another agency's person by this CA": (
            _forged(stage, names=_names(stage, agency=OTHER)),
            "CERTIFICATE_AGENCY",
        ),
        "the node CA for a person": (
            lambda: _identity(by_node_ca.leaf(NODE, names=_names(stage), extended=[CLIENT])),
            HANDSHAKE,
        ),
        "the node itself": (lambda: stage.rogues[NODE].identity, HANDSHAKE),
        "another node": (lambda: stage.rogues[VICTIM].identity, HANDSHAKE),
        "the operator CA for a node": (_forged(stage, names=[uri, dns]), "CERTIFICATE_KIND"),
        "two persons": (
            _forged(stage, names=[*_names(stage), *_names(stage, "rui")]),
            "CERTIFICATE_NAME",
        ),
        "a DNS name besides": (_forged(stage, names=[*_names(stage), dns]), "CERTIFICATE_NAME"),
        "a common name alone": (_forged(stage, names=[]), "CERTIFICATE_NAME"),
        "no extended key usage": (_forged(stage, extended=()), "CERTIFICATE_USAGE"),
        "may only serve": (_forged(stage, extended=[SERVER]), HANDSHAKE),
        "a CA": (_forged(stage, constraints=ca), "CERTIFICATE_USAGE"),
    }
    outcomes = {
        name: _met(met, "GetStats", _call(stage, make())) for name, (make, _) in cases.items()
    }
    assert outcomes == {name: expected for name, (_, expected) in cases.items()}


def test_forged_nodes_do_not_get_in_as_persons(
    stage: HostileFederation, met: Counter[tuple[str, str]]
) -> None:
    for case in hostile_cases(stage.world):
        assert _met(met, "GetStats", _call(stage, hostile_identity(case))) != ACCEPTED, case.name


def test_a_person_who_was_revoked_or_replaced_is_out(
    stage: HostileFederation, met: Counter[tuple[str, str]], tmp_path: Path
) -> None:
    node = stage.node

    def profile(file: str) -> tuple[str, ...]:
        node.run("operator", "add", "rui", "--role", "analyst", "--out", tmp_path / file).ok()
        return ("--profile", str(tmp_path / file))

    first = profile("first.json")
    assert tieline("hashes", "stats", *first).code == 0
    second = profile("second.json")
    for who, words in ((first, "replaced"), (second, "")):
        result = tieline("hashes", "stats", *who)
        assert result.code == (3 if words else 0)
        assert words in result.err
    node.run("operator", "revoke", "rui").ok()
    result = tieline("hashes", "stats", *second)
    assert (result.code, result.err.count("\n")) == (3, 1)
    assert "no access" in result.err
    met["GetStats", "CERTIFICATE_REVOKED"] += 2


# --- afterwards -----------------------------------------------------------------------------------


def test_a_flood_is_counted_and_not_written_one_by_one(
    stage: HostileFederation, met: Counter[tuple[str, str]]
) -> None:
    case = next(one for one in hostile_cases(stage.world) if one.name == "another-agencys-ca")
    for _ in range(40):
        _met(met, "Hello", as_caller(stage, hostile_identity(case)))
    assert as_caller(stage, stage.rogues[OTHER].identity) == ACCEPTED


def test_the_node_served_on_and_logged_every_refusal(
    stage: HostileFederation, rows: dict[str, Row], met: Counter[tuple[str, str]]
) -> None:
    node = stage.node
    assert rows
    assert node.stats()["items"] == 0
    assert node.inbox() == []
    assert "Traceback" not in node.log.read_text("utf-8", "replace")
    assert node.stop() == 0
    leaves = [json.loads(row[0]) for row in node.rows("select leaf from audit_leaves")]
    entries = [leaf for leaf in leaves if leaf["action"] == "refusal"]
    logged: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        detail = entry["detail"]
        assert detail["reason"] == "UNTRUSTED"
        # Who did not prove itself is nobody; whom it claimed to be stands apart.
        assert entry["peer"] == entry["person"] == ""
        logged[detail["method"].rpartition("/")[2], detail["check"]] += detail["count"]
    assert logged == met
    # One entry for each claim, reason and minute: far fewer than calls.
    flood = [e["detail"]["count"] for e in entries if e["detail"]["check"] == "CERTIFICATE_ISSUER"]
    assert max(flood) >= 20
    assert len(entries) <= len(met) * 8
    node.start()
    assert node.run("audit", "verify").ok().json["verified"]
