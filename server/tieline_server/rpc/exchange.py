"""ExchangeService: Hello, and the answering side of an overlap query."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import grpc
from tieline.v1 import exchange_pb2, exchange_pb2_grpc, payload_pb2
from tieline_client import constraints, limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.directory_client import DIRECTORY
from tieline_client.errors import LimitExceeded, MalformedMessage
from tieline_client.identifiers import SpiffeId
from tieline_client.list_salt import SALTED_LISTS
from tieline_client.payloads import Audience
from tieline_client.peer_client import CHECKPOINTS, DELIVER_BATCH, RELAY, STANDING
from tieline_client.peer_connection import WIRE_VERSION

from tieline_server.rpc.call import caller_of
from tieline_server.services.answering import Answerer
from tieline_server.services.context import Node

CAPABILITIES = (
    "overlap.exact",
    "overlap.near",
    "attachments",
    DELIVER_BATCH,
    STANDING,
    RELAY,
    CHECKPOINTS,
    DIRECTORY,
    SALTED_LISTS,
)


class ExchangeServicer(exchange_pb2_grpc.ExchangeServiceServicer):
    """Translates and calls. ``leaf`` returns the DER leaf that this listener presents."""

    def __init__(
        self,
        node: Node,
        answerer: Answerer,
        leaf: Callable[[], bytes],
        heard_from: Callable[[str], None],
    ) -> None:
        self._node, self._answerer, self._leaf = node, answerer, leaf
        self._heard_from = heard_from

    def Hello(
        self, request: exchange_pb2.HelloRequest, context: grpc.ServicerContext
    ) -> exchange_pb2.HelloResponse:
        """Prove who this node is."""
        caller, node = caller_of(context), self._node
        directory = node.directory()
        self._heard_from(caller.agency)
        proof = node.sealer.seal(
            payload_pb2.Payload(
                hello=payload_pb2.HelloProof(
                    nonce=request.nonce,
                    caller=str(SpiffeId(directory.federation, caller.agency)),
                    leaf=self._leaf(),
                    wire_version=WIRE_VERSION,
                    capabilities=CAPABILITIES,
                    directory_version=directory.version,
                )
            ),
            Audience(agency=caller.agency),
            node.clock(),
            limits.QUERY_LIFE,
        )
        return exchange_pb2.HelloResponse(proof=proof)

    def Overlap(
        self,
        request_iterator: Iterator[exchange_pb2.OverlapRequest | DigestBatch],
        context: grpc.ServicerContext,
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Answer a query."""
        return self._answerer.answer(caller_of(context).agency, request_iterator)

    def OverlapBrief(
        self, request: exchange_pb2.OverlapBriefRequest, context: grpc.ServicerContext
    ) -> exchange_pb2.OverlapBriefResponse:
        """Answer a query of few digests."""
        requests: list[exchange_pb2.OverlapRequest | DigestBatch] = [
            exchange_pb2.OverlapRequest(header=request.header, list_salt=request.list_salt)
        ]
        requests += map(DigestBatch.from_wire, request.lists)
        answer = self._answerer.answer(caller_of(context).agency, requests)
        response = exchange_pb2.OverlapBriefResponse(parts=answer)
        if not _fits(response):
            raise LimitExceeded(
                "the answer is longer than one message; ask by Overlap", check="BRIEF"
            )
        return response


def _fits(response: exchange_pb2.OverlapBriefResponse) -> bool:
    """Whether it is inside its caps: a short one is, since each of its parts is."""
    size = response.ByteSize()
    few = len(response.parts) <= limits.PARTS_PER_BUNDLE
    if few and size <= limits.FREE_TEXT_PER_MESSAGE_CHARS:
        return True
    try:
        constraints.check(response, size=size)
    except MalformedMessage:
        return False
    return size <= limits.MESSAGE_BYTES
