"""DeliveryService: messages and attachment chunks of peers."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from tieline.v1 import delivery_pb2, delivery_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.attachments import Receiver
from tieline_server.services.receiving import Receiving
from tieline_server.services.standing_answers import StandingAnswers


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Translates and calls."""

    def __init__(self, receiving: Receiving, receiver: Receiver, standing: StandingAnswers) -> None:
        self._receiving, self._receiver, self._standing = receiving, receiver, standing

    def Deliver(
        self, request: delivery_pb2.DeliverRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.DeliverResponse:
        """Apply one message."""
        return self._receiving.deliver(caller_of(context).agency, request)

    def DeliverBatch(
        self, request: delivery_pb2.DeliverBatchRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.DeliverBatchResponse:
        """Apply several messages in their order."""
        return self._receiving.take(caller_of(context).agency, request)

    def PutChunk(
        self, request: delivery_pb2.PutChunkRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.PutChunkResponse:
        """Stage one chunk."""
        return self._receiver.put(caller_of(context).agency, request)

    def Contact(
        self, request: delivery_pb2.ContactRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.ContactResponse:
        """Exchange standings."""
        return self._standing.contact(caller_of(context).agency, request)

    def FetchSent(
        self, request: delivery_pb2.FetchSentRequest, context: grpc.ServicerContext
    ) -> Iterator[delivery_pb2.FetchSentResponse]:
        """Give back what the caller signed."""
        return self._standing.fetch_sent(caller_of(context).agency, request)
