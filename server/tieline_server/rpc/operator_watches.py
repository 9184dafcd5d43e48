"""Standing queries on the operator port. Translates and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import grpc
from tieline.v1 import operator_pb2_grpc
from tieline.v1 import operator_watches_pb2 as pb
from tieline_client.errors import MalformedMessage

from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Node, Person, about
from tieline_server.services.watch_runs import Ended
from tieline_server.services.watches import NewWatch, WatchDesk

Run = Callable[[Sequence[str]], Sequence[Ended]]


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class WatchMethods(operator_pb2_grpc.OperatorServiceServicer):
    """The methods of OperatorService about standing queries."""

    _watches: WatchDesk
    _watch_node: Node
    _run_watches: Run

    def _take_watches(self, node: Node, run: Run) -> None:
        """Make what the methods call."""
        self._watches, self._watch_node, self._run_watches = WatchDesk(node), node, run

    def AddWatch(
        self, request_iterator: Iterator[pb.AddWatchRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.AddWatchResponse]:
        """Header, columns; whatever ends it otherwise leaves nothing behind."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise MalformedMessage("a standing query starts with its header")
        with about(first.header.purpose, first.header.case_ref):
            made = NewWatch(self._watch_node, _person(context), first.header)
        try:
            for request in request_iterator:
                if request.WhichOneof("part") != "column":
                    raise MalformedMessage("after its header a standing query holds columns only")
                made.take(request.column)
            yield from made.finish()
        finally:
            made.abandon()  # does nothing once it counts

    def ListWatches(
        self, request: pb.ListWatchesRequest, context: grpc.ServicerContext
    ) -> pb.ListWatchesResponse:
        """All of them."""
        return pb.ListWatchesResponse(watches=self._watches.find(ended=request.ended))

    def GetWatch(
        self, request: pb.GetWatchRequest, context: grpc.ServicerContext
    ) -> pb.GetWatchResponse:
        """One with its notices."""
        return self._watches.get(_person(context), request.watch, matches=request.matches)

    def RemoveWatch(
        self, request: pb.RemoveWatchRequest, context: grpc.ServicerContext
    ) -> pb.RemoveWatchResponse:
        """End one."""
        return pb.RemoveWatchResponse(watch=self._watches.remove(_person(context), request.watch))

    def RunWatches(
        self, request: pb.RunWatchesRequest, context: grpc.ServicerContext
    ) -> pb.RunWatchesResponse:
        """Ask now."""
        runs = [
            pb.WatchRun(
                watch=one.watch,
                agency=one.peer,
                status=one.status,
                reason=one.reason,
                fresh=one.fresh,
                since=one.since,
            )
            for one in self._run_watches(request.watches)
        ]
        return pb.RunWatchesResponse(runs=runs)
