"""Who is let in, on which port, to which method (threats.md 10 to 12, 16)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tieline.v1 import exchange_pb2, exchange_pb2_grpc, operator_pb2, operator_pb2_grpc
from tieline_client import limits, tls
from tieline_client.identifiers import SpiffeId
from tieline_server.rpc.call import Caller, caller_of
from tieline_server.rpc.identity import PeerIdentifier
from tieline_server.rpc.methods import Listener

from tests.rpc.guarded import (
    EXCHANGE,
    FBI,
    FEDERATION,
    ICE,
    OPERATOR,
    OWN,
    PATIENCE,
    SECONDS,
    Listening,
    World,
    error_infos,
    listening,
    only_reason,
    raw,
)
from tests.trust.forging import CLIENT, Forger, node_names
from tests.trust.forging import World as ForgingWorld

HELLO = exchange_pb2.HelloRequest(nonce=bytes(range(32)), wire_version="v1.0")


def hello(channel: grpc.Channel) -> Any:
    return exchange_pb2_grpc.ExchangeServiceStub(channel).Hello(HELLO, timeout=SECONDS)


def refused(channel: grpc.Channel) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        hello(channel)
    return only_reason(caught.value)


def forged(world: World, **overrides: Any) -> tls.Identity:
    ice = world.agencies[ICE].node_ca
    frame = ForgingWorld(FEDERATION, world.now, ice, world.agencies[ICE].operator_ca, ice)
    leaf = Forger(frame, ice.certificate, ice.key).leaf(ICE, **overrides)
    return tls.Identity(leaf.pem, leaf.key_pem)


def test_a_member_is_served_and_named(federation_port: Listening, world: World) -> None:
    seen: list[Caller] = []

    def on_hello(_request: Any, context: Any) -> Any:
        seen.append(caller_of(context))
        assert 0 < context.time_left() <= limits.HELLO_SECONDS * PATIENCE
        return exchange_pb2.HelloResponse()

    federation_port.exchange.on_hello = on_hello
    with federation_port.peer() as channel:
        hello(channel)
    leaf = world.agencies[ICE].leaf
    (caller,) = seen
    assert (caller.agency, caller.operator, caller.roles) == (ICE, None, frozenset())
    assert caller.serial == leaf.serial_number
    assert federation_port.refusals == []


def test_without_a_certificate_there_is_no_connection(federation_port: Listening) -> None:
    roots = tls.to_pem([federation_port.world.agencies[OWN].node_ca.der])
    credentials = grpc.ssl_channel_credentials(roots)
    options = tls.channel_options(f"{OWN}.{FEDERATION}.invalid")
    with (
        grpc.secure_channel(federation_port.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        hello(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert federation_port.exchange.bodies == 0


def test_in_plain_text_there_is_no_connection(federation_port: Listening) -> None:
    with (
        grpc.insecure_channel(federation_port.address) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        hello(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("overrides", "check"),
    [
        ({"extended": ()}, "CERTIFICATE_USAGE"),
        ({"names": [x509.DNSName("us-ice.demo.invalid")]}, "CERTIFICATE_NAME"),
        (
            {"names": node_names(FBI, FEDERATION)},
            "CERTIFICATE_ISSUER",
        ),
        (
            {"names": [x509.UniformResourceIdentifier(str(SpiffeId(FEDERATION, ICE, "eve")))],
             "extended": (CLIENT,)},
            "CERTIFICATE_KIND",
        ),
    ],
    ids=["no usage", "no uri", "another agency's name", "a person's"],
)  # fmt: skip
def test_what_the_handshake_lets_through_is_refused(
    federation_port: Listening, world: World, overrides: dict[str, Any], check: str
) -> None:
    with federation_port.channel(forged(world, **overrides)) as channel:
        assert refused(channel) == (grpc.StatusCode.UNAUTHENTICATED, "UNTRUSTED", check)
    (refusal,) = federation_port.refusals
    assert (refusal.peer, refusal.reason, refusal.check) == ("", "UNTRUSTED", check)
    assert refusal.method == f"{EXCHANGE}/Hello"
    assert refusal.at == world.now
    claimed = {"CERTIFICATE_NAME": "", "CERTIFICATE_ISSUER": FBI}
    assert refusal.claimed == claimed.get(check, ICE)
    assert federation_port.exchange.bodies == 0


def test_a_revocation_holds_from_the_next_call_on_an_open_connection(
    federation_port: Listening, world: World
) -> None:
    serial = world.agencies[ICE].leaf.serial_number
    with federation_port.peer() as channel, federation_port.peer(FBI) as other:
        hello(channel)
        world.revise(revoked_serials={ICE: {serial}})
        assert refused(channel)[2] == "CERTIFICATE_REVOKED"
        hello(other)
        world.revise(
            revoked_serials={},
            members=tuple(
                member.model_copy(update={"revoked": member.agency == FBI})
                for member in world.directory.members
            ),
        )
        hello(channel)
        assert refused(other)[1] == "UNTRUSTED"


def test_a_leaf_that_expires_ends_on_an_open_connection(
    federation_port: Listening, world: World
) -> None:
    with federation_port.peer() as channel:
        hello(channel)
        world.now += timedelta(days=8)
        assert refused(channel)[2] == "CERTIFICATE_EXPIRED"


def test_past_the_directorys_expiry_peers_are_refused_and_named(
    federation_port: Listening, world: World
) -> None:
    world.revise(expires=world.now)
    with federation_port.peer() as channel:
        assert refused(channel) == (grpc.StatusCode.FAILED_PRECONDITION, "DIRECTORY_EXPIRED", "")
    assert federation_port.refusals[0].peer == ICE
    assert federation_port.exchange.bodies == 0


def test_people_and_nodes_do_not_get_past_the_others_handshake(
    federation_port: Listening, operator_port: Listening
) -> None:
    with (
        federation_port.person() as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        hello(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    with (
        operator_port.peer(OWN) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        raw(channel, f"{OPERATOR}/GetStats")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert federation_port.exchange.bodies == operator_port.people.bodies == 0


def test_people_and_nodes_are_refused_where_the_handshake_knows_their_ca(world: World) -> None:
    both = [world.agencies[OWN].operator_ca.der, world.agencies[OWN].node_ca.der]
    with listening(world, caller_cas=both) as port, port.person() as channel:
        assert refused(channel) == (
            grpc.StatusCode.UNAUTHENTICATED,
            "UNTRUSTED",
            "CERTIFICATE_KIND",
        )
    with listening(world, Listener.OPERATOR, caller_cas=both) as port, port.peer(OWN) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{OPERATOR}/GetStats")
        assert only_reason(caught.value)[2] == "CERTIFICATE_KIND"
        assert port.people.bodies == 0


def test_a_person_is_known_by_name_and_roles(operator_port: Listening) -> None:
    with operator_port.person("rui") as channel:
        stub = operator_pb2_grpc.OperatorServiceStub(channel)
        assert stub.GetStats(operator_pb2.GetStatsRequest(), timeout=SECONDS).items == 3
    (caller,) = operator_port.people.seen
    assert (caller.agency, caller.operator) == (OWN, "rui")
    assert caller.roles == {"analyst", "officer", "auditor", "admin"}
    assert caller.key == f"{OWN}/rui"


def test_a_role_that_a_person_lacks_is_refused(operator_port: Listening) -> None:
    request = operator_pb2.ReferSeriesRequest(series="x", urgency=1)
    with operator_port.person("ana") as channel, pytest.raises(grpc.RpcError) as caught:
        operator_pb2_grpc.OperatorServiceStub(channel).ReferSeries(request, timeout=SECONDS)
    assert only_reason(caught.value) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_REFUSED", "")
    assert "officer" in str(caught.value.details())
    (refusal,) = operator_port.refusals
    assert (refusal.peer, refusal.person, refusal.reason) == (OWN, "ana", "ROLE_REFUSED")
    assert operator_port.people.bodies == 0
    with operator_port.person("rui") as channel:
        operator_pb2_grpc.OperatorServiceStub(channel).ReferSeries(request, timeout=SECONDS)


def test_roles_are_those_of_now(operator_port: Listening, world: World) -> None:
    with operator_port.person("rui") as channel:
        raw(channel, f"{OPERATOR}/ReferSeries")
        world.operators["rui"] = replace(world.operators["rui"], roles=("auditor",))
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{OPERATOR}/ReferSeries")
    assert only_reason(caught.value)[1] == "ROLE_REFUSED"


@pytest.mark.parametrize("change", ["revoked", "replaced", "unknown"])
def test_a_person_without_access_is_refused(
    operator_port: Listening, world: World, change: str
) -> None:
    ana = world.operators["ana"]
    with operator_port.person("ana") as channel:
        raw(channel, f"{OPERATOR}/GetStats")
        if change == "revoked":
            world.operators["ana"] = replace(ana, revoked=world.now)
        elif change == "replaced":
            world.operators["ana"] = replace(ana, serials=(ana.serials[0] + 1,))
        else:
            del world.operators["ana"]
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{OPERATOR}/GetStats")
    assert only_reason(caught.value) == (
        grpc.StatusCode.UNAUTHENTICATED,
        "UNTRUSTED",
        "CERTIFICATE_REVOKED",
    )


def test_people_work_past_the_directorys_expiry(operator_port: Listening, world: World) -> None:
    world.revise(expires=world.now)
    with operator_port.person() as channel:
        raw(channel, f"{OPERATOR}/GetStats")


@pytest.mark.parametrize(
    "method",
    [
        f"{EXCHANGE}/Nothing",
        "/tieline.v1.NoService/Hello",
        f"{OPERATOR}/GetStats",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.health.v1.Health/Watch",
        "/" + "x" * 4000,
    ],
)
def test_an_unknown_method_is_told_with_one_reason(federation_port: Listening, method: str) -> None:
    with federation_port.peer() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, method, b"\xff" * 100)
        assert only_reason(caught.value) == (
            grpc.StatusCode.UNIMPLEMENTED,
            "UNKNOWN_METHOD",
            "",
        )
        with pytest.raises(grpc.RpcError) as caught:
            list(channel.stream_stream(method, None, None)(iter([b"a"] * 3), timeout=SECONDS))
        assert only_reason(caught.value)[1] == "UNKNOWN_METHOD"
        hello(channel)
    assert {refusal.peer for refusal in federation_port.refusals} == {ICE}
    assert max(len(refusal.method) for refusal in federation_port.refusals) <= 200


def test_a_stranger_does_not_learn_which_methods_exist(
    federation_port: Listening, world: World
) -> None:
    with federation_port.channel(forged(world, extended=())) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{EXCHANGE}/Nothing")
        assert only_reason(caught.value)[1] == "UNTRUSTED"


def test_a_served_method_without_a_row_is_denied(world: World) -> None:
    with listening(world, without=f"{EXCHANGE}/Hello") as port, port.peer() as channel:
        assert refused(channel)[1] == "UNKNOWN_METHOD"
        assert port.exchange.bodies == 0


def test_health_answers_on_both_ports(
    federation_port: Listening, operator_port: Listening, world: World
) -> None:
    served = health_pb2.HealthCheckResponse
    for port, channel in (
        (federation_port, federation_port.peer()),
        (operator_port, operator_port.person()),
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest()
        assert stub.Check(request, timeout=SECONDS).status == served.SERVING
        port.endpoint.set_serving(False)
        assert stub.Check(request, timeout=SECONDS).status == served.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x"), timeout=SECONDS)
        assert only_reason(caught.value)[:2] == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="x" * 5000), timeout=SECONDS)
        assert only_reason(caught.value)[1] == "MALFORMED_MESSAGE"
        channel.close()
    with federation_port.channel(forged(world, extended=())) as stranger:
        with pytest.raises(grpc.RpcError) as caught:
            health_pb2_grpc.HealthStub(stranger).Check(request, timeout=SECONDS)
        assert len(error_infos(caught.value)) == 1


def test_a_directory_is_read_anew_for_each_call(world: World) -> None:
    reads = 0

    def directory() -> Any:
        nonlocal reads
        reads += 1
        return world.directory

    identifier = PeerIdentifier(directory, world.clock)
    with listening(world, identifier=identifier) as port, port.peer() as channel:
        before = reads
        hello(channel)
        assert reads > before
