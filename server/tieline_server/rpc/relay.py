"""RelayService: standing streams of nodes that only call out, and connections to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import grpc
from tieline.v1 import relay_pb2, relay_pb2_grpc
from tieline_client.errors import LimitExceeded, MalformedMessage, PolicyRefused, TielineError

from tieline_server.rpc.call import call_of
from tieline_server.rpc.streams import CallerGone
from tieline_server.services.relaying import Party, Switchboard, until_fault

Request = TypeVar("Request", relay_pb2.CarryRequest, relay_pb2.ConnectRequest)


class RelayServicer(relay_pb2_grpc.RelayServiceServicer):
    """Translates and calls. ``is_hub`` says whether this node relays between others."""

    def __init__(self, board: Switchboard, is_hub: Callable[[], bool]) -> None:
        self._board, self._is_hub = board, is_hub

    def Attach(
        self, request: relay_pb2.AttachRequest, context: grpc.ServicerContext
    ) -> Iterator[relay_pb2.AttachResponse]:
        """Announce connections."""
        for connection in self._board.attach(_party(context)):
            yield relay_pb2.AttachResponse(connection=connection)

    def Carry(
        self,
        request_iterator: Iterator[relay_pb2.CarryRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[relay_pb2.CarryResponse]:
        """Be the called side of a connection."""
        first = _first(request_iterator)
        faults: list[TielineError] = []
        outgoing = until_fault(_records(request_iterator), faults)
        for records in self._board.carry(_party(context), first.connection, outgoing):
            yield relay_pb2.CarryResponse(records=records)
        _blame(faults)

    def Connect(
        self,
        request_iterator: Iterator[relay_pb2.ConnectRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[relay_pb2.ConnectResponse]:
        """Be the calling side of a connection."""
        first = _first(request_iterator)
        if not self._is_hub():
            raise PolicyRefused("this node does not relay for others; ask a hub")
        faults: list[TielineError] = []
        outgoing = until_fault(_records(request_iterator), faults)
        for records in self._board.reach(first.agency, _party(context), outgoing):
            yield relay_pb2.ConnectResponse(records=records)
        _blame(faults)


def _party(context: grpc.ServicerContext) -> Party:
    call = call_of(context)
    return Party(call.caller.agency, call.caller.serial, call.cancel, call.add_callback)


def _first(requests: Iterator[Request]) -> Request:
    first = next(requests, None)
    if first is None or first.records:
        raise MalformedMessage("the first message names the connection or agency and no more")
    return first


def _records(requests: Iterator[Request]) -> Iterator[bytes]:
    try:
        for request in requests:
            yield request.records
    except CallerGone:
        return


def _blame(faults: list[TielineError]) -> None:
    """Tell a side what it did; that it was silent for long is no fault, its time was over."""
    for fault in faults:
        if not isinstance(fault, LimitExceeded):
            raise fault
