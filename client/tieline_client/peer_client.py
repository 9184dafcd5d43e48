"""Node to node: what one peer is asked, each call after the Hello of peer_connection.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from tieline.v1 import audit_pb2, delivery_pb2, envelope_pb2, exchange_pb2, relay_pb2

from tieline_client import constraints, limits
from tieline_client.checked_stream import CheckedStream
from tieline_client.digest_batch import DigestBatch
from tieline_client.errors import MalformedMessage, UnknownMethod, Unreachable
from tieline_client.list_salt import SALTED_LISTS
from tieline_client.peer_connection import PeerConnection
from tieline_client.relay_client import StreamCall, relay

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


class PeerClient(PeerConnection):
    """Calls to one peer.

    Every method raises a TielineError: Unreachable when nobody answers in time, TrustError when the
    server does not prove itself, otherwise what the peer said.
    """

    def _prepare(self) -> None:
        # Answers are parsed here, where what does not parse is an error like any other.
        self._overlap = self._channel.stream_stream(f"{_EXCHANGE}/Overlap", None, None)
        # One message comes back; asked for as a stream of one, it is under way without a thread.
        self._overlap_brief = self._channel.unary_stream(
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
        self._contact = self._channel.unary_unary(
            f"{_DELIVERY}/Contact", delivery_pb2.ContactRequest.SerializeToString, None
        )
        self._fetch_sent = self._channel.unary_stream(
            f"{_DELIVERY}/FetchSent", delivery_pb2.FetchSentRequest.SerializeToString, None
        )

    def overlap(
        self,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Send a signed header and the batches; yield each checked response as it comes.

        ``salt`` is that of a salted list, as its header says.
        """

        sent = CheckedStream(self._check_again)

        def requests() -> Iterator[bytes]:
            first = exchange_pb2.OverlapRequest(header=header, list_salt=salt)
            yield first.SerializeToString()
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
        salt: bytes = b"",
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Send few digests in one message, under way on return; yield what `overlap` would.

        The iterator raises LimitExceeded with check BRIEF when the answer is longer than a message.
        """
        self.hello()
        return self._send_brief(header, batches, timeout, salt)

    def overlap_at_hand(
        self,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes,
    ) -> Iterator[exchange_pb2.OverlapResponse] | None:
        """Do what `overlap_brief` does, where the call goes out at once to a peer that takes salted
        lists; else send nothing and return None."""
        if not self.at_hand or SALTED_LISTS not in self.capabilities:
            return None
        return self._send_brief(header, batches, timeout, salt)

    def _send_brief(
        self,
        header: envelope_pb2.Envelope,
        batches: Iterable[DigestBatch],
        timeout: float,
        salt: bytes,
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        request = exchange_pb2.OverlapBriefRequest(
            header=header, lists=[one.to_wire() for one in batches], list_salt=salt
        )
        with self._translated():
            call = self._overlap_brief(request, timeout=timeout, metadata=self._stated())
        return self._brief_answer(call)

    def _brief_answer(self, call: Any) -> Iterator[exchange_pb2.OverlapResponse]:
        try:
            with self._translated():
                messages = list(islice(call, 2))
        finally:
            call.cancel()
        if len(messages) != 1:
            raise MalformedMessage(f"{self.agency} answered {len(messages)} messages in place of 1")
        yield from constraints.open_nested(messages[0], exchange_pb2.OverlapBriefResponse).parts

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
