"""Node to node: one channel to one agency, nothing sent before that agency's node proved itself.

TLS alone proves that the server holds a certificate of the agency's CA for the agency's name; a
client cannot see the leaf (threats.md 10). So the first call on every connection is Hello: the
server signs our nonce, the caller as it saw us, and its own leaf, and the same checks are run on
that leaf as a server runs on its callers. A connection that broke is greeted again.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TypeVar

import grpc
from google.protobuf.message import Message
from tieline.v1 import audit_pb2, delivery_pb2, envelope_pb2, exchange_pb2, relay_pb2

from tieline_client import WIRE_MAJOR, WIRE_MINOR, constraints, limits, tls
from tieline_client.certificates import Kind, LeafCache, LeafIdentity, Purpose
from tieline_client.checked_stream import CheckedStream
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory import Directory
from tieline_client.directory_client import VERSION_KEY, DirectoryCalls
from tieline_client.errors import SignatureRefused, TrustError, UnknownMethod, Unreachable
from tieline_client.identifiers import SpiffeId
from tieline_client.payloads import Audience, moment, open_payload
from tieline_client.relay_client import StreamCall, relay
from tieline_client.status import from_rpc_error

WIRE_VERSION = f"{WIRE_MAJOR}.{WIRE_MINOR}"
DELIVER_BATCH = "deliver-batch"
"""The capability of a peer that takes several messages at once."""
STANDING = "standing"
"""The capability of a peer that says how it stands, and gives back what was sent to it."""
RELAY = "relay"
"""The capability of a peer that nodes which only call out can be attached to."""
CHECKPOINTS = "checkpoints"
"""The capability of a peer that swaps and countersigns heads of audit logs."""
M = TypeVar("M", bound=Message)
A = TypeVar("A", bound=Message)
_EXCHANGE, _DELIVERY = "/tieline.v1.ExchangeService", "/tieline.v1.DeliveryService"
_RELAY = "/tieline.v1.RelayService"


class PeerClient:
    """Calls to one peer. Safe to share between threads; ``close`` ends it.

    Every method raises a TielineError: Unreachable when nobody answers in time, TrustError when the
    server does not prove itself, otherwise what the peer said.
    """

    def __init__(
        self,
        *,
        own_agency: str,
        agency: str,
        endpoints: Sequence[str],
        directory: Callable[[], Directory],
        identity: tls.Identity,
        leaves: LeafCache,
        clock: Callable[[], datetime],
        proxy: str = "",
        idle_seconds: float = 0,
        why_unreachable: Callable[[], str] = lambda: "",
    ) -> None:
        """``proxy`` and ``idle_seconds`` are those of tls.node_channel; ``why_unreachable`` knows
        more than gRPC of why there is no connection, or returns ""."""
        if not endpoints:
            raise Unreachable(f"the directory lists no endpoint of {agency}")
        self.agency = agency
        self._own = own_agency
        self._directory, self._leaves, self._clock = directory, leaves, clock
        self._why_unreachable = why_unreachable
        current = directory()
        self._channel = tls.node_channel(
            endpoints[0],
            agency=agency,
            federation=current.federation,
            roots=current.member(agency).node_cas,
            identity=identity,
            proxy=proxy,
            idle_seconds=idle_seconds,
        )
        # Answers are parsed here, where what does not parse is an error like any other.
        self._hello = self._channel.unary_unary(
            f"{_EXCHANGE}/Hello", exchange_pb2.HelloRequest.SerializeToString, None
        )
        self._overlap = self._channel.stream_stream(f"{_EXCHANGE}/Overlap", None, None)
        self._overlap_brief = self._channel.unary_unary(
            f"{_EXCHANGE}/OverlapBrief", exchange_pb2.OverlapBriefRequest.SerializeToString, None
        )
        self._deliver = self._channel.unary_unary(
            f"{_DELIVERY}/Deliver", delivery_pb2.DeliverRequest.SerializeToString, None
        )
        self._deliver_batch = self._channel.unary_unary(
            f"{_DELIVERY}/DeliverBatch", delivery_pb2.DeliverBatchRequest.SerializeToString, None
        )
        self._put_chunk = self._channel.unary_unary(
            f"{_DELIVERY}/PutChunk", delivery_pb2.PutChunkRequest.SerializeToString, None
        )
        self.capabilities: frozenset[str] = frozenset()
        """What the peer said in its last Hello that it can do."""
        self.wire_version = ""
        self._contact = self._channel.unary_unary(
            f"{_DELIVERY}/Contact", delivery_pb2.ContactRequest.SerializeToString, None
        )
        self._fetch_sent = self._channel.unary_stream(
            f"{_DELIVERY}/FetchSent", delivery_pb2.FetchSentRequest.SerializeToString, None
        )
        self.on_greeted: Callable[[], None] = lambda: None
        """Called after the Hello of each new connection."""
        self.catch_up: Callable[[str, int], bool] = lambda _agency, _version: False
        """Fetches the directory of that version or, for 0, whatever is newer; says whether this
        node's directory changed."""
        self._greeting = threading.Lock()
        self._greeted_version = 0
        self._connected = False
        self._server_leaf = b""
        self._server: LeafIdentity | None = None
        self._trusted: Directory | None = None
        """The directory under which the server's leaf was checked last."""
        self._counting = threading.Lock()
        self._under_way = 0
        self.skew = timedelta(0)
        """How far the peer's clock was ahead of ours at the last Hello, give or take half of the
        time that it took."""

    @property
    def connected(self) -> bool:
        """Whether the peer was greeted on a connection that has not broken since."""
        if self._connected and not tls.is_ready(self._channel):
            self._connected = False
        return self._connected

    def hello(self) -> None:
        """Greet unless this connection was greeted under the current directory.

        1. The server answers with a proof that this agency signed for us.
        2. It holds our nonce, and saw us as who we are.
        3. The leaf it shows passes every check for a server of that agency.
        """
        directory = self._directory()
        directory.check_fresh(self._clock())
        if self._greeted(directory):
            return
        with self._greeting:
            if self._greeted(directory):
                return
            self._greeted_version = self._greet_current(directory)
            anew, self._connected = not self._connected, True
        if anew:
            self.on_greeted()

    def _greeted(self, directory: Directory) -> bool:
        """Whether this connection was, under this directory, and the server's leaf still holds."""
        return (
            self.connected
            and self._greeted_version == directory.version
            and self._server is not None
            and self._server.covers(self._clock())
        )

    def greet_again(self) -> None:
        """Say Hello whether or not this connection was greeted: it measures ``skew`` anew."""
        directory = self._directory()
        directory.check_fresh(self._clock())
        with self._greeting:
            self._greet(directory)

    @property
    def leaf(self) -> LeafIdentity | None:
        """Whose leaf the peer showed in its last Hello."""
        return self._server

    def _greet_current(self, directory: Directory) -> int:
        """Greet, and once more where the peer works with a newer directory, or with keys that may
        stand in one; return the version of the directory that it was greeted under."""
        theirs, again = 0, False
        try:
            theirs = self._greet(directory)
        except TrustError:
            if not self.catch_up(self.agency, 0):
                raise
            again = True
        if theirs > directory.version:
            self.catch_up(self.agency, theirs)
        current = self._directory()
        if again or current.version != directory.version:
            current.check_fresh(self._clock())
            self._greet(current)
        return current.version

    def _greet(self, directory: Directory) -> int:
        """Greet under a directory; return the version that the peer works with."""
        now = self._clock()
        nonce = secrets.token_bytes(32)
        request = exchange_pb2.HelloRequest(
            nonce=nonce, wire_version=WIRE_VERSION, directory_version=directory.version
        )
        with self._translated():
            data = self._hello(
                request, timeout=limits.HELLO_SECONDS, metadata=self._stated(directory)
            )
        answered = self._clock()
        answer = constraints.open_nested(data, exchange_pb2.HelloResponse)
        # 1
        payload = open_payload(
            answer.proof,
            directory=directory,
            issuer=self.agency,
            audience=Audience(agency=self._own),
            now=now,
        )
        if payload.WhichOneof("body") != "hello":
            raise SignatureRefused(f"{self.agency} answered a Hello with something else")
        proof = payload.hello
        # 2
        caller = str(SpiffeId(directory.federation, self._own))
        if proof.nonce != nonce or proof.caller != caller:
            raise SignatureRefused(f"{self.agency} answered somebody else's Hello")
        # 3
        self._check_server(proof.leaf, directory, now)
        self.skew = moment(payload.issue_time) - (now + (answered - now) / 2)
        self.capabilities = frozenset(proof.capabilities)
        self.wire_version = proof.wire_version
        return proof.directory_version

    def directory_files(self) -> DirectoryCalls:
        """Return the calls that need no Hello: the peer's copy of the directory."""
        return DirectoryCalls(self.agency, self._channel, self._translated, self._stated)

    def _stated(self, directory: Directory | None = None) -> tuple[tuple[str, str], ...]:
        """Return the metadata of every call: which directory this node works with."""
        return ((VERSION_KEY, str((directory or self._directory()).version)),)

    def _check_server(self, leaf: bytes, directory: Directory, now: datetime) -> None:
        self._server = self._leaves.check(
            leaf,
            version=directory.version,
            kind=Kind.NODE,
            purpose=Purpose.SERVER,
            pinned=directory.pinned_node_cas(),
            is_revoked=directory.is_revoked,
            now=now,
            agency=self.agency,
        )
        self._server_leaf, self._trusted = leaf, directory

    def _check_again(self) -> None:
        """Within a stream: look again at the server once the directory is another one."""
        directory, server = self._directory(), self._server
        if directory is not self._trusted or server is None or not server.covers(self._clock()):
            directory.check_fresh(self._clock())
            self._check_server(self._server_leaf, directory, self._clock())

    def overlap(
        self,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Send a signed header and the batches; yield each checked response as it comes."""

        sent = CheckedStream(self._check_again)

        def requests() -> Iterator[bytes]:
            yield exchange_pb2.OverlapRequest(header=header).SerializeToString()
            for batch in batches:
                yield batch.message

        self.hello()
        call = None
        try:
            with self._translated():
                call = self._overlap(
                    sent.through(requests()), timeout=timeout, metadata=self._stated()
                )
                sent.cancel = call.cancel
                sent.ready.set()
                try:
                    for data in call:
                        self._check_again()
                        yield constraints.open_nested(data, exchange_pb2.OverlapResponse)
                except grpc.RpcError:
                    if sent.refused is None:
                        raise
                if sent.refused is not None:
                    raise sent.refused
        finally:
            sent.ready.set()
            if call is not None:
                call.cancel()  # type: ignore[no-untyped-call]  # the stub lacks the annotation

    def overlap_brief(
        self,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Ask few digests in one message; yield what `overlap` would.

        Raises LimitExceeded with check BRIEF when the answer is longer than a message.
        """
        self.hello()
        request = exchange_pb2.OverlapBriefRequest(
            header=header, lists=(one.to_wire() for one in batches)
        )
        with self._translated():
            data = self._overlap_brief(request, timeout=timeout, metadata=self._stated())
        yield from constraints.open_nested(data, exchange_pb2.OverlapBriefResponse).parts

    def deliver(self, request: delivery_pb2.DeliverRequest) -> delivery_pb2.DeliverResponse:
        """Deliver one message; the answer comes after the peer's durable commit."""
        self.hello()
        with self._translated():
            data = self._deliver(request, timeout=limits.DELIVER_SECONDS, metadata=self._stated())
        return constraints.open_nested(data, delivery_pb2.DeliverResponse)

    def deliver_batch(
        self, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        """Deliver several messages; the answer comes after the peer's durable commit.

        Raises UnknownMethod for a peer without the capability, Unreachable when there is not one
        reply for each message.
        """
        self.hello()
        if DELIVER_BATCH not in self.capabilities:
            raise UnknownMethod(f"{self.agency} takes messages one by one")
        with self._translated():
            data = self._deliver_batch(
                request, timeout=limits.DELIVER_SECONDS, metadata=self._stated()
            )
        response = constraints.open_nested(data, delivery_pb2.DeliverBatchResponse)
        if len(response.replies) != len(request.messages):
            raise Unreachable(f"{self.agency} answered another number of messages than it was sent")
        return response

    def put_chunk(self, request: delivery_pb2.PutChunkRequest) -> delivery_pb2.PutChunkResponse:
        """Send one chunk of an attachment, or with none ask which comes next."""
        self.hello()
        with self._translated():
            data = self._put_chunk(request, timeout=limits.DELIVER_SECONDS, metadata=self._stated())
        return constraints.open_nested(data, delivery_pb2.PutChunkResponse)

    def contact(self, request: delivery_pb2.ContactRequest) -> delivery_pb2.ContactResponse:
        """Exchange standings. Raises UnknownMethod for a peer without the capability."""
        self.hello()
        self._needs_standing()
        with self._translated():
            data = self._contact(request, timeout=limits.UNARY_SECONDS, metadata=self._stated())
        return constraints.open_nested(data, delivery_pb2.ContactResponse)

    def fetch_sent(
        self, request: delivery_pb2.FetchSentRequest
    ) -> Iterator[delivery_pb2.FetchSentResponse]:
        """Yield what the peer holds of ours. Raises UnknownMethod without the capability."""
        self.hello()
        self._needs_standing()
        with self._translated():
            for data in self._fetch_sent(
                request, timeout=limits.QUERY_SECONDS, metadata=self._stated()
            ):
                yield constraints.open_nested(data, delivery_pb2.FetchSentResponse)

    def swap_checkpoints(
        self, request: audit_pb2.SwapCheckpointsRequest
    ) -> audit_pb2.SwapCheckpointsResponse:
        """Swap heads of audit logs. Raises UnknownMethod for a peer without the capability."""
        return self._audit("SwapCheckpoints", request, audit_pb2.SwapCheckpointsResponse)

    def countersign(self, request: audit_pb2.CountersignRequest) -> audit_pb2.CountersignResponse:
        """Have the own head countersigned; otherwise as `swap_checkpoints`."""
        return self._audit("Countersign", request, audit_pb2.CountersignResponse)

    def log_consistency(
        self, request: audit_pb2.GetConsistencyRequest
    ) -> audit_pb2.GetConsistencyResponse:
        """Have the peer prove that one size of its log extends another."""
        return self._audit("GetConsistency", request, audit_pb2.GetConsistencyResponse)

    def _audit(self, method: str, request: Message, kind: type[A]) -> A:
        self.hello()
        if CHECKPOINTS not in self.capabilities:
            raise UnknownMethod(f"{self.agency} swaps no checkpoints")
        call = self._channel.unary_unary(
            f"/tieline.v1.AuditService/{method}", type(request).SerializeToString, None
        )
        with self._translated():
            data = call(request, timeout=limits.UNARY_SECONDS)
        return constraints.open_nested(data, kind)

    def _needs_standing(self) -> None:
        if STANDING not in self.capabilities:
            raise UnknownMethod(f"{self.agency} says no standings")

    def attach(self) -> Iterator[str]:
        """Open a standing stream; yield ids of connections to take up, and "" as a sign of life.

        The first comes at once. Ends in order when it is time for the next stream.
        """
        self.hello()
        attach = self._channel.unary_stream(
            f"{_RELAY}/Attach", relay_pb2.AttachRequest.SerializeToString, None
        )
        with self._translated():
            for data in attach(
                relay_pb2.AttachRequest(),
                timeout=limits.RELAY_SECONDS,
                metadata=self._stated(),
            ):
                yield constraints.open_nested(data, relay_pb2.AttachResponse).connection

    def carry(self, connection: str, outgoing: Iterable[bytes]) -> Iterator[bytes]:
        """Take up a connection that was announced; yield the frames that come."""
        self.hello()
        with self._translated():
            yield from relay(
                self._stream(f"{_RELAY}/Carry", relay_pb2.CarryRequest.SerializeToString),
                relay_pb2.CarryRequest(connection=connection),
                lambda frame: relay_pb2.CarryRequest(records=frame),
                relay_pb2.CarryResponse,
                outgoing,
            )

    def connect(self, agency: str, outgoing: Iterable[bytes]) -> Iterator[bytes]:
        """Ask for a connection to an agency that is attached to this peer.

        Yields an empty frame once the agency has taken it up, then the frames that come. Until then
        nothing is read from ``outgoing``.
        """
        self.hello()
        with self._translated():
            yield from relay(
                self._stream(f"{_RELAY}/Connect", relay_pb2.ConnectRequest.SerializeToString),
                relay_pb2.ConnectRequest(agency=agency),
                lambda frame: relay_pb2.ConnectRequest(records=frame),
                relay_pb2.ConnectResponse,
                outgoing,
            )

    def _stream(
        self, method: str, serialize: Callable[[M], bytes]
    ) -> Callable[[Iterator[M]], StreamCall]:
        opened = self._channel.stream_stream(method, serialize, None)
        return lambda requests: opened(
            requests, timeout=limits.RELAY_SECONDS, metadata=self._stated()
        )

    def close(self) -> None:
        """Close the channel; calls under way end with Unreachable."""
        self._channel.close()

    @property
    def idle(self) -> bool:
        """Whether no call is under way."""
        return self._under_way == 0

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with self._counting:
            self._under_way += 1
        try:
            yield
        except grpc.RpcError as error:
            told = from_rpc_error(error)
            if isinstance(told, Unreachable) and (why := self._why_unreachable()):
                told = Unreachable(why)
            raise told from None
        finally:
            with self._counting:
                self._under_way -= 1
