"""Nodes that call, at the federation port: connections, streams and sessions of before."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from grpc.experimental import session_cache  # type: ignore[attr-defined]
from tieline.v1 import envelope_pb2, exchange_pb2, exchange_pb2_grpc
from tieline_client import keys, tls
from tieline_server.trust.authority import issue_node_leaf

from tests.rpc.guarded import FEDERATION, ICE, OWN, SECONDS, World, listening, make_world
from tests.rpc.mid_connection_changes import (
    EARLY,
    ENDED,
    ISSUER,
    NO_MEMBER,
    REVOKED,
    SERVED,
    STALE,
    Rows,
    agency_removed,
    agency_revoked,
    ca_ended,
    ca_removed,
    ca_replaced,
    ca_rolled_over,
    clock_far_back,
    directory_ended,
    leaf_ended,
    nothing,
    other_member_revoked,
    outcome,
    role_changed,
    serial_revoked,
    serial_revoked_by_itself,
)

HELLO = exchange_pb2.HelloRequest(nonce=bytes(range(32)), wire_version="v1.2")
HEADER = exchange_pb2.OverlapRequest(header=envelope_pb2.Envelope(payload_type="t"))


def _unary(change: Callable[[World], None]) -> str:
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        stub.Hello(HELLO, timeout=SECONDS)
        change(world)
        before = port.exchange.bodies
        told = outcome(lambda: stub.Hello(HELLO, timeout=SECONDS))
        assert (port.exchange.bodies > before) == (told == SERVED)
        return told


def _streamed(change: Callable[[World], None]) -> str:
    """A stream that was let in goes on; then the next message meets another world."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        call = stub.Overlap(iter(messages.get, None), timeout=SECONDS)
        messages.put(HEADER)
        next(call)
        change(world)
        messages.put(HEADER)
        try:
            return outcome(lambda: next(call))
        finally:
            messages.put(None)


def _answered(change: Callable[[World], None]) -> str:
    """A standing answer: the caller says nothing more, and what is sent to it must end too."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        ready: queue.SimpleQueue[bool] = queue.SimpleQueue()

        def answers(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
            next(requests)
            yield exchange_pb2.OverlapResponse()
            # False ends it: a handler that waits on is one that the listener's end waits for.
            while ready.get(timeout=SECONDS):
                yield exchange_pb2.OverlapResponse()

        port.exchange.on_overlap = answers
        messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        call = stub.Overlap(iter(messages.get, None), timeout=SECONDS)
        messages.put(HEADER)
        next(call)
        change(world)
        ready.put(True)
        try:
            return outcome(lambda: next(call))
        finally:
            ready.put(False)
            messages.put(None)


def _resumed(change: Callable[[World], None]) -> str:
    """A session ticket from before: the new connection is resumed, not proved anew."""
    world = make_world()
    with listening(world) as port:
        cache = session_cache.ssl_session_cache_lru(4)
        own, ice = world.agencies[OWN], world.agencies[ICE].identity
        credentials = grpc.ssl_channel_credentials(
            tls.to_pem([own.node_ca.der]), ice.key_pem, ice.leaf_pem
        )
        options = [
            *tls.channel_options(f"{OWN}.{FEDERATION}.invalid"),
            ("grpc.ssl_session_cache", cache),
        ]
        seen: list[bytes] = []

        def on_hello(_request: Any, context: Any) -> Any:
            seen.extend(context.auth_context().get("ssl_session_reused", ()))
            return exchange_pb2.HelloResponse()

        port.exchange.on_hello = on_hello

        def call() -> None:
            with grpc.secure_channel(port.address, credentials, options) as channel:
                stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
                stub.Hello(HELLO, timeout=SECONDS)

        call()
        call()
        assert seen == [b"false", b"true"]  # the second did resume the first
        change(world)
        return outcome(call)


def _second_connection(change: Callable[[World], None]) -> str:
    """Two connections with one leaf: both end."""
    world = make_world()
    with listening(world) as port, port.peer() as first, port.peer() as second:
        stubs: list[Any] = [exchange_pb2_grpc.ExchangeServiceStub(one) for one in (first, second)]
        for stub in stubs:
            stub.Hello(HELLO, timeout=SECONDS)
        change(world)
        told = {outcome(partial(stub.Hello, HELLO, timeout=SECONDS)) for stub in stubs}
        (only,) = told
        return only


def _twin(of: str) -> str:
    """A second node of the same agency, with a leaf of its own, is connected beside the first.

    ``of`` says whose serial number is revoked then, and so whose call is looked at: the other's
    goes on. With one leaf in both nothing tells them apart here: that is for the standings.
    """
    world = make_world()
    ice = world.agencies[ICE]
    key = keys.generate()
    leaf = issue_node_leaf(ice.node_ca, key.public_key(), now=world.now)
    twin = tls.Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(key))
    with listening(world) as port, port.peer() as first, port.channel(twin) as second:
        stubs: dict[str, Any] = {
            "first": exchange_pb2_grpc.ExchangeServiceStub(first),
            "twin": exchange_pb2_grpc.ExchangeServiceStub(second),
        }
        serials = {"first": ice.leaf.serial_number, "twin": leaf.serial_number}
        for stub in stubs.values():
            stub.Hello(HELLO, timeout=SECONDS)
        if of in serials:
            world.revise(revoked_serials={ICE: frozenset({serials[of]})})
        told = {
            name: outcome(partial(stub.Hello, HELLO, timeout=SECONDS))
            for name, stub in stubs.items()
        }
        looked_at = told.pop(of, told["twin"])
        assert set(told.values()) == {SERVED}
        return looked_at


def _back_again() -> str:
    """Past a directory's end, then with a fresh one: the same connection is served again."""
    world = make_world()
    with listening(world) as port, port.peer() as channel:
        stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
        stub.Hello(HELLO, timeout=SECONDS)
        directory_ended(world)
        assert outcome(lambda: stub.Hello(HELLO, timeout=SECONDS)) != SERVED
        world.revise(expires=world.now + timedelta(days=14))
        return outcome(lambda: stub.Hello(HELLO, timeout=SECONDS))


