"""The directory over a real listener: files by name, past the expiry too, and who waits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, cast

import grpc
import pytest
from tieline.v1 import directory_pb2, directory_pb2_grpc, exchange_pb2, exchange_pb2_grpc
from tieline_client import limits, tls
from tieline_client.directory_client import VERSION_KEY, DirectoryCalls
from tieline_client.errors import DirectoryError, InvalidInput
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.directory import DirectoryServicer
from tieline_server.rpc.identity import PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.server import build_server
from tieline_server.rpc.streams import Watchdog

from tests.rpc.guarded import (
    FEDERATION,
    ICE,
    OWN,
    PATIENT,
    SECONDS,
    Exchange,
    World,
    exchange,
    only_reason,
)

HELLO = exchange_pb2.HelloRequest(nonce=bytes(32), wire_version="v1.1")


@dataclass
class Serving:
    """A listener with the directory, what was claimed to it, and what it was handed."""

    world: World
    address: str
    guard: Guard
    claims: list[tuple[str, int]]
    handed: list[tuple[str, bytes, bytes]]
    exchange: Exchange
    fetched: Callable[[], None] = lambda: None
    files: dict[str, bytes] = field(default_factory=dict)

    def channel(self) -> grpc.Channel:
        return tls.node_channel(
            self.address,
            agency=OWN,
            federation=FEDERATION,
            roots=[self.world.agencies[OWN].node_ca.der],
            identity=self.world.agencies[ICE].identity,
        )

    def calls(self, version: int = 7) -> DirectoryCalls:
        return DirectoryCalls(
            OWN, self.channel(), nullcontext, lambda: ((VERSION_KEY, str(version)),)
        )


@contextmanager
def serving(world: World) -> Iterator[Serving]:
    claims: list[tuple[str, int]] = []
    handed: list[tuple[str, bytes, bytes]] = []
    refusals: list[Refusal] = []

    def catch_up(agency: str, version: int) -> bool:
        claims.append((agency, version))
        before = world.directory
        if version > before.version:
            made.fetched()
        return world.directory is not before

    def accept(agency: str, metadata: bytes, own: bytes) -> int:
        handed.append((agency, metadata, own))
        return 8

    guard = Guard(
        Listener.FEDERATION,
        PeerIdentifier(lambda: world.directory, world.clock),
        world.clock,
        refusals.append,
        rules=PATIENT,
        watchdog=Watchdog(interval=0.02),
        check_responses=True,
        catch_up=catch_up,
    )
    exchanged = Exchange()
    own = world.agencies[OWN]
    roots = tuple(agency.node_ca.der for agency in world.agencies.values())
    material = tls.ServerMaterial(own.identity, roots)
    made = Serving(world, "", guard, claims, handed, exchanged)
    current: list[Mapping[str, bytes]] = [{}]

    def files() -> Mapping[str, bytes]:
        if current[0] != made.files:
            current[0] = dict(made.files)
        return current[0]

    endpoint = build_server(
        "127.0.0.1:0",
        tls.server_credentials(lambda: material),
        [guard],
        [
            partial(
                directory_pb2_grpc.add_DirectoryServiceServicer_to_server,
                DirectoryServicer(files, accept),
            ),
            partial(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, exchanged),
        ],
    )
    made.address = f"127.0.0.1:{endpoint.port}"
    endpoint.start()
    try:
        yield made
    finally:
        endpoint.stop(0)


@pytest.fixture
def served(world: World) -> Iterator[Serving]:
    with serving(world) as made:
        yield made


def test_files_come_whole_in_order_and_absent_ones_as_absent(served: Serving) -> None:
    large = b'{"a":"' + "ä".encode() * 100_000 + b'"}'
    served.files = {"metadata/timestamp.json": b"{}", "targets/x.json": large, "empty": b""}
    names = ["targets/x.json", "metadata/2.root.json", "empty", "metadata/timestamp.json"]
    assert served.calls().fetch(names) == {
        "targets/x.json": large,
        "metadata/2.root.json": None,
        "empty": b"",
        "metadata/timestamp.json": b"{}",
    }
    many = [f"metadata/{number}.root.json" for number in range(250)]
    assert set(served.calls().fetch(many).values()) == {None}


@pytest.mark.parametrize(
    "name", ["../config.toml", "/etc/passwd", "online/timestamp.pem", "metadata/../../keys", "."]
)
def test_a_name_leads_nowhere_else(served: Serving, name: str) -> None:
    served.files = {"metadata/timestamp.json": b"{}"}
    assert served.calls().fetch([name]) == {name: None}


def test_the_version_before_stays_for_whoever_is_in_the_middle_of_it(served: Serving) -> None:
    calls = served.calls()
    for number in (1, 2, 3):
        served.files = {f"metadata/{number}.snapshot.json": b"{}"}
        calls.fetch(["metadata/timestamp.json"])
    found = calls.fetch([f"metadata/{number}.snapshot.json" for number in (1, 2, 3)])
    assert [data is not None for data in found.values()] == [False, True, True]


def test_too_many_names_are_refused(served: Serving) -> None:
    names = ["x"] * (limits.DIRECTORY_NAMES + 1)
    stub: Any = directory_pb2_grpc.DirectoryServiceStub(served.channel())
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.FetchFiles(directory_pb2.FetchFilesRequest(names=names)))
    assert only_reason(refused.value)[1] == "MALFORMED_MESSAGE"


def test_past_the_expiry_the_directory_is_answered_and_nothing_else(served: Serving) -> None:
    served.world.revise(expires=served.world.now - timedelta(days=1))
    served.files = {"metadata/timestamp.json": b"{}"}
    calls = served.calls()
    assert calls.fetch(["metadata/timestamp.json"]) == {"metadata/timestamp.json": b"{}"}
    assert calls.submit(b"{}", b"{}") == 8
    with pytest.raises(grpc.RpcError) as refused:
        exchange(served.channel()).Hello(HELLO)
    assert only_reason(refused.value)[1] == "DIRECTORY_EXPIRED"
    assert served.exchange.bodies == 0


def test_a_statement_is_the_callers_own(served: Serving) -> None:
    served.calls().submit(b'{"signed":1}', b'{"agency":"pt-pj"}')
    assert served.handed == [(ICE, b'{"signed":1}', b'{"agency":"pt-pj"}')]
    with pytest.raises(grpc.RpcError) as refused:
        served.calls().submit(b"\x89PNG\r\n", b"{}")
    assert only_reason(refused.value)[1] == "MALFORMED_MESSAGE"


def test_a_caller_with_a_newer_directory_waits_and_is_looked_at_anew(served: Serving) -> None:
    stub = exchange(served.channel())
    stub.Hello(HELLO, metadata=((VERSION_KEY, "7"),))
    assert served.claims == [(ICE, 7)]

    # The newer one revokes the caller itself: this very call has no effect.
    def revoke() -> None:
        members = tuple(
            member.model_copy(update={"revoked": member.agency == ICE})
            for member in served.world.directory.members
        )
        served.world.revise(members=members)

    served.fetched = revoke
    with pytest.raises(grpc.RpcError) as refused:
        stub.Hello(HELLO, metadata=((VERSION_KEY, "8"),))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert served.exchange.bodies == 1


def test_an_expired_node_that_catches_up_answers_the_call_that_told_it(served: Serving) -> None:
    world = served.world
    fresh = world.directory.expires
    world.revise(expires=world.now - timedelta(days=1))
    served.fetched = lambda: world.revise(expires=fresh)
    exchange(served.channel()).Hello(HELLO, metadata=((VERSION_KEY, "99"),))
    assert served.exchange.bodies == 1


@pytest.mark.parametrize("value", ["", "-1", "1e9", "9" * 19, "²", "x"])
def test_what_is_no_version_is_no_claim(served: Serving, value: str) -> None:
    if value.isascii():
        exchange(served.channel()).Hello(HELLO, metadata=((VERSION_KEY, value),))
    assert served.claims == []


def test_open_calls_are_cut_off_when_the_directory_refuses_them(served: Serving) -> None:
    entered = threading.Event()

    def wait(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        entered.set()
        yield from (exchange_pb2.OverlapResponse() for _ in requests)

    served.exchange.on_overlap = wait
    held = threading.Event()

    def silent() -> Iterator[Any]:
        held.wait(SECONDS)
        yield from ()

    call = exchange(served.channel()).Overlap(silent(), timeout=SECONDS)
    try:
        assert entered.wait(SECONDS)
        assert served.guard.review() == 0
        served.world.revise(expires=served.world.now - timedelta(days=1))
        assert served.guard.review() == 1
        with pytest.raises(grpc.RpcError) as ended:
            next(call)
        assert ended.value.code() is grpc.StatusCode.CANCELLED
    finally:
        held.set()


class Liar(directory_pb2_grpc.DirectoryServiceServicer):
    """Answers FetchFiles with what a test puts in place."""

    def __init__(self, parts: list[directory_pb2.FetchFilesResponse]) -> None:
        self.parts = parts

    def FetchFiles(self, request: Any, context: Any) -> Any:
        yield from self.parts


def _part(**fields: Any) -> directory_pb2.FetchFilesResponse:
    return directory_pb2.FetchFilesResponse(**fields)


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ([_part(index=1, data=b"{}")], "out of order"),
        ([_part(data=b"{}"), _part(index=1, data=b"{}")], "out of order"),
        ([], "left files out"),
        ([_part(data=b"{}", more=True)], "left files out"),
        ([_part(absent=True, data=b"{}")], "does not have"),
        ([_part(data=b" " * 65_536, more=True)] * 40, "bytes"),
        ([_part(data=b"\x00\x01")], "control characters"),
    ],
)
def test_a_server_that_answers_amiss(
    parts: list[directory_pb2.FetchFilesResponse], why: str
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(2))
    liar = cast("Any", Liar)(parts)  # the stub calls one without all methods abstract
    directory_pb2_grpc.add_DirectoryServiceServicer_to_server(liar, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = DirectoryCalls(OWN, channel, nullcontext, tuple)
            with pytest.raises((DirectoryError, InvalidInput), match=why):
                calls.fetch(["metadata/timestamp.json"])
    finally:
        server.stop(0)
