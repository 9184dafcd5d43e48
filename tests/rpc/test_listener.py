"""One listener: its port, its caps, what grpc-core refuses by itself (threats.md 16, 17)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from tieline.v1 import envelope_pb2, exchange_pb2
from tieline_client import limits, tls
from tieline_client.errors import ConfigurationError, LimitExceeded
from tieline_client.identifiers import dns_name
from tieline_client.status import from_rpc_error
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.identity import PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.server import build_server

from tests.rpc.guarded import (
    EXCHANGE,
    FBI,
    FEDERATION,
    ICE,
    OWN,
    SECONDS,
    Listening,
    World,
    error_infos,
    exchange,
    listening,
    only_reason,
    raw,
)

HELLO = exchange_pb2.HelloRequest(nonce=bytes(range(32)), wire_version="v1.0")
HEADER = exchange_pb2.OverlapRequest(header=envelope_pb2.Envelope(payload_type="t"))

_BOMB = """
import json, sys
import grpc
import tieline_client
material = json.load(sys.stdin)
credentials = grpc.ssl_channel_credentials(
    material["roots"].encode(), material["key"].encode(), material["leaf"].encode())
options = [("grpc.ssl_target_name_override", material["name"]),
           ("grpc.max_send_message_length", -1)]
size, compression = material["size"], grpc.Compression[material["compression"]]
with grpc.secure_channel(material["address"], credentials, options, compression) as channel:
    method = channel.unary_unary(material["method"], None, None)
    for _ in range(2):
        try:
            method(bytes(size), timeout=600)
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)
"""


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("size", "compression"),
    [(200 * 1024 * 1024, "Gzip"), (limits.MESSAGE_BYTES + 1, "NoCompression")],
)
def test_an_oversized_message_is_refused_by_grpc_itself_with_flat_memory(
    federation_port: Listening, world: World, size: int, compression: str
) -> None:
    ice = world.agencies[ICE].identity
    material = {
        "roots": tls.to_pem([world.agencies[OWN].node_ca.der]).decode(),
        "key": ice.key_pem.decode(),
        "leaf": ice.leaf_pem.decode(),
        "name": dns_name(OWN, FEDERATION),
        "address": federation_port.address,
        "method": f"{EXCHANGE}/Hello",
        "size": size,
        "compression": compression,
    }
    with federation_port.peer(FBI) as other:
        exchange(other).Hello(HELLO, timeout=SECONDS)
        Path("/proc/self/clear_refs").write_text("5")
        before = _peak_kib()
        # The sender is a process of its own, so that its memory is not taken for the node's.
        sender = subprocess.Popen(
            [sys.executable, "-c", _BOMB],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        try:
            assert sender.stdin is not None
            sender.stdin.write(json.dumps(material))
            sender.stdin.close()
            sender.stdin = None
            while sender.poll() is None:
                exchange(other).Hello(HELLO, timeout=SECONDS)
                with suppress(subprocess.TimeoutExpired):  # and leave the sender the processor
                    sender.wait(0.05)
            output, _ = sender.communicate(timeout=SECONDS)
        finally:
            sender.kill()
            sender.wait()
        assert output.split() == ["RESOURCE_EXHAUSTED"] * 2
        assert _peak_kib() - before < 48 * 1024


def test_what_grpc_refuses_is_told_in_our_words(federation_port: Listening) -> None:
    options = [
        *tls.channel_options(dns_name(OWN, FEDERATION)),
        ("grpc.max_send_message_length", -1),
    ]
    ice = federation_port.world.agencies[ICE].identity
    roots = tls.to_pem([federation_port.world.agencies[OWN].node_ca.der])
    credentials = grpc.ssl_channel_credentials(roots, ice.key_pem, ice.leaf_pem)
    with (
        grpc.secure_channel(federation_port.address, credentials, options) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        raw(channel, f"{EXCHANGE}/Hello", bytes(limits.MESSAGE_BYTES + 1))
    assert error_infos(caught.value) == []
    assert isinstance(from_rpc_error(caught.value), LimitExceeded)
    assert federation_port.exchange.bodies == 0


def test_a_message_at_the_cap_arrives(federation_port: Listening) -> None:
    with federation_port.peer() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{EXCHANGE}/Hello", bytes(limits.MESSAGE_BYTES))
        # It came as far as the parser.
        assert only_reason(caught.value)[1] == "MALFORMED_MESSAGE"


def test_oversized_headers_are_refused(federation_port: Listening) -> None:
    metadata = (("x-flood", "y" * (limits.METADATA_BYTES + 1)),)
    with federation_port.peer() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            exchange(channel).Hello(HELLO, timeout=SECONDS, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        exchange(channel).Hello(HELLO, timeout=SECONDS)
    assert federation_port.exchange.bodies == 1


def test_a_second_node_on_the_same_port_does_not_start(
    federation_port: Listening, world: World
) -> None:
    material = tls.ServerMaterial(world.agencies[OWN].identity, (world.agencies[OWN].node_ca.der,))
    credentials = tls.server_credentials(lambda: material)
    with pytest.raises(ConfigurationError, match="in use, perhaps by another node") as caught:
        build_server(federation_port.address, credentials, [], [])
    assert federation_port.address in caught.value.message
    with federation_port.peer() as channel:
        exchange(channel).Hello(HELLO, timeout=SECONDS)


def test_an_address_that_is_none_does_not_start(world: World) -> None:
    material = tls.ServerMaterial(world.agencies[OWN].identity, (world.agencies[OWN].node_ca.der,))
    credentials = tls.server_credentials(lambda: material)
    for address in ("203.0.113.9:7443", "no-such-host.invalid:1", "127.0.0.1:99999"):
        with pytest.raises(ConfigurationError, match="cannot listen"):
            build_server(address, credentials, [], [])


def test_open_calls_may_end_before_the_listener_does(world: World) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(*_: Any) -> Any:
        inside.set()
        leave.wait(SECONDS)
        return exchange_pb2.HelloResponse()

    with listening(world) as port, port.peer() as channel:
        port.exchange.on_hello = slow
        call = exchange(channel).Hello.future(HELLO, timeout=SECONDS)
        assert inside.wait(SECONDS)
        stopping = threading.Thread(target=port.endpoint.stop, args=(SECONDS,))
        stopping.start()
        leave.set()
        assert call.result() == exchange_pb2.HelloResponse()
        stopping.join(SECONDS)
        assert not stopping.is_alive()
        with pytest.raises(grpc.RpcError) as caught:
            exchange(channel).Hello(HELLO, timeout=2)
        assert caught.value.code() in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )


def test_stopping_cuts_off_what_does_not_end(world: World) -> None:
    closed = threading.Event()

    def stuck(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        try:
            for _ in requests:
                yield exchange_pb2.OverlapResponse()
        finally:
            closed.set()

    with listening(world) as port, port.peer() as channel:
        port.exchange.on_overlap = stuck
        hold = threading.Event()

        def requests() -> Iterator[Any]:
            yield HEADER
            hold.wait(SECONDS)

        call = exchange(channel).Overlap(requests(), timeout=SECONDS)
        next(call)
        port.endpoint.stop(0)
        assert closed.wait(SECONDS)
        with pytest.raises(grpc.RpcError):
            list(call)
        hold.set()


def test_silent_connections_do_not_keep_others_out(federation_port: Listening) -> None:
    address = ("127.0.0.1", federation_port.endpoint.port)
    silent = [socket.create_connection(address, timeout=SECONDS) for _ in range(300)]
    try:
        for connection in silent[::3]:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with federation_port.peer() as channel:
            exchange(channel).Hello(HELLO, timeout=SECONDS)
    finally:
        for connection in silent:
            connection.close()


def test_a_refusal_holds_even_when_it_cannot_be_noted(world: World) -> None:
    def fail(_refusal: Refusal) -> None:
        raise OSError("no space")

    guard = Guard(
        Listener.FEDERATION, PeerIdentifier(lambda: world.directory, world.clock), world.clock, fail
    )
    own = world.agencies[OWN]
    material = tls.ServerMaterial(own.identity, (world.agencies[ICE].node_ca.der,))
    endpoint = build_server("127.0.0.1:0", tls.server_credentials(lambda: material), [guard], [])
    endpoint.start()
    try:
        with (
            tls.node_channel(
                f"127.0.0.1:{endpoint.port}",
                agency=OWN,
                federation=FEDERATION,
                roots=[own.node_ca.der],
                identity=world.agencies[ICE].identity,
            ) as channel,
            pytest.raises(grpc.RpcError) as caught,
        ):
            raw(channel, f"{EXCHANGE}/Nothing")
        assert only_reason(caught.value)[1] == "UNKNOWN_METHOD"
    finally:
        endpoint.stop(0)
