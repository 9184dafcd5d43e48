"""The referral clock and what goes out, as methods of OperatorClient."""

from __future__ import annotations

from collections.abc import Sequence

from tieline.v1 import operator_clock_pb2
from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.operator_connection import OperatorConnection, make


class ClockCalls(OperatorConnection):
    """The methods of OperatorService about the referral clock and the outbox."""

    def list_outbox(
        self, state: str = "", *, page_size: int = 0, page_token: str = ""
    ) -> pb.ListOutboxResponse:
        """A page of messages, newest first, and how far each destination is."""
        request = make(
            pb.ListOutboxRequest, state=state, page_size=page_size, page_token=page_token
        )
        return self.call(self.stub.ListOutbox, request)

    def list_clock(self, series: str = "") -> pb.ListClockResponse:
        """Sent and received referrals with their steps, and what nobody was told yet."""
        request = make(pb.ListClockRequest, series=series)
        return self.call(self.stub.ListClock, request)

    def get_clock_report(
        self, series: Sequence[str] = (), operation: str = ""
    ) -> operator_clock_pb2.ClockReport:
        """How long the steps take; of these series, those of an operation, or of all."""
        request = make(operator_clock_pb2.GetClockReportRequest, series=series, operation=operation)
        return self.call(self.stub.GetClockReport, request, limits.ACTION_SECONDS).report

    def tell_outside(
        self,
        identifier: str,
        reference: str,
        *,
        country: str = "",
        purpose: str = "",
        case_ref: str = "",
        basis: str = "",
    ) -> pb.ReferralView:
        """Record that a country without a node was told by other means; ``basis`` is the law on
        which it went outside the union, in words."""
        request = make(
            operator_clock_pb2.TellOutsideRequest,
            id=identifier,
            reference=reference,
            country=country,
            purpose=purpose,
            case_ref=case_ref,
            basis=basis,
        )
        return self.call(self.stub.TellOutside, request).referral
