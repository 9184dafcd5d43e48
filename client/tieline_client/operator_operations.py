"""Operations, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_operations_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class OperationCalls(OperatorConnection):
    """The methods of OperatorService about operations."""

    def create_operation(
        self,
        name: str,
        *,
        begin_day: str,
        end_day: str,
        participants: Sequence[str],
        case_ref: str = "",
    ) -> pb.OperationView:
        """Make an operation; days are YYYY-MM-DD."""
        request = make(
            pb.CreateOperationRequest,
            name=name,
            begin_day=begin_day,
            end_day=end_day,
            participants=participants,
            case_ref=case_ref,
        )
        return self.call(self.stub.CreateOperation, request).operation

    def add_operation_series(
        self, operation: str, series: Sequence[str]
    ) -> pb.AddOperationSeriesResponse:
        """Add up to SERIES_PER_CHANGE series to an operation."""
        request = make(pb.AddOperationSeriesRequest, operation=operation, series=series)
        return self.call(self.stub.AddOperationSeries, request, limits.ACTION_SECONDS)

    def assign_evaluation(
        self,
        operation: str,
        series: Sequence[str],
        agency: str,
        person: str = "",
        *,
        done: bool = False,
        text: str = "",
    ) -> pb.AssignEvaluationResponse:
        """Assign up to SERIES_PER_CHANGE series to an expert, or say that the expert is done."""
        request = make(
            pb.AssignEvaluationRequest,
            operation=operation,
            series=series,
            agency=agency,
            person=person,
            done=done,
            text=text,
        )
        return self.call(self.stub.AssignEvaluation, request, limits.ACTION_SECONDS)

    def list_operations(self) -> Sequence[pb.OperationView]:
        """All operations, the latest first."""
        request = pb.ListOperationsRequest()
        return self.call(self.stub.ListOperations, request, limits.ACTION_SECONDS).operations

    def get_operation(self, operation: str, most: int = 0) -> pb.GetOperationResponse:
        """An operation with its triage list, or the first ``most`` series of it."""
        request = make(pb.GetOperationRequest, operation=operation, most=most)
        return self.call(self.stub.GetOperation, request, limits.ACTION_SECONDS)

    def report_operation(self, operation: str) -> pb.ReportOperationResponse:
        """An operation's figures."""
        request = make(pb.ReportOperationRequest, operation=operation)
        return self.call(self.stub.ReportOperation, request, limits.ACTION_SECONDS)
