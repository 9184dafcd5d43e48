"""Every forged certificate against a running node and against the node's own client.

The certificates are those of tests/trust/hostile.py, made around the CAs of real homes. As caller
each meets both listeners of a node that serves on; as server each meets PeerClient, which must send
no content. docs/hostile-certificates.md has the table; this shows that the product's own guard and
client give the same outcomes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import (
    delivery_pb2,
    delivery_pb2_grpc,
    envelope_pb2,
    exchange_pb2,
    exchange_pb2_grpc,
    operator_pb2,
    operator_pb2_grpc,
)
from tieline_client import keys, tls
from tieline_client.certificates import Kind, LeafCache
from tieline_client.errors import TrustError, Unreachable
from tieline_client.peer_client import PeerClient
from tieline_client.profile import utc_now
from tieline_server.config import Home
from tieline_server.trust.authority import AgencyAuthority, load_agency_authority
from tieline_server.trust.directory_store import DirectoryStore
from tieline_server.trust.node_identity import NodeIdentity

from tests.e2e.federation import Federation, federation
from tests.trust.forging import World
from tests.trust.handshakes import hostile_identity
from tests.trust.hostile import HANDSHAKE, NOT_APPLICABLE, HostileCase, hostile_cases

VICTIM, OTHER = "pt-pj", "es-pn"
SECONDS = 10.0


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Two members; the victim has revoked one serial."""
    members = ((VICTIM, "national", "PT"), (OTHER, "national", "ES"))
    with federation(tmp_path_factory.mktemp("hostile"), members) as made:
        revoked = World.__dataclass_fields__["revoked_serial"].default
        made.change("revoke", VICTIM, "--serial", f"{revoked:x}")
        made.wait_directory()
        yield made


def _authority(made: Federation, agency: str, kind: Kind) -> AgencyAuthority:
    home = Home(made[agency].home)
    pem = (home.certs / f"{kind.value}-ca.pem").read_bytes()
    key = keys.load(home.keys / f"{kind.value}-ca.key")
    return load_agency_authority(kind, made.name, agency, pem, key)


@pytest.fixture(scope="module")
def world(nodes: Federation) -> World:
    """What the forger works with: the CAs of the real homes."""
    return World(
        federation=nodes.name,
        now=utc_now(),
        victim=_authority(nodes, VICTIM, Kind.NODE),
        victim_operators=_authority(nodes, VICTIM, Kind.OPERATOR),
        other=_authority(nodes, OTHER, Kind.NODE),
    )


@pytest.fixture(scope="module")
def cases(world: World) -> list[HostileCase]:
    """All of them."""
    made = hostile_cases(world)
    assert len(made) > 30
    return made


def _outcome(error: Any) -> str:
    """HANDSHAKE, or the check that the status's one ErrorInfo names."""
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return HANDSHAKE
    assert error.code() is grpc.StatusCode.UNAUTHENTICATED, error
    status = rpc_status.from_call(error)
    assert status is not None
    (detail,) = status.details
    info = error_details_pb2.ErrorInfo()
    assert detail.Unpack(info)
    assert (info.reason, info.domain) == ("UNTRUSTED", "tieline")
    return str(info.metadata["check"])


def _call_peer_port(address: str, world: World, identity: tls.Identity, server: str) -> str:
    authority = world.other if server == OTHER else world.victim
    with tls.node_channel(
        address, agency=server, federation=world.federation, roots=[authority.der],
        identity=identity,
    ) as channel:  # fmt: skip
        outcomes = set()
        calls: list[tuple[Any, Any]] = [
            (
                exchange_pb2_grpc.ExchangeServiceStub(channel).Hello,
                exchange_pb2.HelloRequest(nonce=bytes(32), wire_version="v1.0"),
            ),
            (
                delivery_pb2_grpc.DeliveryServiceStub(channel).Deliver,
                delivery_pb2.DeliverRequest(envelope=envelope_pb2.Envelope(), lane=3),
            ),
        ]
        for call, request in calls:
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=SECONDS)
            outcomes.add(_outcome(caught.value))
    (outcome,) = outcomes
    return outcome


def test_no_forged_caller_gets_in(
    nodes: Federation, world: World, cases: list[HostileCase]
) -> None:
    """Each gets what the table says, on every method; nothing of it has an effect."""
    node = nodes[OTHER]
    before = node.stats()
    expected, met = {}, {}
    for case in cases:
        if case.as_caller == NOT_APPLICABLE:
            continue
        expected[case.name] = case.as_caller
        met[case.name] = _call_peer_port(node.address, world, hostile_identity(case), OTHER)
    assert met == expected
    assert node.stats() == before
    assert node.inbox() == []
    # Others are served as before.
    with nodes[VICTIM].client() as client:
        assert client.get_status().agency == VICTIM
    file = nodes.root / "one.txt"
    file.write_text("ab" * 20 + "\n")
    (peer,) = nodes[VICTIM].ask(file, "--peer", OTHER).ok().json["peers"]
    assert peer["status"] == "answered"


