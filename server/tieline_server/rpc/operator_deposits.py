"""Deposits on the operator port: those through a folder, and the comparison with a repository."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.context import Node, Person, about
from tieline_server.services.dropping import Drops
from tieline_server.services.reconciling import Reconciling


class DepositMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _node: Node

    def ReconcileDeposits(
        self, request: deposits.ReconcileDepositsRequest, context: grpc.ServicerContext
    ) -> Iterator[deposits.ReconcileDepositsResponse]:
        """What was deposited against what the repository holds."""
        with about(request.purpose, request.case_ref):
            yield from Reconciling(self._node, _person(context), request).run()

    def RecordDrop(
        self, request: deposits.RecordDropRequest, context: grpc.ServicerContext
    ) -> pb.RecordDropResponse:
        """A drop stands in its folder."""
        with about(request.purpose, request.case_ref):
            uploads = Drops(self._node).record(_person(context), request)
        return pb.RecordDropResponse(uploads=uploads)

    def TakeAnswer(
        self, request: deposits.TakeAnswerRequest, context: grpc.ServicerContext
    ) -> pb.TakeAnswerResponse:
        """What a file of the repository says."""
        return pb.TakeAnswerResponse(news=Drops(self._node).answer(_person(context), request))


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)
