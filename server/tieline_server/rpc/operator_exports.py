"""Exports on the operator port."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Node, Person, about
from tieline_server.services.exporting import Export


class ExportMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _node: Node

    def ExportSeries(
        self, request: pb.ExportSeriesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportSeriesResponse]:
        """Series with all that is known of their items."""
        caller = caller_of(context)
        person = Person(caller.operator or "", caller.roles)
        with about(request.purpose, request.case_ref):
            yield from Export(self._node, person, request).run()
