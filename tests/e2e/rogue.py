"""A member gone bad: it holds a joined home's keys, and calls or serves as it likes.

``Rogue`` calls a real node with the valid certificate of its agency and signs with its agency's
key. ``Impostor`` serves on a port and notes every byte that it is sent.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from tieline.v1 import (
    delivery_pb2,
    delivery_pb2_grpc,
    envelope_pb2,
    exchange_pb2,
    exchange_pb2_grpc,
    payload_pb2,
)
from tieline_client import keys, limits, tls
from tieline_client.certificates import Kind
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience, Sealer
from tieline_client.peer_connection import WIRE_VERSION
from tieline_server.config import Home
from tieline_server.trust.authority import AgencyAuthority, load_agency_authority
from tieline_server.trust.directory_store import DirectoryStore

from tests.e2e.federation import PURPOSE, Node

if TYPE_CHECKING:
    # Generic in the type stubs only.
    _Handler = grpc.GenericRpcHandler[Any, Any]
else:
    _Handler = grpc.GenericRpcHandler

SECONDS = 60.0
HELLO = "/tieline.v1.ExchangeService/Hello"
FETCH = "/tieline.v1.DirectoryService/FetchFiles"
_places = itertools.count(1)


class Rogue:
    """The keys of a joined home whose node does not run."""

    def __init__(self, node: Node, federation: str) -> None:
        self.agency, self.federation, self.address = node.agency, federation, node.address
        home = Home(node.home)
        self._home = home
        self.directory = DirectoryStore(node.home).current()
        self.signing_key = keys.load(home.keys / "signing.key")
        self.identity = tls.Identity(
            (home.certs / "node.pem").read_bytes(),
            keys.private_pem(keys.load(home.keys / "node.key")),
        )
        self.sealer = Sealer(federation, node.agency, self.signing_key)

    def authority(self, kind: Kind = Kind.NODE) -> AgencyAuthority:
        """The agency's own CA with its key."""
        name = f"{kind.value}-ca"
        pem = (self._home.certs / f"{name}.pem").read_bytes()
        key = keys.load(self._home.keys / f"{name}.key")
        return load_agency_authority(kind, self.federation, self.agency, pem, key)

    # --- as a caller ---

    def channel(self, to: Node, identity: tls.Identity | None = None) -> grpc.Channel:
        """A channel to a real node, with this agency's certificate or another."""
        return tls.node_channel(
            to.address,
            agency=to.agency,
            federation=self.federation,
            roots=self.directory.member(to.agency).node_cas,
            identity=identity or self.identity,
        )

    def seal(
        self,
        payload: payload_pb2.Payload,
        to: str | Audience,
        *,
        at: datetime | None = None,
        life: timedelta = limits.ENVELOPE_LIFE,
    ) -> envelope_pb2.Envelope:
        """Sign as this agency; person, purpose and case are filled in where they are missing."""
        payload.person = payload.person or "mallory"
        payload.purpose = payload.purpose or PURPOSE
        payload.case_ref = payload.case_ref or "2026-118"
        audience = Audience(agency=to) if isinstance(to, str) else to
        return self.sealer.seal(payload, audience, at or datetime.now(UTC), life)

    def deliver(
        self, to: Node, envelope: envelope_pb2.Envelope, lane: int = 3
    ) -> delivery_pb2.DeliverResponse:
        """Deliver one envelope, each in a place of its own; raises grpc.RpcError."""
        request = delivery_pb2.DeliverRequest(
            envelope=envelope, lane=lane, sequence=next(_places), epoch="e"
        )
        with self.channel(to) as channel:
            stub = delivery_pb2_grpc.DeliveryServiceStub(channel)
            return stub.Deliver(request, timeout=SECONDS)

    def put_chunk(self, to: Node, request: delivery_pb2.PutChunkRequest) -> int:
        """Send one chunk; return the index that is next. Raises grpc.RpcError."""
        with self.channel(to) as channel:
            stub = delivery_pb2_grpc.DeliveryServiceStub(channel)
            return stub.PutChunk(request, timeout=SECONDS).next_index

    def overlap(
        self, to: Node, requests: Iterable[exchange_pb2.OverlapRequest]
    ) -> list[exchange_pb2.OverlapResponse]:
        """Ask; raises grpc.RpcError."""
        with self.channel(to) as channel:
            stub: Any = exchange_pb2_grpc.ExchangeServiceStub(channel)
            return list(stub.Overlap(iter(requests), timeout=SECONDS))

    def raw(self, to: Node, method: str, data: bytes = b"", **options: Any) -> bytes:
        """One unary call with these very bytes; raises grpc.RpcError."""
        with self.channel(to) as channel:
            answer: bytes = channel.unary_unary(method, None, None)(
                data, timeout=SECONDS, **options
            )
            return answer

    # --- as a server ---

    def hello(self, request: bytes, to: str, leaf: bytes = b"", **changes: Any) -> bytes:
        """The honest answer to a Hello, but for what is overridden."""
        asked = exchange_pb2.HelloRequest.FromString(request)
        fields: dict[str, Any] = {
            "nonce": asked.nonce,
            "caller": str(SpiffeId(self.federation, to)),
            "leaf": leaf or tls.to_der(self.identity.leaf_pem),
            "wire_version": WIRE_VERSION,
            "directory_version": self.directory.version,
        }
        proof = payload_pb2.HelloProof(**(fields | changes))
        sealed = self.sealer.seal(
            payload_pb2.Payload(hello=proof),
            Audience(agency=to),
            datetime.now(UTC),
            limits.QUERY_LIFE,
        )
        return exchange_pb2.HelloResponse(proof=sealed).SerializeToString()


