"""A hub's federation port with its switchboard, and members that attach, connect and carry.

The calls are those of ``RelayService`` itself, with real certificates over loopback, so that a test
decides what each side sends and when it reads.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
from tieline.v1 import relay_pb2, relay_pb2_grpc
from tieline_client import tls
from tieline_client.directory import Directory, Member, Role
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.identity import PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener, Rule
from tieline_server.rpc.relay import RelayServicer
from tieline_server.rpc.server import Endpoint, build_server, standing_threads
from tieline_server.rpc.streams import Watchdog
from tieline_server.services.relaying import Switchboard

from tests.rpc.guarded import FEDERATION, OWN, PATIENT, Agency

SECONDS = 120


def record(body: bytes = b"x", kind: int = 23) -> bytes:
    """One TLS record."""
    return bytes([kind]) + b"\x03\x03" + len(body).to_bytes(2) + body


@dataclass
class Hub:
    """The started listener of ``pt-pj``, here a hub."""

    agencies: dict[str, Agency]
    directory: Directory
    board: Switchboard = field(init=False)
    endpoint: Endpoint = field(init=False)
    refusals: list[Refusal] = field(default_factory=list)
    heard: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    refused: queue.SimpleQueue[Refusal] = field(default_factory=queue.SimpleQueue)
    is_hub: bool = True

    def note(self, refusal: Refusal) -> None:
        """Keep a refusal; it comes from the call's thread, after its caller knows."""
        self.refusals.append(refusal)
        self.refused.put(refusal)

    def revise(self, **changes: Member) -> None:
        """Put a next version of the directory in place, with these members changed."""
        members = tuple(
            changes.get(member.agency.replace("-", "_"), member)
            for member in self.directory.members
        )
        self.directory = Directory(
            federation=FEDERATION,
            version=self.directory.version + 1,
            expires=self.directory.expires,
            members=members,
        )

    @contextmanager
    def calls(self, agency: str) -> Iterator[Any]:
        """The relay service as one member calls it."""
        channel = tls.node_channel(
            f"127.0.0.1:{self.endpoint.port}",
            agency=OWN,
            federation=FEDERATION,
            roots=[self.agencies[OWN].node_ca.der],
            identity=self.agencies[agency].identity,
        )
        try:
            yield relay_pb2_grpc.RelayServiceStub(channel)
        finally:
            channel.close()


@contextmanager
def hub(
    attached: Iterable[str],
    others: Iterable[str] = ("us-ice", "us-fbi"),
    **changes: dict[str, float],
) -> Iterator[Hub]:
    """Serve a hub; ``attached`` may attach, ``others`` may be called.

    ``changes`` are changed bounds by the relay's method, such as ``Carry={"idle": 1.0}``.
    """
    now = datetime.now(UTC).replace(microsecond=0)
    outbound = set(attached)
    agencies = {name: Agency(name, now) for name in (OWN, *others, *sorted(outbound))}
    members = tuple(
        Member(
            agency=name,
            name=name,
            role=Role.HUB if name == OWN else Role.NATIONAL,
            node_cas=(agency.node_ca.der,),
            outbound_only=name in outbound,
        )
        for name, agency in agencies.items()
    )
    expires = now + timedelta(days=14)
    made = Hub(
        agencies, Directory(federation=FEDERATION, version=1, expires=expires, members=members)
    )
    made.board = Switchboard(OWN, lambda: made.directory, lambda: datetime.now(UTC), made.heard.put)
    rules: dict[str, Rule] = dict(PATIENT)
    for method, bounds in changes.items():
        name = f"/tieline.v1.RelayService/{method}"
        rules[name] = replace(rules[name], **bounds)  # type: ignore[arg-type]
    threads = standing_threads()
    guard = Guard(
        Listener.FEDERATION,
        PeerIdentifier(lambda: made.directory, lambda: datetime.now(UTC)),
        lambda: datetime.now(UTC),
        made.note,
        rules=rules,
        watchdog=Watchdog(interval=0.02),
        check_responses=True,
        standing_threads=threads,
    )
    material = tls.ServerMaterial(
        agencies[OWN].identity, tuple(agency.node_ca.der for agency in agencies.values())
    )
    servicer = RelayServicer(made.board, lambda: made.is_hub)
    made.endpoint = build_server(
        "127.0.0.1:0",
        tls.server_credentials(lambda: material),
        [guard],
        [lambda server: relay_pb2_grpc.add_RelayServiceServicer_to_server(servicer, server)],
        standing=threads,
    )
    made.endpoint.start()
    try:
        yield made
    finally:
        made.board.close()
        made.endpoint.stop(0)


class Side:
    """One side of a connection: ``send``, ``end``, and what came, in order."""

    def __init__(self, start: Callable[[Iterator[Any]], Any], first: Any, kind: type[Any]) -> None:
        self._kind = kind
        self._sending: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._sending.put(first)
        self.call = start(self._requests())

    def _requests(self) -> Iterator[Any]:
        while (message := self._sending.get()) is not None:
            yield message

    def send(self, records: bytes) -> None:
        self._sending.put(self._kind(records=records))

    def end(self) -> None:
        self._sending.put(None)

    def take(self) -> bytes:
        """The next frame; raises StopIteration at the end, RpcError when it failed."""
        return bytes(next(self.call).records)


def connecting(stub: Any, agency: str) -> Side:
    """Ask for a connection."""
    return Side(
        lambda requests: stub.Connect(requests, timeout=SECONDS),
        relay_pb2.ConnectRequest(agency=agency),
        relay_pb2.ConnectRequest,
    )


def carrying(stub: Any, connection: str) -> Side:
    """Take up a connection."""
    return Side(
        lambda requests: stub.Carry(requests, timeout=SECONDS),
        relay_pb2.CarryRequest(connection=connection),
        relay_pb2.CarryRequest,
    )


def attaching(stub: Any) -> Any:
    """Open a standing stream and wait for its first message."""
    standing = stub.Attach(relay_pb2.AttachRequest(), timeout=SECONDS)
    assert next(standing).connection == ""
    return standing


def announced(standing: Any) -> str:
    """The next connection that is announced."""
    return str(next(one.connection for one in standing if one.connection))


def paired(asker: Any, target: Any, standing: Any, agency: str) -> tuple[Side, Side]:
    """Both sides of a connection that was taken up."""
    near = connecting(asker, agency)
    far = carrying(target, announced(standing))
    assert near.take() == b""
    return near, far


def code_of(error: grpc.RpcError) -> Any:
    """The status of a failed call."""
    return error.code()


def in_threads(work: Iterable[Callable[[], object]]) -> None:
    """Do all at once and wait for all."""
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
