"""Leaves change under load: real nodes, calls all the while, no restart and not one call lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tieline.v1 import exchange_pb2, exchange_pb2_grpc
from tieline_client import keys, tls
from tieline_client.certificates import Kind
from tieline_client.identifiers import dns_name
from tieline_client.profile import utc_now
from tieline_server.config import Home
from tieline_server.trust.authority import (
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
    load_agency_authority,
)

from tests.e2e.federation import Federation, Node, tieline, wait_for
from tests.e2e.rogue import SECONDS, Rogue
from tests.e2e.tls_look import served_serial

ASKING, ASKED, CALLER = "pt-pj", "es-gc", "fr-pn"
EXCHANGES = 3


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("renewal")).found()
    for agency, country in ((ASKING, "PT"), (ASKED, "ES"), (CALLER, "FR")):
        # However fast the machine: what is not limited here is not lost.
        made.init(agency, "national", country, peer_calls_per_second=1e6)
    for node in made:
        made.join(node)
    try:
        yield made.start(ASKING, ASKED)
    finally:
        made.close()


def _served(trial: Federation, agency: str) -> int:
    rogue = Rogue(trial[CALLER], trial.name)
    return served_serial(
        trial[agency].address,
        dns_name(agency, trial.name),
        rogue.identity,
        list(rogue.directory.member(agency).node_cas),
    )


def _look(node: Node) -> None:
    assert node.process is not None
    node.process.send_signal(signal.SIGHUP)


class Load(threading.Thread):
    """Calls without a pause until told to stop; keeps what failed."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.done = 0
        self.failures: list[str] = []
        self.enough = threading.Event()

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - it is what the test is about
                self.failures.append(f"{type(error).__name__}: {error}")
            self.done += 1


def _shows(trial: Federation, agency: str, serial: int) -> bool:
    return _served(trial, agency) == serial


def _went_on(loads: list[Load], counts: list[int]) -> bool:
    return all(load.done > count for load, count in zip(loads, counts, strict=True))


def test_leaves_change_under_load_and_no_call_is_lost(trial: Federation, tmp_path: Path) -> None:
    asked = tmp_path / "list.txt"
    asked.write_text("".join(f"sha1:{number:040x}\n" for number in range(1, 5_000)))
    rogue = Rogue(trial[CALLER], trial.name)
    hello = exchange_pb2.HelloRequest(nonce=bytes(32), wire_version="v1.1")

    def question() -> None:
        result = trial[ASKING].ask(asked, "--peer", ASKED)
        (peer,) = result.json["peers"]
        assert peer["status"] == "answered", peer

    standing = rogue.channel(trial[ASKED])
    stub: Any = exchange_pb2_grpc.ExchangeServiceStub(standing)

    def on_one_connection() -> None:
        stub.Hello(hello, timeout=SECONDS)

    def on_a_new_connection() -> None:
        with rogue.channel(trial[ASKED]) as channel:
            other: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
            other.Hello(hello, timeout=SECONDS)

    loads = [Load(one) for one in (question, on_one_connection, on_a_new_connection)]
    serials = {agency: [_served(trial, agency)] for agency in (ASKING, ASKED)}
    for load in loads:
        load.start()
    with standing:
        for _ in range(EXCHANGES):
            counts = [load.done for load in loads]
            for agency in (ASKED, ASKING):
                node = trial[agency]
                shown = tieline("node", "renew", node.home, "--json").ok().json
                _look(node)
                serial = int(shown["serial"], 16)
                wait_for(f"{agency} shows the new leaf", partial(_shows, trial, agency, serial))
                serials[agency].append(serial)
            wait_for("each load has gone on", partial(_went_on, loads, counts))
        for load in loads:
            load.enough.set()
            load.join()
    assert [load.failures for load in loads] == [[], [], []]
    assert all(len(set(seen)) == EXCHANGES + 1 for seen in serials.values())
    for node in (trial[ASKED], trial[ASKING]):
        assert node.running
        assert "Traceback" not in node.log.read_text("utf-8", "replace")
        entries = node.audit("--action", "leaf.renewed")
        assert len(entries) == EXCHANGES


