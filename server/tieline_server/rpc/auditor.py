"""AuditorService: evidence, witnesses, proofs, receipts and holds. Translates and calls."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
from tieline.v1 import auditor_pb2 as pb
from tieline.v1 import auditor_pb2_grpc
from tieline_client.audit_search import Search
from tieline_client.payloads import moment, timestamp

from tieline_server.domain.log_retention import Hold
from tieline_server.rpc.call import caller_of
from tieline_server.services.auditing import Auditing
from tieline_server.services.context import Person
from tieline_server.services.log_retention import LogRetention


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


class AuditorServicer(auditor_pb2_grpc.AuditorServiceServicer):
    """One method per RPC."""

    def __init__(self, auditing: Auditing, retention: LogRetention) -> None:
        self._auditing, self._retention = auditing, retention

    def ListEvidence(
        self, request: pb.ListEvidenceRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListEvidenceResponse]:
        """What an export carries."""
        yield from self._auditing.evidence(_person(context))

    def ListWitnesses(
        self, request: pb.ListWitnessesRequest, context: grpc.ServicerContext
    ) -> pb.ListWitnessesResponse:
        """Who watches whom."""
        return self._auditing.witnesses(_person(context))

    def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, context: grpc.ServicerContext
    ) -> pb.GetInclusionProofResponse:
        """An audit path."""
        return self._auditing.inclusion(_person(context), request.position, request.size)

    def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, context: grpc.ServicerContext
    ) -> pb.GetConsistencyProofResponse:
        """A consistency proof."""
        return self._auditing.consistency(_person(context), request.first, request.second)

    def GetReceipt(
        self, request: pb.GetReceiptRequest, context: grpc.ServicerContext
    ) -> pb.GetReceiptResponse:
        """A receipt with its question."""
        return self._auditing.receipt(_person(context), request.id)

    def ListAsked(
        self, request: pb.ListAskedRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ListAskedResponse]:
        """A list that this agency asked."""
        for batch in self._auditing.asked_list(_person(context), request.question):
            yield pb.ListAskedResponse(digests=batch.to_wire())

    def HoldEntries(
        self, request: pb.HoldEntriesRequest, context: grpc.ServicerContext
    ) -> pb.HoldEntriesResponse:
        """Keep entries."""
        hold = self._retention.hold(
            _person(context), request.reason, request.case_ref, request.person, request.peer
        )
        return pb.HoldEntriesResponse(hold=_view(hold))

    def ReleaseHold(
        self, request: pb.ReleaseHoldRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseHoldResponse:
        """End a hold."""
        self._retention.release(_person(context), request.id)
        return pb.ReleaseHoldResponse()

    def ListHolds(
        self, request: pb.ListHoldsRequest, context: grpc.ServicerContext
    ) -> pb.ListHoldsResponse:
        """Holds that stand."""
        self._auditing.note_read(_person(context), "audit.holds")
        return pb.ListHoldsResponse(holds=map(_view, self._retention.holds()))

    def SearchEntries(
        self, request: pb.SearchEntriesRequest, context: grpc.ServicerContext
    ) -> pb.SearchEntriesResponse:
        """A page of what is looked for."""
        wanted = Search(
            person=request.person,
            case_ref=request.case_ref,
            action=request.action,
            subject=request.subject,
            peer=request.peer,
            purpose=request.purpose,
            siena=request.siena,
            since=moment(request.since) if request.HasField("since") else None,
            until=moment(request.until) if request.HasField("until") else None,
        )
        return self._auditing.search(_person(context), wanted, request.start, request.limit)


def _view(hold: Hold) -> pb.HoldView:
    return pb.HoldView(
        id=hold.id,
        what=pb.HoldEntriesRequest(
            reason=hold.reason, case_ref=hold.case_ref, person=hold.person, peer=hold.peer
        ),
        set_by=hold.set_by,
        set_time=timestamp(hold.at),
    )
