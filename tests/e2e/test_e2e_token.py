"""A running node whose CA keys live in a PKCS#11 token (SoftHSM2): from init to leaf renewal."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys
from tieline_client.certificates import Kind
from tieline_client.identifiers import dns_name
from tieline_client.profile import utc_now
from tieline_client.tls import Identity
from tieline_server.config import Home
from tieline_server.trust.authority import AgencyAuthority, issue_node_leaf
from tieline_server.trust.token_key import TokenKey, TokenUri

from tests.e2e.federation import Federation, Node, tieline, wait_for
from tests.e2e.tls_look import served_serial
from tests.trust.softhsm import PIN, Token, the_token

AGENCY = "pt-pj"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return the_token(tmp_path_factory)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, token: Token) -> Iterator[Federation]:
    """One member; both its CA keys are in the token from the start."""
    federation = Federation(tmp_path_factory.mktemp("token-node")).found()
    node = federation.init(
        *(AGENCY, "national", "PT"),
        node_ca_key=token.uri("node-ca"),
        operator_ca_key=token.uri("operator-ca"),
    )
    federation.join(node)
    node.start()
    try:
        yield federation
    finally:
        federation.close()


def _leaf_of(node: Node) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Home(node.home).node_leaf.read_bytes())


def _authority(node: Node, token: Token, federation: str) -> AgencyAuthority:
    pem = (Home(node.home).certs / "node-ca.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate(pem)
    key = TokenKey(TokenUri.parse(token.uri("node-ca")))
    return AgencyAuthority(Kind.NODE, federation, node.agency, certificate, key)


def _served(node: Node, federation: str) -> int:
    home = Home(node.home)
    ca = x509.load_pem_x509_certificate((home.certs / "node-ca.pem").read_bytes())
    shown = Identity(
        home.node_leaf.read_bytes(), keys.private_pem(keys.load(home.keys / "node.key"))
    )
    roots = [ca.public_bytes(Encoding.DER)]
    return served_serial(node.address, dns_name(node.agency, federation), shown, roots)


def _half_spent(node: Node, token: Token, federation: str) -> int:
    """Put a leaf into the home that is past its half-life; return its serial number."""
    public = _leaf_of(node).public_key()
    assert isinstance(public, keys.PublicKey)
    authority = _authority(node, token, federation)
    before = utc_now() - timedelta(minutes=31)  # 29 are left of its hour
    leaf = issue_node_leaf(authority, public, now=before, life=timedelta(hours=1))
    Home(node.home).node_leaf.write_bytes(leaf.public_bytes(Encoding.PEM))
    return leaf.serial_number


def test_no_ca_key_is_in_the_home_and_the_token_certifies_people(
    made: Federation, token: Token, tmp_path: Path
) -> None:
    node = made[AGENCY]
    assert not list((node.home / "keys").glob("*-ca*.key"))
    key = TokenKey(TokenUri.parse(token.uri("node-ca"))).public_key()
    ca = x509.load_pem_x509_certificate((node.home / "certs" / "node-ca.pem").read_bytes())
    assert ca.public_key() == key
    assert node.stats()["items"] == 0
    out = tmp_path / "ana.json"
    node.run("operator", "add", "ana", "--role", "analyst", "--out", out).ok()
    assert tieline("hashes", "stats", "--profile", out).code == 0


def test_the_leaf_renews_itself_with_the_key_in_the_token(made: Federation, token: Token) -> None:
    node = made[AGENCY]
    first, spent = _leaf_of(node).serial_number, _half_spent(node, token, made.name)
    node.hurry()
    wait_for("it is taken up", lambda: _served(node, made.name) != first)
    node.hurry()  # the next look finds it half spent

    def renewed() -> int:
        serial = _leaf_of(node).serial_number
        return serial if serial not in (first, spent) and _served(node, made.name) == serial else 0

    serial = wait_for("a leaf of the token is shown", renewed)
    leaf = _leaf_of(node)
    leaf.verify_directly_issued_by(_authority(node, token, made.name).certificate)
    assert leaf.not_valid_after_utc > utc_now() + timedelta(days=6)
    logged = [entry["detail"]["serial"] for entry in node.audit("--action", "leaf.renewed")]
    assert f"{serial:x}" in logged and f"{spent:x}" in logged
    assert node.running and "Traceback" not in node.log.read_text("utf-8", "replace")


def test_while_the_token_is_out_the_node_serves_on_and_says_so(
    made: Federation, token: Token
) -> None:
    node = made[AGENCY]
    away = token.pin_file.with_name("pin-away")
    spent = _half_spent(node, token, made.name)
    token.pin_file.rename(away)
    try:
        node.hurry()
        wait_for("it is taken up", lambda: _served(node, made.name) == spent)
        node.hurry()

        def said() -> bool:
            status = tieline("node", "status", node.home, "--json").ok().json
            return any("cannot be renewed" in one for one in status["warnings"])

        wait_for("the status says so", said)
        assert _served(node, made.name) == spent and node.stats()["items"] == 0
        refused = node.run(
            *("operator", "add", "rui", "--role", "analyst", "--out", node.home.with_name("r")),
        )
        assert refused.code == 1 and refused.err.count("\n") == 1
        assert "rui" not in [
            one["name"] for one in node.run("operator", "list").ok().json["operators"]
        ]
    finally:
        away.rename(token.pin_file)
    # With the token back, by hand at once, or by itself ten minutes later.
    told = tieline("node", "renew", node.home, "--json").ok().json
    node.hurry()
    serial = int(told["serial"], 16)
    wait_for("the new leaf is shown", lambda: _served(node, made.name) == serial)
    for text in (node.log.read_text("utf-8", "replace"), refused.err, str(told)):
        assert PIN not in text
