"""What becomes of a call's messages, errors and time (threats.md 16, 17, 26)."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from tieline.v1 import envelope_pb2, exchange_pb2, operator_pb2
from tieline.v1.digests_pb2 import DIGEST_KIND_MD5, DIGEST_KIND_SHA1, DigestList
from tieline_client import limits
from tieline_client.errors import (
    BudgetExceeded,
    InvalidInput,
    PolicyRefused,
    StorageUnavailable,
    TielineError,
)
from tieline_client.status import from_rpc_error
from tieline_server.rpc.call import call_of
from tieline_server.rpc.methods import Listener, Rule

from tests.rpc.guarded import (
    EXCHANGE,
    FBI,
    ICE,
    OPERATOR,
    PATIENCE,
    PATIENT,
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
IDLE = 0.15


def fast(name: str) -> dict[str, Rule]:
    """A rule by which a call of one method may be idle for IDLE seconds."""
    method = f"{EXCHANGE}/{name}"
    return {method: replace(PATIENT[method], idle=IDLE)}


class Feed:
    """A request stream that a test feeds; it stays open until ``end``."""

    def __init__(self) -> None:
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: Any) -> None:
        self._items.put(message)

    def end(self) -> None:
        self._items.put(None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items.get, None)


@pytest.fixture
def feed() -> Iterator[Feed]:
    stream = Feed()
    yield stream
    stream.end()


# --- messages ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xff\xff\xff", "MALFORMED_MESSAGE"),
        (HELLO.SerializeToString()[:-1], "MALFORMED_MESSAGE"),
        (b"", "MALFORMED_MESSAGE"),
        (HELLO.SerializeToString() + b"\x7a\x80\x10" + bytes(2048), "MALFORMED_MESSAGE"),
        (b"\x0b" * 50_000, "MALFORMED_MESSAGE"),
        (exchange_pb2.HelloRequest(nonce=bytes(31)).SerializeToString(), "MALFORMED_MESSAGE"),
    ],
    ids=["garbage", "cut short", "empty", "unknown fields", "nested groups", "short nonce"],
)
def test_a_malformed_message_gets_one_reason_and_has_no_effect(
    federation_port: Listening, data: bytes, reason: str
) -> None:
    with federation_port.peer() as channel:
        with pytest.raises(grpc.RpcError) as caught:
            raw(channel, f"{EXCHANGE}/Hello", data)
        assert only_reason(caught.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, reason)
        assert federation_port.exchange.bodies == 0
        exchange(channel).Hello(HELLO, timeout=SECONDS)
    (refusal,) = federation_port.refusals
    assert (refusal.peer, refusal.reason) == (ICE, reason)


def test_each_message_of_a_stream_is_checked(federation_port: Listening) -> None:
    picture = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00" + bytes(range(256)) * 4
    pieces = DigestList(kind=DIGEST_KIND_SHA1, digests=picture[: len(picture) // 20 * 20])
    with federation_port.peer() as channel:
        call = exchange(channel).Overlap(
            iter([HEADER, exchange_pb2.OverlapRequest(batch=pieces), HEADER]), timeout=SECONDS
        )
        assert next(call) == exchange_pb2.OverlapResponse()
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    assert only_reason(caught.value)[1] == "INVALID_DIGEST"
    assert "OverlapRequest.batch.digests" in str(caught.value.details())


def test_this_nodes_own_answers_are_checked_in_tests(federation_port: Listening) -> None:
    federation_port.exchange.on_hello = lambda *_: exchange_pb2.HelloResponse(
        proof=envelope_pb2.Envelope(payload_type="x" * 101)
    )
    with federation_port.peer() as channel, pytest.raises(grpc.RpcError) as caught:
        exchange(channel).Hello(HELLO, timeout=SECONDS)
    assert only_reason(caught.value)[1] == "MALFORMED_MESSAGE"


def test_all_four_shapes_answer(federation_port: Listening, operator_port: Listening) -> None:
    with federation_port.peer() as channel:
        exchange(channel).Hello(HELLO, timeout=SECONDS)
        assert len(list(exchange(channel).Overlap(iter([HEADER] * 5), timeout=SECONDS))) == 5
        assert list(exchange(channel).Overlap(iter([]), timeout=SECONDS)) == []
    request = operator_pb2.ListAuditEntriesRequest(start=4).SerializeToString()
    with operator_port.person("rui") as channel:
        call = channel.unary_stream(f"{OPERATOR}/ListAuditEntries", None, None)
        answers = [
            operator_pb2.ListAuditEntriesResponse.FromString(data)
            for data in call(request, timeout=SECONDS)
        ]
    assert [answer.start for answer in answers] == [4, 5, 6]


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raised", "code", "reason", "text"),
    [
        (PolicyRefused("no agreement"), "PERMISSION_DENIED", "POLICY_REFUSED", "no agreement"),
        (BudgetExceeded("spent"), "RESOURCE_EXHAUSTED", "BUDGET_EXCEEDED", "spent"),
        (InvalidInput("a\nb\x1b[31m" + "é" * 9000), "INVALID_ARGUMENT", "INVALID_INPUT", "a b [31"),
        (StorageUnavailable("/srv/secret is full"), "UNAVAILABLE", "STORAGE_UNAVAILABLE", "cannot"),
        (KeyError("secret"), "INTERNAL", "INTERNAL", "this node cannot"),
        (NotImplementedError("secret"), "INTERNAL", "INTERNAL", "this node cannot"),
        (TielineError("secret"), "INTERNAL", "INTERNAL", "this node cannot"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("late", [False, True])
def test_what_a_servicer_raises_becomes_one_reason(
    federation_port: Listening, raised: Exception, code: str, reason: str, text: str, late: bool
) -> None:
    def fail(*_: Any) -> Any:
        raise raised

    def fail_late(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        yield exchange_pb2.OverlapResponse()
        raise raised

    federation_port.exchange.on_hello = fail
    federation_port.exchange.on_overlap = fail_late
    with federation_port.peer() as channel, pytest.raises(grpc.RpcError) as caught:
        if late:
            list(exchange(channel).Overlap(iter([HEADER]), timeout=SECONDS))
        else:
            exchange(channel).Hello(HELLO, timeout=SECONDS)
    assert only_reason(caught.value)[:2] == (grpc.StatusCode[code], reason)
    details = str(caught.value.details())
    assert text in details and "secret" not in details and details.isprintable()
    assert len(details.encode()) <= limits.ERROR_TEXT_BYTES
    again = from_rpc_error(caught.value)
    assert again.reason == reason and again.message == details


def test_people_of_the_own_agency_learn_what_is_wrong_with_their_node(
    operator_port: Listening,
) -> None:
    operator_port.people.fault = StorageUnavailable("the disk is full; make space")
    with operator_port.person() as channel, pytest.raises(grpc.RpcError) as caught:
        raw(channel, f"{OPERATOR}/GetStats")
    assert only_reason(caught.value)[1] == "STORAGE_UNAVAILABLE"
    assert caught.value.details() == "the disk is full; make space"
    assert operator_port.refusals == []


def test_a_servicer_that_aborts_by_itself_is_a_fault(federation_port: Listening) -> None:
    federation_port.exchange.on_hello = lambda _request, context: context.abort(
        grpc.StatusCode.OK, "fine"
    )
    with federation_port.peer() as channel, pytest.raises(grpc.RpcError) as caught:
        exchange(channel).Hello(HELLO, timeout=SECONDS)
    assert only_reason(caught.value)[1] == "INTERNAL"


# --- time and number --------------------------------------------------------------------------


@pytest.mark.usefixtures("first_comes")
def test_an_idle_stream_is_ended_with_a_reason(world: World, feed: Feed) -> None:
    with listening(world, rules=fast("Overlap")) as port, port.peer() as channel:
        call = exchange(channel).Overlap(iter(feed), timeout=SECONDS)
        began = time.monotonic()
        feed.put(HEADER)
        assert next(call) == exchange_pb2.OverlapResponse()
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert time.monotonic() - began >= IDLE
        assert only_reason(caught.value) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "LIMIT_EXCEEDED",
            "STREAM_IDLE",
        )
        assert port.wait_for_refusals(1)[0].check == "STREAM_IDLE"
        assert port.limits.open(ICE) == 0


def test_a_single_request_that_never_comes_is_cut_off(world: World, feed: Feed) -> None:
    with listening(world, rules=fast("Hello")) as port, port.peer() as channel:
        call = channel.stream_unary(f"{EXCHANGE}/Hello", None, None)
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(feed), timeout=SECONDS)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert error_infos(caught.value) == []
        assert port.wait_for_refusals(1)[0].check == "STUCK"
        assert port.exchange.bodies == 0 and port.limits.open(ICE) == 0


def test_a_caller_that_does_not_read_is_cut_off(world: World) -> None:
    block = exchange_pb2.OverlapResponse(
        hits=exchange_pb2.HitBatch(kind=DIGEST_KIND_MD5, positions=[2**40] * 10_000)
    )
    ended = threading.Event()

    def endless(_requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        try:
            while True:
                yield block
        finally:
            ended.set()

    with (
        listening(world, rules=fast("Overlap")) as port,
        port.peer() as channel,
        port.peer(FBI) as other,
    ):
        port.exchange.on_overlap = endless
        call = exchange(channel).Overlap(iter([HEADER]), timeout=SECONDS)
        exchange(other).Hello(HELLO, timeout=SECONDS)
        assert ended.wait(SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert port.wait_for_refusals(1)[0].check == "STUCK"
        exchange(channel).Hello(HELLO, timeout=SECONDS)


def test_the_whole_call_has_its_bound(world: World, feed: Feed) -> None:
    method = f"{EXCHANGE}/Overlap"
    rules = {method: replace(PATIENT[method], seconds=IDLE)}
    with listening(world, rules=rules) as port, port.peer() as channel:
        call = exchange(channel).Overlap(iter(feed), timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert only_reason(caught.value)[1:] == ("LIMIT_EXCEEDED", "DEADLINE")


def test_the_callers_own_deadline_counts(federation_port: Listening) -> None:
    left: list[float] = []
    own = limits.HELLO_SECONDS * PATIENCE

    def on_hello(_request: Any, context: Any) -> Any:
        left.append(call_of(context).time_left())
        return exchange_pb2.HelloResponse()

    federation_port.exchange.on_hello = on_hello
    with federation_port.peer() as channel:
        exchange(channel).Hello(HELLO)
        exchange(channel).Hello(HELLO, timeout=SECONDS / 4)
        exchange(channel).Hello(HELLO, timeout=2 * own)
    # On the wire a deadline is rounded, up.
    assert 0 < left[1] < SECONDS / 2
    assert all(SECONDS / 2 < seconds <= own for seconds in (left[0], left[2]))


def test_what_came_too_late_has_no_effect(world: World) -> None:
    method = f"{EXCHANGE}/Hello"
    with (
        listening(world, rules={method: replace(PATIENT[method], seconds=0.0)}) as port,
        port.peer() as channel,
    ):
        with pytest.raises(grpc.RpcError) as caught:
            exchange(channel).Hello(HELLO, timeout=SECONDS)
        assert port.exchange.bodies == 0
    assert only_reason(caught.value)[2] == "DEADLINE"


def test_a_caller_that_goes_away_leaves_nothing_behind(
    federation_port: Listening, feed: Feed
) -> None:
    ended = threading.Event()

    def relay(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
        try:
            for _ in requests:
                yield exchange_pb2.OverlapResponse()
        finally:
            ended.set()

    federation_port.exchange.on_overlap = relay
    with federation_port.peer() as channel:
        call = exchange(channel).Overlap(iter(feed), timeout=SECONDS)
        feed.put(HEADER)
        next(call)
        call.cancel()
        assert ended.wait(SECONDS)
        exchange(channel).Hello(HELLO, timeout=SECONDS)
        for thread in threading.enumerate():
            if thread.name == "rpc-reader":
                thread.join(SECONDS)
                assert not thread.is_alive()
        federation_port.endpoint.stop(SECONDS)  # returns once the last handler has come out
        assert federation_port.limits.open(ICE) == 0
    assert federation_port.refusals == []


def test_a_callers_own_cap_refuses_at_once_and_costs_no_one_else(
    federation_port: Listening, world: World
) -> None:
    feeds = [Feed() for _ in range(limits.CONCURRENT_STREAMS_PER_PEER)]
    with federation_port.peer() as channel, federation_port.peer(FBI) as other:
        calls = [exchange(channel).Overlap(iter(feed), timeout=SECONDS) for feed in feeds]
        for feed, call in zip(feeds, calls, strict=True):
            feed.put(HEADER)
            next(call)
        with pytest.raises(grpc.RpcError) as caught:
            list(exchange(channel).Overlap(iter([HEADER]), timeout=SECONDS))
        assert only_reason(caught.value) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "LIMIT_EXCEEDED",
            "CONCURRENCY",
        )
        exchange(channel).Hello(HELLO, timeout=SECONDS)
        exchange(other).Hello(HELLO, timeout=SECONDS)
        for feed, call in zip(feeds, calls, strict=True):
            feed.end()
            assert list(call) == []
        assert len(list(exchange(channel).Overlap(iter([HEADER]), timeout=SECONDS))) == 1


def test_single_calls_have_a_cap_too(federation_port: Listening) -> None:
    inside, leave = threading.Semaphore(0), threading.Event()

    def wait(*_: Any) -> Any:
        inside.release()
        leave.wait(SECONDS)
        return exchange_pb2.HelloResponse()

    federation_port.exchange.on_hello = wait
    with federation_port.peer() as channel, federation_port.peer(FBI) as other:
        calls = [
            exchange(channel).Hello.future(HELLO, timeout=SECONDS)
            for _ in range(limits.CONCURRENT_RPCS_PER_PEER)
        ]
        for _ in calls:
            assert inside.acquire(timeout=SECONDS)
        with pytest.raises(grpc.RpcError) as caught:
            exchange(channel).Hello(HELLO, timeout=SECONDS)
        assert only_reason(caught.value)[2] == "CONCURRENCY"
        from_other = exchange(other).Hello.future(HELLO, timeout=SECONDS)
        assert inside.acquire(timeout=SECONDS)
        leave.set()
        for call in [*calls, from_other]:
            call.result()


def test_a_storm_of_calls_ends_and_others_are_served(federation_port: Listening) -> None:
    with federation_port.peer() as channel, federation_port.peer(FBI) as other:
        storm = [exchange(channel).Hello.future(HELLO, timeout=SECONDS) for _ in range(400)]
        for call in storm[::2]:
            call.cancel()
        exchange(other).Hello(HELLO, timeout=SECONDS)
        for call in storm[1::2]:
            error = call.exception()
            # gRPC itself refuses streams of a connection that resets so many.
            bare = error is not None and error.code() is grpc.StatusCode.UNAVAILABLE
            assert error is None or bare or only_reason(error)[2] == "CONCURRENCY"
        exchange(channel).Hello(HELLO, timeout=SECONDS)


def test_listener_is_named_in_refusals(world: World) -> None:
    with listening(world, Listener.OPERATOR) as port, port.person() as channel:
        with pytest.raises(grpc.RpcError):
            raw(channel, f"{EXCHANGE}/Hello", HELLO.SerializeToString())
        (refusal,) = port.refusals
        assert (refusal.person, refusal.method) == ("ana", f"{EXCHANGE}/Hello")
