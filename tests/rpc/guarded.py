"""Real listeners over mutual TLS on loopback, behind the guard, with servicers that tests steer.

The federation ``demo`` has three agencies: ``pt-pj``, whose node is under test, and ``us-ice`` and
``us-fbi``, which call. ``pt-pj`` has the people ``ana`` (analyst) and ``rui`` (all four roles).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, cast

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import exchange_pb2, exchange_pb2_grpc, operator_pb2, operator_pb2_grpc
from tieline_client import keys, tls
from tieline_client.certificates import Kind
from tieline_client.directory import Directory, Member, Role
from tieline_server.domain.ports import Operator
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.identity import Identifier, OperatorIdentifier, PeerIdentifier
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import RULES, Listener, Rule
from tieline_server.rpc.peer_limits import PeerLimits
from tieline_server.rpc.server import Endpoint, build_server
from tieline_server.rpc.streams import Watchdog
from tieline_server.trust.authority import (
    AgencyAuthority,
    create_authority,
    issue_node_leaf,
    issue_operator_leaf,
)

FEDERATION = "demo"
OWN, ICE, FBI = "pt-pj", "us-ice", "us-fbi"
SECONDS = 60
PATIENCE = 20
"""Times the node's own bounds: a test that means a bound states a rule of its own."""
PATIENT = {
    name: replace(row, seconds=row.seconds * PATIENCE, idle=row.idle * PATIENCE)
    for name, row in RULES.items()
}
EXCHANGE = "/tieline.v1.ExchangeService"
OPERATOR = "/tieline.v1.OperatorService"


@dataclass
class Agency:
    """An agency's CAs and its node's identity."""

    name: str
    now: datetime
    node_ca: AgencyAuthority = field(init=False)
    operator_ca: AgencyAuthority = field(init=False)
    leaf: x509.Certificate = field(init=False)
    identity: tls.Identity = field(init=False)

    def __post_init__(self) -> None:
        make = partial(create_authority, federation=FEDERATION, agency=self.name, now=self.now)
        self.node_ca = make(Kind.NODE, key=keys.generate())
        self.operator_ca = make(Kind.OPERATOR, key=keys.generate())
        key = keys.generate()
        self.leaf = issue_node_leaf(self.node_ca, key.public_key(), now=self.now)
        self.identity = tls.Identity(self.leaf.public_bytes(Encoding.PEM), keys.private_pem(key))

    def person(self, name: str) -> tuple[int, tls.Identity]:
        """Issue a person's certificate; return its serial number and the identity."""
        key = keys.generate()
        leaf = issue_operator_leaf(self.operator_ca, name, key.public_key(), now=self.now)
        pem = leaf.public_bytes(Encoding.PEM)
        return leaf.serial_number, tls.Identity(pem, keys.private_pem(key))


@dataclass
class World:
    """The three agencies, the directory that lists them, and the people of pt-pj."""

    now: datetime
    agencies: dict[str, Agency]
    directory: Directory
    operators: dict[str, Operator]
    people: dict[str, tls.Identity]

    def clock(self) -> datetime:
        return self.now

    def revise(self, **changes: Any) -> None:
        """Put a next version of the directory in place."""
        fields = {name: getattr(self.directory, name) for name in Directory.model_fields}
        self.directory = Directory(**(fields | {"version": self.directory.version + 1} | changes))


def make_world() -> World:
    """Make all of it anew; TLS looks at the real clock, so ``now`` is the real time."""
    now = datetime.now(UTC).replace(microsecond=0)
    agencies = {name: Agency(name, now) for name in (OWN, ICE, FBI)}
    directory = Directory(
        federation=FEDERATION,
        version=7,
        expires=now + timedelta(days=14),
        members=tuple(
            Member(
                agency=name,
                name=name,
                role=Role.NATIONAL,
                node_cas=(agency.node_ca.der,),
                operator_cas=(agency.operator_ca.der,),
            )
            for name, agency in agencies.items()
        ),
    )
    operators, people = {}, {}
    for name, roles in {
        "ana": ("analyst",),
        "rui": ("analyst", "officer", "auditor", "admin"),
    }.items():
        serial, people[name] = agencies[OWN].person(name)
        operators[name] = Operator(name, roles, (serial,), now)
    return World(now, agencies, directory, operators, people)


def _echo(requests: Iterator[Any], _context: Any) -> Iterator[Any]:
    return (exchange_pb2.OverlapResponse() for _ in requests)


class Exchange(exchange_pb2_grpc.ExchangeServiceServicer):
    """Does what a test puts in place; counts what reached it."""

    def __init__(self) -> None:
        self.bodies = 0
        self.on_hello: Callable[[Any, Any], Any] = lambda _request, _context: (
            exchange_pb2.HelloResponse()
        )
        self.on_overlap: Callable[[Iterator[Any], Any], Iterable[Any]] = _echo

    def Hello(self, request: Any, context: Any) -> Any:
        self.bodies += 1
        return self.on_hello(request, context)

    def Overlap(self, request_iterator: Any, context: Any) -> Any:
        self.bodies += 1
        return self.on_overlap(request_iterator, context)

    def OverlapBrief(self, request: Any, context: Any) -> Any:
        self.bodies += 1
        return exchange_pb2.OverlapBriefResponse(parts=self.on_overlap(iter([request]), context))


