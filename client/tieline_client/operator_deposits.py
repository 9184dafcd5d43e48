"""Deposits as methods of OperatorClient: those through a folder, and the comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class DepositCalls(OperatorConnection):
    """The methods of OperatorService about deposits by file, and the comparison."""

    def reconcile_deposits(
        self, repository: str, *, purpose: str, case_ref: str
    ) -> Iterator[deposits.DepositRow]:
        """What was deposited there against what it holds now, series by series."""
        request = make(
            deposits.ReconcileDepositsRequest,
            repository=repository,
            purpose=purpose,
            case_ref=case_ref,
        )
        call = self.stub.ReconcileDeposits(request, timeout=limits.EXPORT_SECONDS)
        for response in self.read(call):
            yield response.row

    def record_drop(
        self,
        repository: str,
        drop: str,
        series: Sequence[tuple[str, int]],
        *,
        purpose: str,
        case_ref: str,
    ) -> Sequence[pb.UploadView]:
        """Keep a drop as deposits; ``series`` are ids with counts of records."""
        request = make(
            deposits.RecordDropRequest,
            repository=repository,
            drop=drop,
            series=[deposits.DroppedSeries(series=one, records=count) for one, count in series],
            purpose=purpose,
            case_ref=case_ref,
        )
        return self.call(self.stub.RecordDrop, request, limits.ACTION_SECONDS).uploads

    def take_answer(self, repository: str, answers: Sequence[deposits.SeriesAnswer]) -> int:
        """Apply what a repository's file says; return how many things were new."""
        request = make(deposits.TakeAnswerRequest, repository=repository, answers=answers)
        return self.call(self.stub.TakeAnswer, request, limits.ACTION_SECONDS).news
