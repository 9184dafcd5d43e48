"""Requests that a person decides, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_requests_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class RequestCalls(OperatorConnection):
    """The methods of OperatorService about requests."""

    def list_requests(
        self, *, sent: bool = False, decided: bool = False
    ) -> Sequence[pb.RequestView]:
        """What waits for a decision here, or (``sent``) at others; newest first."""
        request = pb.ListRequestsRequest(sent=sent, all=decided)
        return self.call(self.stub.ListRequests, request).requests

    def get_request(self, request: str) -> pb.RequestView:
        """One request with its series, and what was released of them."""
        return self.call(self.stub.GetRequest, make(pb.GetRequestRequest, id=request)).request

    def decide_request(
        self,
        request: str,
        *,
        approve: bool,
        level: str = "",
        series: Sequence[str] = (),
        until: str = "",
        reason: str = "",
    ) -> pb.RequestView:
        """Approve a request (of a release: at a level, some series) or refuse it with a reason."""
        wanted = make(
            pb.DecideRequestRequest,
            id=request,
            approve=approve,
            level=level,
            series=series,
            until=until,
            reason=reason,
        )
        return self.call(self.stub.DecideRequest, wanted, limits.ACTION_SECONDS).request

    def ask_permission(
        self,
        series: str,
        action: str,
        agencies: Sequence[str],
        *,
        purpose: str,
        case_ref: str,
        note: str = "",
    ) -> pb.RequestView:
        """Ask a series' provider to permit pass-on, broadcast, upload or use."""
        request = make(
            pb.AskPermissionRequest,
            series=series,
            action=action,
            agencies=agencies,
            purpose=purpose,
            case_ref=case_ref,
            note=note,
        )
        return self.call(self.stub.AskPermission, request).request

    def state_vital_interests(
        self, agency: str, grounds: str, *, purpose: str, case_ref: str
    ) -> pb.RequestView:
        """State that a child is in danger, so that an agency without an agreement may be asked."""
        request = make(
            pb.StateVitalInterestsRequest,
            agency=agency,
            grounds=grounds,
            purpose=purpose,
            case_ref=case_ref,
        )
        return self.call(self.stub.StateVitalInterests, request).request
