"""DeliveryService: messages and attachment chunks of peers."""

from __future__ import annotations

import grpc
from tieline.v1 import delivery_pb2, delivery_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.attachments import Receiver
from tieline_server.services.receiving import Receiving


class DeliveryServicer(delivery_pb2_grpc.DeliveryServiceServicer):
    """Translates and calls."""

    def __init__(self, receiving: Receiving, receiver: Receiver) -> None:
        self._receiving, self._receiver = receiving, receiver

    def Deliver(
        self, request: delivery_pb2.DeliverRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.DeliverResponse:
        """Apply one message."""
        return self._receiving.deliver(caller_of(context).agency, request)

    def PutChunk(
        self, request: delivery_pb2.PutChunkRequest, context: grpc.ServicerContext
    ) -> delivery_pb2.PutChunkResponse:
        """Stage one chunk."""
        return self._receiver.put(caller_of(context).agency, request)
