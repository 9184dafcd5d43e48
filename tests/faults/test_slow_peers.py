"""Peers that misuse their connections cost themselves: others are served meanwhile.

Silent connections and half handshakes come from anybody; slow writers, idle streams and rapid
resets from a member with a valid certificate. ``build/faults/slow_peers.json`` gets the figures.
"""

from __future__ import annotations

import json
import secrets
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import grpc
import pytest
from tieline.v1 import exchange_pb2
from tieline_client import limits
from tieline_client.peer_connection import WIRE_VERSION

from tests.e2e.federation import Federation, Node, federation
from tests.e2e.rogue import HELLO, Rogue
from tests.faults.hostile_sockets import rapid_resets, silent, slow_writer, tls
from tests.faults.world import BUILD

HUB, GOOD, BAD = "europol-ec3", "pt-pj", "es-gc"
CALLS = 150
SECONDS = 60.0
_OVERLAP = "/tieline.v1.ExchangeService/Overlap"
_DELIVER = "/tieline.v1.DeliveryService/Deliver"

Attack = Callable[[Node, Node, Rogue, threading.Event], None]
"""What befalls a node, from a member's home, until the event is set."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    members = [(HUB, "hub"), (GOOD, "national", "PT"), (BAD, "national", "ES")]
    with federation(tmp_path_factory.mktemp("slow"), members) as made:
        made[GOOD].stop()  # the test calls in its name
        made[BAD].stop()
        yield made


def _connections(hub: Node, bad: Node, _rogue: Rogue, ended: threading.Event) -> None:
    """A thousand connections that say nothing, or the first bytes of a handshake."""
    del bad
    with silent(hub.address, 1_000):
        ended.wait()


def _slow_writers(hub: Node, bad: Node, _rogue: Rogue, ended: threading.Event) -> None:
    """Calls whose message comes byte by byte."""
    with ExitStack() as held:
        writers = []
        for _ in range(16):
            connection = held.enter_context(tls(hub.address, bad.home, hub.agency, "trial-eu"))
            writers.append(slow_writer(connection, _DELIVER))
        while not ended.wait(0.02):
            for writer in writers:
                next(writer, None)


def _idle_streams(hub: Node, _bad: Node, rogue: Rogue, ended: threading.Event) -> None:
    """Streams that are opened and never used, on several connections, over and over."""
    with ExitStack() as held:
        channels = [held.enter_context(_channel(rogue, hub)) for _ in range(4)]
        while not ended.is_set():
            over = threading.Event()  # a thread waits for it with each call
            calls = [
                channel.stream_stream(_OVERLAP, None, None)(
                    _until(over), timeout=limits.QUERY_SECONDS
                )
                for channel in channels
                for _ in range(20)
            ]
            ended.wait(0.2)
            for call in calls:
                call.cancel()  # type: ignore[no-untyped-call]  # the stub lacks the annotation
            over.set()


def _resets(hub: Node, bad: Node, _rogue: Rogue, ended: threading.Event) -> None:
    """Streams that are reset as soon as they are open (CVE-2023-44487)."""
    while not ended.is_set():
        # One that the hub hangs up on, or is too busy to take, is followed by the next.
        with (
            suppress(OSError),
            tls(hub.address, bad.home, hub.agency, "trial-eu") as connection,
        ):
            rapid_resets(connection, _OVERLAP, 2_000)


def _until(ended: threading.Event) -> Iterator[bytes]:
    ended.wait()
    yield from ()


@contextmanager
def _channel(rogue: Rogue, to: Node) -> Iterator[grpc.Channel]:
    channel = rogue.channel(to)
    try:
        yield channel
    finally:
        channel.close()


@pytest.mark.parametrize("attack", [_connections, _slow_writers, _idle_streams, _resets])
def test_others_are_served_meanwhile(trial: Federation, attack: Attack) -> None:
    hub = trial[HUB]
    good, bad = (Rogue(trial[agency], trial.name) for agency in (GOOD, BAD))
    before = _latencies(good, hub)
    ended = threading.Event()
    attacker = threading.Thread(target=attack, args=(hub, trial[BAD], bad, ended))
    attacker.start()
    try:
        during = _latencies(good, hub)
        assert attacker.is_alive(), "the attack ended by itself"
    finally:
        ended.set()
        attacker.join()
    after = _latencies(good, hub)
    assert [len(one) for one in (before, during, after)] == [CALLS] * 3
    _note(attack.__name__.strip("_"), before, during)
    assert hub.running


def _latencies(rogue: Rogue, hub: Node) -> list[float]:
    """Make calls one after another on a fresh connection; return their times in seconds."""
    took = []
    with _channel(rogue, hub) as channel:
        hello = channel.unary_unary(
            HELLO,
            request_serializer=exchange_pb2.HelloRequest.SerializeToString,
            response_deserializer=exchange_pb2.HelloResponse.FromString,
        )
        for _ in range(CALLS):
            request = exchange_pb2.HelloRequest(
                nonce=secrets.token_bytes(32),
                wire_version=WIRE_VERSION,
                directory_version=rogue.directory.version,
            )
            begun = time.perf_counter()
            assert hello(request, timeout=SECONDS).HasField("proof")
            took.append(time.perf_counter() - begun)
    return took


def _note(name: str, before: list[float], during: list[float]) -> None:
    path = BUILD / "slow_peers.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    known[name] = {
        "p99_before_ms": round(_p99(before) * 1000, 2),
        "p99_during_ms": round(_p99(during) * 1000, 2),
    }
    path.write_text(json.dumps(known, indent=2) + "\n")


def _p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98]
