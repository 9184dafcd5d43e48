"""The referral clock on the operator port, and what goes out. Translates and calls."""

from __future__ import annotations

import grpc
from tieline.v1 import operator_clock_pb2, operator_pb2_grpc
from tieline.v1 import operator_pb2 as pb

from tieline_server.rpc.call import caller_of
from tieline_server.services.clock import ReferralClock
from tieline_server.services.consulting import Consultations
from tieline_server.services.context import Node, Person, about
from tieline_server.services.inbox import Mailbox
from tieline_server.services.telling_outside import TellingOutside


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class ClockMethods(operator_pb2_grpc.OperatorServiceServicer):
    """A part of `operator.OperatorServicer`."""

    _node: Node
    _mailbox: Mailbox
    _reads: Consultations
    _clock: ReferralClock

    def ListOutbox(
        self, request: pb.ListOutboxRequest, context: grpc.ServicerContext
    ) -> pb.ListOutboxResponse:
        """What goes out."""
        self._reads.note(_person(context), "outbox.listed")
        return self._mailbox.outbox(request)

    def ListClock(
        self, request: pb.ListClockRequest, context: grpc.ServicerContext
    ) -> pb.ListClockResponse:
        """The referral clock."""
        found = self._clock.referrals(request.series)
        self._reads.note(_person(context), "clock.listed", (one.id for one in found))
        untold = self._clock.untold(request.series)
        return pb.ListClockResponse(referrals=found, untold=untold)

    def GetClockReport(
        self, request: operator_clock_pb2.GetClockReportRequest, context: grpc.ServicerContext
    ) -> operator_clock_pb2.GetClockReportResponse:
        """How long the steps take."""
        found = self._clock.report(request.series or None, request.operation)
        self._reads.note(_person(context), "clock.reported", request.series)
        return operator_clock_pb2.GetClockReportResponse(report=found)

    def TellOutside(
        self, request: operator_clock_pb2.TellOutsideRequest, context: grpc.ServicerContext
    ) -> pb.TellOutsideResponse:
        """A country was told by other means."""
        with about(request.purpose, request.case_ref):
            told = TellingOutside(self._node).tell(_person(context), request)
        return pb.TellOutsideResponse(referral=told)
