"""Operations on the operator port. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_operations_pb2 as pb
from tieline.v1 import operator_pb2_grpc

from tieline_server.rpc.call import caller_of
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person
from tieline_server.services.operations import OperationDesk


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class OperationMethods(operator_pb2_grpc.OperatorServiceServicer):
    """The methods of OperatorService about operations."""

    _operations: OperationDesk
    _reads: Consultations

    def _take_operations(self, node: Node) -> None:
        """Make what the methods call."""
        self._operations = OperationDesk(node)

    def CreateOperation(
        self, request: pb.CreateOperationRequest, context: grpc.ServicerContext
    ) -> pb.CreateOperationResponse:
        """An operation."""
        made = self._operations.create(_person(context), request)
        return pb.CreateOperationResponse(operation=made)

    def AddOperationSeries(
        self, request: pb.AddOperationSeriesRequest, context: grpc.ServicerContext
    ) -> pb.AddOperationSeriesResponse:
        """Its series."""
        return self._operations.add_series(_person(context), request)

    def AssignEvaluation(
        self, request: pb.AssignEvaluationRequest, context: grpc.ServicerContext
    ) -> pb.AssignEvaluationResponse:
        """An expert's task, or its end."""
        return self._operations.assign(_person(context), request)

    def ListOperations(
        self, request: pb.ListOperationsRequest, context: grpc.ServicerContext
    ) -> pb.ListOperationsResponse:
        """All."""
        found = self._operations.find()
        self._reads.note(
            _person(context), "operations.listed", (one.id for one in found.operations)
        )
        return found

    def GetOperation(
        self, request: pb.GetOperationRequest, context: grpc.ServicerContext
    ) -> pb.GetOperationResponse:
        """One, with its triage list."""
        found = self._operations.get(request.operation, request.most)
        subjects = (found.operation.id, *(one.series for one in found.series))
        self._reads.note(_person(context), "operation.read", subjects)
        return found

    def ReportOperation(
        self, request: pb.ReportOperationRequest, context: grpc.ServicerContext
    ) -> pb.ReportOperationResponse:
        """Its figures."""
        made = self._operations.report(request.operation)
        self._reads.note(_person(context), "operation.reported", (made.operation.id,))
        return made
