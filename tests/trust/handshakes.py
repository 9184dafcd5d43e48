"""Real mutual TLS over loopback with the smallest of servers, to see what becomes of a leaf.

The server checks its caller as the node's interceptor does, on every call and before any handler's
body; the client checks the leaf that the server names in its hello before it sends anything that
counts. ``bodies`` and ``effects`` count what must never happen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import grpc
from cryptography.hazmat.primitives.serialization import Encoding
from tieline_client import keys, tls
from tieline_client.certificates import Kind, LeafCache, Purpose, check_leaf
from tieline_client.errors import TrustError
from tieline_server.trust.authority import AgencyAuthority, issue_node_leaf

from tests.trust.forging import World
from tests.trust.hostile import HANDSHAKE, HostileCase, hostile_cases

ACCEPTED = "ACCEPTED"
_SECONDS = 60


def node_identity(authority: AgencyAuthority, now: datetime) -> tls.Identity:
    """An honest leaf with its key, as the agency's node would have them."""
    key = keys.generate()
    leaf = issue_node_leaf(authority, key.public_key(), now=now)
    return tls.Identity(leaf.public_bytes(Encoding.PEM), keys.private_pem(key))


def hostile_identity(case: HostileCase) -> tls.Identity:
    """The forged leaf with whatever chain the cheat sends."""
    return tls.Identity(case.leaf_pem + case.chain, case.key_pem)


class TinyServer:
    """Hello names the server's leaf; Effect is what only checked callers may reach."""

    def __init__(self, world: World, leaf: bytes) -> None:
        self.bodies = 0
        self.effects = 0
        self.refusals: list[str] = []
        self._world = world
        self._leaf = leaf
        self._cache = LeafCache(world.federation)

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Both methods, each behind the check."""
        return {"Hello": self._checked(self._hello), "Effect": self._checked(self._effect)}

    def _checked(self, body: Callable[[bytes], bytes]) -> grpc.RpcMethodHandler[bytes, bytes]:
        def handle(request: bytes, context: grpc.ServicerContext) -> bytes:
            try:
                auth = context.auth_context()
                tls.check_tls_version(auth)
                self._cache.check(
                    tls.caller_leaf(auth),
                    version=1,
                    kind=Kind.NODE,
                    purpose=Purpose.CALLER,
                    pinned=self._world.pinned_node_cas(),
                    is_revoked=self._world.is_revoked,
                    now=datetime.now(UTC),
                )
            except TrustError as error:
                self.refusals.append(error.reason)
                context.abort(grpc.StatusCode[error.status], error.reason)
            self.bodies += 1
            return body(request)

        return grpc.unary_unary_rpc_method_handler(handle)

    def _hello(self, request: bytes) -> bytes:
        return self._leaf

    def _effect(self, request: bytes) -> bytes:
        self.effects += 1
        return request


@contextmanager
def serving(
    world: World,
    identity: tls.Identity,
    caller_cas: Sequence[bytes],
    current: Callable[[], tls.ServerMaterial] | None = None,
) -> Iterator[tuple[TinyServer, str]]:
    """Run a TinyServer on a free port of loopback; yield it and its address."""
    leaf_pem = identity.leaf_pem.partition(b"-----END")[0] + b"-----END CERTIFICATE-----\n"
    tiny = TinyServer(world, tls.to_der(leaf_pem))
    material = tls.ServerMaterial(identity, tuple(caller_cas))
    server = grpc.server(futures.ThreadPoolExecutor(2), options=tls.server_options())
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("tiny", tiny.handlers()),)
    )
    credentials = tls.server_credentials(current or (lambda: material))
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield tiny, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def call(channel: grpc.Channel, method: str, request: bytes = b"") -> bytes:
    """One unary call; raises grpc.RpcError."""
    answer: bytes = channel.unary_unary(f"/tiny/{method}", None, None)(request, timeout=_SECONDS)
    return answer


def outcome_as_caller(world: World, address: str, tiny: TinyServer, identity: tls.Identity) -> str:
    """Call an honest server of the victim with a leaf: HANDSHAKE, a reason, or ACCEPTED."""
    refused_before = len(tiny.refusals)
    with tls.node_channel(
        address,
        agency=world.victim.agency,
        federation=world.federation,
        roots=[world.victim.der],
        identity=identity,
    ) as channel:
        try:
            call(channel, "Effect")
        except grpc.RpcError as error:
            return _refusal(error, tiny.refusals[refused_before:])
    return ACCEPTED


def outcome_as_server(world: World, case: HostileCase) -> str:
    """Serve with a hostile leaf and let an honest node call: HANDSHAKE, a reason, or ACCEPTED."""
    roots = world.pinned_node_cas().get(case.agency, [world.victim.der])
    with (
        serving(world, hostile_identity(case), [world.other.der]) as (tiny, address),
        tls.node_channel(
            address,
            agency=case.agency,
            federation=world.federation,
            roots=roots,
            identity=node_identity(world.other, world.now),
        ) as channel,
    ):
        try:
            leaf = call(channel, "Hello")
            check_leaf(
                leaf,
                federation=world.federation,
                kind=Kind.NODE,
                purpose=Purpose.SERVER,
                pinned=world.pinned_node_cas(),
                is_revoked=world.is_revoked,
                now=datetime.now(UTC),
                agency=case.agency,
            )
            call(channel, "Effect")
        except grpc.RpcError as error:
            assert tiny.effects == 0
            return _refusal(error, tiny.refusals)
        except TrustError as error:
            assert tiny.effects == 0
            return error.reason
    return ACCEPTED


def _refusal(error: Any, refusals: Sequence[str]) -> str:
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        assert error.details() == refusals[0] and len(refusals) == 1
        return refusals[0]
    assert error.code() is grpc.StatusCode.UNAVAILABLE, error
    assert not refusals
    return HANDSHAKE


@dataclass(frozen=True)
class Row:
    """What became of one case."""

    case: HostileCase
    as_caller: str
    as_server: str


def measure(world: World) -> list[Row]:
    """Show every hostile certificate both ways; the bodies behind the check must stay unreached."""
    rows = []
    every_ca = [der for cas in world.pinned_node_cas().values() for der in cas]
    with serving(world, node_identity(world.victim, world.now), every_ca) as (tiny, address):
        for case in hostile_cases(world):
            before = tiny.bodies
            as_caller = outcome_as_caller(world, address, tiny, hostile_identity(case))
            assert (tiny.bodies == before) == (as_caller != ACCEPTED)
            rows.append(Row(case, as_caller, outcome_as_server(world, case)))
    return rows