def rows() -> Rows:
    """What callers get."""
    made: Rows = []

    def add(name: str, run: Callable[[], str], expected: str) -> None:
        made.append((name, run, expected))

    changes: list[tuple[str, Callable[[World], None], str]] = [
        ("nothing changes", nothing, SERVED),
        ("the authority revokes its serial number", serial_revoked, REVOKED),
        ("its own agency revokes the serial number", serial_revoked_by_itself, REVOKED),
        ("its agency is revoked", agency_revoked, NO_MEMBER),
        ("its agency is no member any more", agency_removed, NO_MEMBER),
        ("its CA is replaced", ca_replaced, ISSUER),
        ("its CA is removed", ca_removed, NO_MEMBER),
        ("its CA rolls over, both are listed", ca_rolled_over, SERVED),
        ("its leaf ends", leaf_ended, ENDED),
        ("its CA ends, its leaf does not", ca_ended, EARLY),
        ("its role changes", role_changed, SERVED),
        ("the clock goes back before its leaf and CA", clock_far_back, EARLY),
        ("the directory ends", directory_ended, STALE),
        ("another member's leaf is revoked", other_member_revoked, SERVED),
    ]
    for name, change, expected in changes:
        add(f"next call: {name}", partial(_unary, change), expected)
    for name, change, expected in changes:
        if change not in (clock_far_back, ca_removed, serial_revoked_by_itself):
            add(f"stream begun before: {name}", partial(_streamed, change), expected)
    for name, change, expected in changes:
        if change in (nothing, serial_revoked, agency_revoked, directory_ended, ca_ended):
            run = partial(_answered, change)
            add(f"standing answer: {name}", run, expected)
            add(f"resumed session: {name}", partial(_resumed, change), expected)
    add(
        "two connections: its serial number",
        lambda: _second_connection(serial_revoked),
        REVOKED,
    )
    add("next call: the directory ends, then a fresh one comes", _back_again, SERVED)

    for of, name, expected in (
        ("", "with a leaf of its own is connected too", SERVED),
        ("twin", "is revoked by its serial number", REVOKED),
        ("first", "goes on, the first one's serial number is revoked", REVOKED),
    ):
        add(f"next call: a twin {name}", partial(_twin, of), expected)
    return made