def infos(error: Any) -> list[Any]:
    """All ErrorInfos of a failed call; [] for a bare status."""
    status = rpc_status.from_call(error)
    found = []
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        assert detail.Unpack(info), detail.type_url
        found.append(info)
    return found


def refusal(call: Callable[[], object]) -> tuple[grpc.StatusCode, str, str]:
    """Make a call that must fail with exactly one ErrorInfo; return code, reason, finer check."""
    try:
        answer = call()
    except grpc.RpcError as error:
        failed: Any = error
        found = infos(failed)
        assert len(found) == 1, (failed.code(), failed.details(), found)
        assert found[0].domain == "tieline"
        assert "\n" not in failed.details()
        return failed.code(), found[0].reason, found[0].metadata.get("check", "")
    raise AssertionError(f"it was answered: {answer!r}")


Answer = Callable[[bytes], bytes | None]
"""From a Hello's bytes to the answer's; None leaves it open, an exception aborts it."""


@dataclass
class Impostor:
    """A server that notes what it is sent. ``hello`` says what it answers to a Hello."""

    hello: Answer
    after: Callable[[str, list[bytes]], Iterable[bytes]] = lambda _method, _sent: ()
    """What it answers to any other method, from all that was sent."""
    seen: list[tuple[str, bytes]] = field(default_factory=list)
    """Every (method, message) but Hellos and reads of the directory, and a method without a message
    as (method, b"")."""
    fetched: list[bytes] = field(default_factory=list)
    """Reads of the directory, which a node makes when its time has come, of any server whose
    certificate its TLS takes: the answer proves itself, and the request holds names of files."""
    hellos: list[bytes] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)
    """Of each Hello: whether its connection resumed a TLS session of before."""
    closing: threading.Event = field(default_factory=threading.Event)
    came: threading.Condition = field(default_factory=threading.Condition)

    def service(self, details: Any) -> Any:
        """Take every method there is."""
        method = details.method

        def handle(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
            if method == HELLO:
                yield from self._greet(requests, context)
                return
            if method == FETCH:
                self.fetched.extend(requests)
                context.abort(grpc.StatusCode.UNAVAILABLE, "no directory here")
            self._note(method, b"")
            sent = []
            for message in requests:
                self._note(method, message)
                sent.append(message)
            yield from self.after(method, sent)

        return grpc.stream_stream_rpc_method_handler(handle)

    def _note(self, method: str, message: bytes) -> None:
        with self.came:
            self.seen.append((method, message))
            self.came.notify_all()

    def was_sent(self, message: bytes, seconds: float) -> bool:
        """Wait until it was sent a message; say whether it was, within so many seconds."""
        with self.came:
            return self.came.wait_for(lambda: message in [one for _, one in self.seen], seconds)

    def _greet(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        for request in requests:
            self.hellos.append(request)
            reused = context.auth_context().get("ssl_session_reused", ())
            self.resumed.append(list(reused) == [b"true"])
            answer = self.hello(request)
            if answer is None:
                while context.is_active() and not self.closing.wait(0.05):
                    pass
                return
            yield answer


class _Everything(_Handler):
    def __init__(self, impostor: Impostor) -> None:
        self._impostor = impostor

    def service(self, handler_call_details: Any) -> Any:
        return self._impostor.service(handler_call_details)


@contextmanager
def serving(
    impostor: Impostor, address: str, identity: tls.Identity, caller_cas: Sequence[bytes]
) -> Iterator[str]:
    """Serve on ``address`` (port 0 for a free one); yield the address."""
    server = grpc.server(futures.ThreadPoolExecutor(8), options=tls.server_options())
    server.add_generic_rpc_handlers((_Everything(impostor),))
    material = tls.ServerMaterial(identity, tuple(caller_cas))
    port = server.add_secure_port(address, tls.server_credentials(lambda: material))
    assert port
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        impostor.closing.set()
        server.stop(0).wait()