def test_the_operator_port_takes_no_forged_person(
    nodes: Federation, world: World, cases: list[HostileCase]
) -> None:
    """No certificate of a node, real or forged, opens the port for people."""
    node = nodes[VICTIM]
    home = Home(node.home)
    identities = {case.name: hostile_identity(case) for case in cases}
    real = NodeIdentity(home.keys, home.certs, VICTIM, nodes.name).identity
    for name, identity in {"the node's own leaf": real, **identities}.items():
        with tls.node_channel(
            node.operator_address, agency=VICTIM, federation=nodes.name,
            roots=[world.victim.der], identity=identity,
        ) as channel:  # fmt: skip
            stub = operator_pb2_grpc.OperatorServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetStats(operator_pb2.GetStatsRequest(), timeout=SECONDS)
            assert _outcome(caught.value), name


def test_a_persons_certificate_is_no_nodes(nodes: Federation, world: World) -> None:
    """The real first operator's certificate does not open the federation port."""
    with nodes[VICTIM].client() as client:
        identity = client.profile.identity(None, utc_now())
    assert _call_peer_port(nodes[OTHER].address, world, identity, OTHER) == HANDSHAKE


class _Impostor(exchange_pb2_grpc.ExchangeServiceServicer):
    """Answers anything, and remembers what it was told."""

    def __init__(self) -> None:
        self.methods: list[str] = []

    def Hello(
        self, request: exchange_pb2.HelloRequest, context: grpc.ServicerContext
    ) -> exchange_pb2.HelloResponse:
        self.methods.append("Hello")
        return exchange_pb2.HelloResponse(proof=envelope_pb2.Envelope())

    def Overlap(
        self,
        request_iterator: Iterator[exchange_pb2.OverlapRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        self.methods.append("Overlap")
        return iter(())


@contextlib.contextmanager
def _impostor(identity: tls.Identity, caller_cas: list[bytes]) -> Iterator[tuple[_Impostor, str]]:
    servicer = _Impostor()
    server = grpc.server(futures.ThreadPoolExecutor(2), options=tls.server_options())
    exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(servicer, server)
    material = tls.ServerMaterial(identity, tuple(caller_cas))
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(lambda: material))
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def test_no_forged_server_is_told_anything(
    nodes: Federation, world: World, cases: list[HostileCase]
) -> None:
    """The node's client sends at most a Hello, which holds nothing but a nonce and versions."""
    home = Home(nodes[OTHER].home)
    identity = NodeIdentity(home.keys, home.certs, OTHER, nodes.name).identity
    directory = DirectoryStore(home.path)
    for case in cases:
        if case.as_server == NOT_APPLICABLE:
            continue
        agency = case.agency if case.agency in nodes.nodes else VICTIM
        with _impostor(hostile_identity(case), [world.other.der]) as (impostor, address):
            client = PeerClient(
                own_agency=OTHER,
                agency=agency,
                endpoints=[address],
                directory=directory.current,
                identity=identity,
                leaves=LeafCache(nodes.name),
                clock=utc_now,
            )
            with contextlib.closing(client), pytest.raises((TrustError, Unreachable)):
                list(client.overlap(envelope_pb2.Envelope(), [], SECONDS))
            assert set(impostor.methods) <= {"Hello"}, case.name
            if case.as_server == HANDSHAKE:
                assert impostor.methods == [], case.name


def test_the_refusals_are_in_the_log(
    nodes: Federation, cases: list[HostileCase], tmp_path: Path
) -> None:
    """Counted by who, what and why; written at the latest when the node stops."""
    node = nodes[OTHER]
    node.stop()
    leaves = [json.loads(row[0]) for row in node.rows("select leaf from audit_leaves")]
    node.start()
    refusals = [leaf["detail"] for leaf in leaves if leaf["action"] == "refusal"]
    expected = {case.as_caller for case in cases} - {HANDSHAKE, NOT_APPLICABLE}
    assert expected <= {detail["check"] for detail in refusals}
    assert all(detail["reason"] and detail["count"] >= 1 for detail in refusals)
    assert node.run("audit", "verify").ok().json["verified"]
