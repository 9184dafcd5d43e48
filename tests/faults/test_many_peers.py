"""Two hundred members at one hub: each is served, and one that calls without end is slowed alone.

The hub is a real process; the members are the product's client in this one, sixteen at a time.
``build/faults/many_peers.json`` gets the figures.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import exchange_pb2
from tieline_client import limits, tls
from tieline_client.directory import Directory
from tieline_client.peer_client import PeerClient
from tieline_client.peer_connection import WIRE_VERSION
from tieline_server.domain.messages import Reply
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import Federation, Node
from tests.e2e.rogue import HELLO
from tests.faults.crowd import Member, admit, make_members
from tests.faults.world import BUILD

pytestmark = pytest.mark.slow

HUB = "europol-ec3"
MEMBERS, AT_ONCE, ROUNDS = 200, 16, 5
CALLS_PER_SECOND = 5
"""The hub's setting here: fifty calls at once, and then five a second."""
MORE_BYTES_PER_MEMBER = 512 * 1024
MORE_BYTES_PER_ROUND = 8 * 1024 * 1024
MORE_THREADS = 64
HELD = [f"{number:040x}" for number in (1, 2, 3)]
ASKED = bytes.fromhex("".join([*HELD[:2], "ab" * 20]))


@dataclass(frozen=True)
class Size:
    """Of a process."""

    rss: int
    """Bytes."""
    threads: int

    @classmethod
    def of(cls, node: Node) -> Size:
        assert node.process is not None
        lines = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
        words = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
        return cls(int(words["VmRSS"][0]) * 1024, int(words["Threads"][0]))


@dataclass
class Crowd:
    """The hub and its members, each with a connection of its own."""

    hub: Node
    members: list[Member]
    clients: dict[str, PeerClient]
    directory: Directory
    sent: dict[str, str]
    """Who sent which referral."""

    def serve(self, members: list[Member]) -> None:
        """Let each greet, send a referral and ask, sixteen at a time; all must be served."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for identifier, agency in pool.map(self._one, members):
                self.sent[identifier] = agency

    def _one(self, member: Member) -> tuple[str, str]:
        client = self.clients[member.agency]
        client.hello()
        identifier, request = member.referral(HUB)
        assert int(client.deliver(request).reply) == Reply.APPLIED
        assert member.ask(client, ASKED) == [0, 1]
        return identifier, member.agency


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    root = tmp_path_factory.mktemp("many")
    federation = Federation(root / "nodes")
    federation.root.mkdir()
    federation.found()
    hub = federation.init(HUB, "hub")
    members = make_members(federation.name, MEMBERS)
    admit(federation, members)
    federation.join(hub)
    directory = DirectoryStore(hub.home).current()
    clients = {one.agency: one.client(HUB, hub.address, directory) for one in members}
    try:
        hub.start(TIELINE_NODE_PEER_CALLS_PER_SECOND=str(CALLS_PER_SECOND))
        file = root / "held.txt"
        file.write_text("\n".join(HELD) + "\n")
        hub.import_file(file)
        yield Crowd(hub, members, clients, directory, {})
    finally:
        for client in clients.values():
            client.close()
        federation.close()


def test_all_are_served_and_the_hub_does_not_grow(crowd: Crowd) -> None:
    hub = crowd.hub
    sizes = [Size.of(hub)]
    for _ in range(ROUNDS):
        crowd.serve(crowd.members)
        sizes.append(Size.of(hub))
    _note("rounds", [asdict(one) for one in sizes])

    _all_stored_once(crowd, ROUNDS * MEMBERS)
    idle, first, last = sizes[0], sizes[1], sizes[-1]
    assert first.rss - idle.rss < MEMBERS * MORE_BYTES_PER_MEMBER
    assert last.rss - first.rss < (ROUNDS - 1) * MORE_BYTES_PER_ROUND
    # For calls that are worked on at once, never one for each member.
    assert max(one.threads for one in sizes) < idle.threads + MORE_THREADS


def test_who_calls_without_end_is_slowed_and_nobody_else(crowd: Crowd) -> None:
    bad, *others = crowd.members
    ended, refused = threading.Event(), threading.Event()
    answers: list[float | None] = []

    def misbehave(channel: grpc.Channel) -> None:
        call = channel.unary_unary(HELLO, exchange_pb2.HelloRequest.SerializeToString, None)
        while not ended.is_set():
            answers.append(_retry_after(lambda: call(_hello(crowd), timeout=limits.HELLO_SECONDS)))
            if answers[-1] is not None:
                refused.set()

    channel = tls.node_channel(
        crowd.hub.address,
        agency=HUB,
        federation=crowd.directory.federation,
        roots=crowd.directory.member(HUB).node_cas,
        identity=bad.identity,
    )
    stored = len(crowd.sent)
    with ThreadPoolExecutor(4) as pool:
        attacks = [pool.submit(misbehave, channel) for _ in range(4)]
        try:
            assert refused.wait(60.0), "it was never slowed"
            before = len(answers)
            crowd.serve(others)
            during = answers[before:]
        finally:
            ended.set()
        for attack in attacks:
            attack.result()
    channel.close()
    waits = [one for one in during if one is not None]
    _note("misbehaving", {"calls": len(during), "refused": len(waits)})
    assert len(waits) > len(during) / 2
    assert min(waits) > 0, min(waits)
    assert max(waits) <= 1 / CALLS_PER_SECOND, max(waits)
    _all_stored_once(crowd, stored + len(others))


def _hello(crowd: Crowd) -> exchange_pb2.HelloRequest:
    return exchange_pb2.HelloRequest(
        nonce=secrets.token_bytes(32),
        wire_version=WIRE_VERSION,
        directory_version=crowd.directory.version,
    )


def _retry_after(call: Callable[[], object]) -> float | None:
    """Make a call; when it is over its limit, return in how many seconds it may come again."""
    try:
        call()
    except grpc.RpcError as error:
        failed: Any = error
        status = rpc_status.from_call(failed)
        assert status is not None, failed
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert [one.Unpack(kind) for one, kind in zip(status.details, (info, retry), strict=True)]
        assert (info.reason, info.metadata["check"]) == ("LIMIT_EXCEEDED", "RATE")
        return float(retry.retry_delay.ToMicroseconds() / 1_000_000)
    return None


def _all_stored_once(crowd: Crowd, count: int) -> None:
    stored = crowd.hub.rows("SELECT id, sender FROM referrals WHERE direction = 'in'")
    assert len(stored) == count
    assert dict(stored) == crowd.sent


def _note(name: str, figures: object) -> None:
    path = BUILD / "many_peers.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {name: figures}, indent=2) + "\n")