class People(operator_pb2_grpc.OperatorServiceServicer):
    """A few methods of the operator port, one of each shape that it has."""

    def __init__(self) -> None:
        self.bodies = 0
        self.seen: list[Any] = []
        self.fault: Exception | None = None

    def GetStats(self, request: Any, context: Any) -> Any:
        self.bodies += 1
        self.seen.append(context.caller)
        if self.fault is not None:
            raise self.fault
        return operator_pb2.GetStatsResponse(items=3)

    def ReferSeries(self, request: Any, context: Any) -> Any:
        self.bodies += 1
        return operator_pb2.ReferSeriesResponse()

    def Import(self, request_iterator: Any, context: Any) -> Any:
        self.bodies += 1
        for count, _ in enumerate(request_iterator, 1):
            yield operator_pb2.ImportResponse(staged=count)

    def ListAuditEntries(self, request: Any, context: Any) -> Any:
        self.bodies += 1
        for start in range(request.start, request.start + 3):
            yield operator_pb2.ListAuditEntriesResponse(start=start, leaves=[b"{}"])


@dataclass
class Listening:
    """A started listener with what it was asked and what it refused."""

    world: World
    endpoint: Endpoint
    limits: PeerLimits
    refusals: list[Refusal]
    exchange: Exchange
    people: People
    refused: threading.Condition

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.endpoint.port}"

    def channel(self, identity: tls.Identity) -> grpc.Channel:
        """A channel as a peer or a person opens it."""
        return tls.node_channel(
            self.address,
            agency=OWN,
            federation=FEDERATION,
            roots=[self.world.agencies[OWN].node_ca.der],
            identity=identity,
        )

    def peer(self, agency: str = ICE) -> grpc.Channel:
        return self.channel(self.world.agencies[agency].identity)

    def person(self, name: str = "ana") -> grpc.Channel:
        return self.channel(self.world.people[name])

    def wait_for_refusals(self, count: int) -> list[Refusal]:
        """Return the refusals once there are so many; they come from other threads."""
        with self.refused:
            assert self.refused.wait_for(lambda: len(self.refusals) >= count, SECONDS)
            return list(self.refusals)


@contextmanager
def listening(
    world: World,
    listener: Listener = Listener.FEDERATION,
    *,
    rules: dict[str, Rule] | None = None,
    without: str = "",
    caller_cas: Iterable[bytes] | None = None,
    identifier: Identifier | None = None,
    check_responses: bool = True,
    **server: Any,
) -> Iterator[Listening]:
    """Serve on a free port of loopback; ``without`` takes the row of one method away."""
    # The stubs call a servicer without all methods abstract; gRPC answers for the missing ones.
    exchange, people = Exchange(), cast("Any", People)()
    refusals: list[Refusal] = []
    refused = threading.Condition()

    def on_refusal(refusal: Refusal) -> None:
        with refused:
            refusals.append(refusal)
            refused.notify_all()

    own = world.agencies[OWN]
    if listener is Listener.FEDERATION:
        identifier = identifier or PeerIdentifier(lambda: world.directory, world.clock)
        roots = [agency.node_ca.der for agency in world.agencies.values()]
        register = partial(exchange_pb2_grpc.add_ExchangeServiceServicer_to_server, exchange)
    else:
        identifier = identifier or OperatorIdentifier(
            OWN, FEDERATION, lambda: (own.operator_ca.der,), world.operators.get, clock=world.clock
        )
        roots = [own.operator_ca.der]
        register = partial(operator_pb2_grpc.add_OperatorServiceServicer_to_server, people)
    limits = PeerLimits()
    guard = Guard(
        listener,
        identifier,
        world.clock,
        on_refusal,
        rules={name: row for name, row in {**PATIENT, **(rules or {})}.items() if name != without},
        peer_limits=limits,
        watchdog=Watchdog(interval=0.02),
        check_responses=check_responses,
    )
    material = tls.ServerMaterial(own.identity, tuple(caller_cas or roots))
    endpoint = build_server(
        "127.0.0.1:0", tls.server_credentials(lambda: material), [guard], [register], **server
    )
    endpoint.start()
    try:
        yield Listening(world, endpoint, limits, refusals, exchange, people, refused)
    finally:
        endpoint.stop(0)


def raw(channel: grpc.Channel, method: str, data: bytes = b"") -> bytes:
    """One unary call with these very bytes."""
    answer: bytes = channel.unary_unary(method, None, None)(data, timeout=SECONDS)
    return answer


def exchange(channel: grpc.Channel) -> Any:
    """The stub of the service between nodes; its calls are iterators, which the types leave out."""
    return exchange_pb2_grpc.ExchangeServiceStub(channel)


def error_infos(error: Any) -> list[Any]:
    """All ErrorInfos of a failed call; [] for a bare status."""
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        assert detail.Unpack(info), detail.type_url
        found.append(info)
    return found


def only_reason(error: Any) -> tuple[grpc.StatusCode, str, str]:
    """Code, reason and finer check of a call that must carry exactly one ErrorInfo."""
    (info,) = error_infos(error)
    assert info.domain == "tieline"
    return error.code(), info.reason, info.metadata.get("check", "")
