"""Broadcasts and deposits, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class SharingCalls(OperatorConnection):
    """The methods of OperatorService that ask a group, or deposit in a repository."""

    def broadcast_series(
        self,
        series: Sequence[str],
        group: str,
        *,
        purpose: str,
        case_ref: str,
        question: str = "",
        again: bool = False,
    ) -> Sequence[pb.BroadcastView]:
        """Ask a group, one broadcast for each series; ``again``: once more within the hour."""
        request = make(
            pb.BroadcastSeriesRequest,
            series=series,
            group=group,
            purpose=purpose,
            case_ref=case_ref,
            question=question,
            again=again,
        )
        return self.call(self.stub.BroadcastSeries, request, limits.ACTION_SECONDS).broadcasts

    def list_broadcasts(self) -> Sequence[pb.BroadcastView]:
        """Sent broadcasts, newest first."""
        return self.call(self.stub.ListBroadcasts, pb.ListBroadcastsRequest()).broadcasts

    def upload_series(
        self, series: Sequence[str], repository: str, *, purpose: str, case_ref: str
    ) -> Sequence[pb.UploadView]:
        """Deposit series in a repository, one upload for each."""
        request = make(
            pb.UploadSeriesRequest,
            series=series,
            repository=repository,
            purpose=purpose,
            case_ref=case_ref,
        )
        return self.call(self.stub.UploadSeries, request, limits.ACTION_SECONDS).uploads

    def list_uploads(self) -> Sequence[pb.UploadView]:
        """Deposits made or received, newest first."""
        return self.call(self.stub.ListUploads, pb.ListUploadsRequest()).uploads

    def step_upload(self, upload: str, state: str, reference: str = "") -> pb.UploadView:
        """Move a received deposit on."""
        request = make(pb.StepUploadRequest, id=upload, state=state, reference=reference)
        return self.call(self.stub.StepUpload, request).upload