def _ca(node: Node, kind: Kind) -> Any:
    home = Home(node.home)
    name = f"{kind.value}-ca"
    return load_agency_authority(
        kind,
        "trial-eu",
        node.agency,
        (home.certs / f"{name}.pem").read_bytes(),
        keys.load(home.keys / f"{name}.key"),
    )


def _pem(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return path


def test_a_leaf_of_an_offline_ca_is_asked_for_checked_and_imported(
    trial: Federation, tmp_path: Path
) -> None:
    node, other = trial[ASKED], trial[ASKING]
    home = Home(node.home)
    own, operators = _ca(node, Kind.NODE), _ca(node, Kind.OPERATOR)
    away = tmp_path / "offline.key"
    (home.keys / "node-ca.key").rename(away)
    try:
        asked = tieline("node", "renew", node.home, "--json").ok().json
        assert asked["serial"] is None
        request = x509.load_pem_x509_csr(Path(asked["request"]).read_bytes())
        assert request.is_signature_valid
        assert Path(asked["request"]).stat().st_mode & 0o777 == 0o600
        key, now, life = request.public_key(), utc_now(), timedelta(days=60)
        assert isinstance(key, keys.PublicKey)
        before = home.node_leaf.read_bytes()
        stranger = create_authority(Kind.NODE, trial.name, ASKED, keys.generate(), now=now)
        refused = {
            "CERTIFICATE_ISSUER": issue_node_leaf(stranger, key, now=now),
            "CERTIFICATE_AGENCY": issue_node_leaf(_ca(other, Kind.NODE), key, now=now),
            "CERTIFICATE_EXPIRED": issue_node_leaf(
                own, key, now=now - timedelta(hours=2), life=timedelta(hours=1)
            ),
            "CERTIFICATE_NOT_YET_VALID": issue_node_leaf(own, key, now=now + timedelta(hours=27)),
            "CERTIFICATE_NAME|CERTIFICATE_KIND": issue_operator_leaf(
                operators, "eve", key, now=now
            ),
            "another key": issue_node_leaf(own, keys.generate().public_key(), now=now),
        }
        for words, certificate in refused.items():
            file = _pem(tmp_path / "refused.pem", certificate)
            result = tieline("node", "renew", node.home, "--import", file)
            assert result.code == 3, (words, result.err)
            assert any(word in result.err for word in words.split("|")), (words, result.err)
            assert result.err.count("\n") == 1
            assert home.node_leaf.read_bytes() == before
        (tmp_path / "junk.pem").write_text("not a certificate")
        assert tieline("node", "renew", node.home, "--import", tmp_path / "junk.pem").code == 3
        assert tieline("node", "renew", node.home, "--import", tmp_path / "none.pem").code == 1
        assert home.node_leaf.read_bytes() == before

        leaf = issue_node_leaf(own, key, now=now, life=life)
        file = _pem(tmp_path / "leaf.pem", leaf)
        taken = tieline("node", "renew", node.home, "--import", file, "--json").ok().json
        assert int(taken["serial"], 16) == leaf.serial_number
        assert not Path(asked["request"]).exists()
        _look(node)
        wait_for("the new leaf is shown", lambda: _served(trial, ASKED) == leaf.serial_number)
        status = tieline("node", "status", node.home, "--json").ok().json
        assert status["leaf_expires"].startswith(f"{leaf.not_valid_after_utc:%Y-%m-%d}")
    finally:
        away.rename(home.keys / "node-ca.key")


def test_a_person_of_an_existing_pki_is_registered(trial: Federation, tmp_path: Path) -> None:
    node = trial[ASKED]
    key, stranger = keys.generate(), keys.generate()
    keys.save(tmp_path / "ana.key", key)
    keys.save(tmp_path / "other.key", stranger)
    authority = _ca(node, Kind.OPERATOR)
    leaf = issue_operator_leaf(authority, "ana", key.public_key(), now=utc_now())
    certificate = _pem(tmp_path / "ana.pem", leaf)

    def add(name: str, certificate: Path, key: str, out: str) -> Any:
        return node.run(
            *("operator", "add", name, "--role", "analyst", "--out", tmp_path / out),
            *("--certificate", certificate, "--key", tmp_path / key),
        )

    assert "does not belong" in add("ana", certificate, "other.key", "a.json").err
    refused = add("rui", certificate, "ana.key", "b.json")
    assert refused.code == 3
    assert "that of ana, not of rui" in refused.err
    foreign = issue_operator_leaf(
        _ca(trial[ASKING], Kind.OPERATOR), "ana", key.public_key(), now=utc_now()
    )
    refused = add("ana", _pem(tmp_path / "foreign.pem", foreign), "ana.key", "c.json")
    assert refused.code == 3
    assert not list(tmp_path.glob("?.json"))

    add("ana", certificate, "ana.key", "d.json").ok()
    assert tieline("hashes", "stats", "--profile", tmp_path / "d.json").code == 0
    listed = {one["name"]: one for one in node.run("operator", "list").ok().json["operators"]}
    assert listed["ana"]["expires"].startswith(f"{leaf.not_valid_after_utc:%Y-%m-%d}")


def test_a_node_whose_cas_are_elsewhere_from_the_start(trial: Federation, tmp_path: Path) -> None:
    """An agency with an existing PKI: no CA key ever comes to the node."""
    node = Node(tmp_path / "it-ps", "it-ps", 1, 1)
    made = {}
    for kind in (Kind.NODE, Kind.OPERATOR):
        authority = create_authority(kind, trial.name, "it-ps", keys.generate(), now=utc_now())
        made[kind] = authority
        _pem(tmp_path / f"{kind.value}.pem", authority.certificate)
    shown = tieline(
        *("node", "init", node.home, "--agency", "it-ps", "--name", "Unit", "--role", "national"),
        *("--country", "IT", "--listen", "127.0.0.1:17901", "--operator-listen", "127.0.0.1:17902"),
        *("--node-ca-certificate", tmp_path / "node.pem"),
        *("--operator-ca-certificate", tmp_path / "operator.pem", "--json"),
    ).ok()
    home = Home(node.home)
    assert sorted(path.name for path in home.keys.iterdir()) == [
        "audit.key",
        "directory.key",
        "node.key",
        "signing.key",
    ]
    trial.change(
        *("admit", home.request_file, "--role", "national", "--country", "IT"),
        *("--fingerprint", shown.json["fingerprint"]),
    )
    join = ("node", "join", node.home, "--federation", trial.authority / "public", "--json")
    joined = tieline(*join).ok().json
    assert joined["profile"] is None
    requests = [x509.load_pem_x509_csr(Path(one).read_bytes()) for one in joined["to_sign"]]
    assert len(requests) == 2
    unserved = tieline("node", "serve", node.home)
    assert unserved.code == 1
    assert "node renew HOME --import FILE" in unserved.err

    node_key, admin_key = (one.public_key() for one in requests)
    assert isinstance(node_key, keys.PublicKey) and isinstance(admin_key, keys.PublicKey)
    leaf = issue_node_leaf(made[Kind.NODE], node_key, now=utc_now())
    file = _pem(tmp_path / "it-leaf.pem", leaf)
    tieline("node", "renew", node.home, "--import", file).ok()
    admin = issue_operator_leaf(made[Kind.OPERATOR], "admin", admin_key, now=utc_now())
    file = _pem(tmp_path / "it-admin.pem", admin)
    joined = tieline(*join, "--operator-certificate", file).ok().json
    assert Path(joined["profile"]).stat().st_mode & 0o777 == 0o600
    assert not (home.operators / "admin.key").exists()
    try:
        node.start()
        assert tieline("hashes", "stats", "--home", node.home).code == 0
        refused = node.run("operator", "add", "eve", "--role", "analyst", "--out", tmp_path / "e")
        assert refused.code == 1
        assert "operator CA is not on this node" in refused.err
        assert tls.to_der(home.node_leaf.read_bytes())
    finally:
        if node.running:
            assert node.stop() == 0
