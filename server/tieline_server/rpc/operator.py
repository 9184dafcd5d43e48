"""OperatorService: what the agency's own people ask of their node. Translates and calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
from tieline.v1 import doctor_pb2
from tieline.v1 import operator_pb2 as pb
from tieline_client import limits
from tieline_client.columns_wire import from_wire
from tieline_client.digest_batch import DigestBatch
from tieline_client.errors import InvalidInput, MalformedMessage
from tieline_client.records_in import record_in

from tieline_server.domain.policy import Action
from tieline_server.domain.request import Request
from tieline_server.rpc.call import caller_of
from tieline_server.rpc.operator_audit import AuditMethods
from tieline_server.rpc.operator_budgets import BudgetMethods
from tieline_server.rpc.operator_clock import ClockMethods
from tieline_server.rpc.operator_clues import ClueMethods
from tieline_server.rpc.operator_deposits import DepositMethods
from tieline_server.rpc.operator_exports import ExportMethods
from tieline_server.rpc.operator_imports import ImportMethods
from tieline_server.rpc.operator_links import LinkMethods
from tieline_server.rpc.operator_operations import OperationMethods
from tieline_server.rpc.operator_people import Access, PeopleMethods
from tieline_server.rpc.operator_requests import RequestMethods
from tieline_server.rpc.operator_series import SeriesMethods
from tieline_server.rpc.operator_watches import Run, WatchMethods
from tieline_server.services.alarms import Alarms
from tieline_server.services.asking import Question
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.budget_views import BudgetDesk
from tieline_server.services.clock import ReferralClock
from tieline_server.services.comparing import Comparison
from tieline_server.services.context import Node, Person, about
from tieline_server.services.importing import Import
from tieline_server.services.inbox import Mailbox
from tieline_server.services.merging import Merging
from tieline_server.services.people import People
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.seen_notices import acknowledge
from tieline_server.services.series_life import SeriesLife
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.splitting import Splitting
from tieline_server.services.telling import Telling
from tieline_server.services.uploading import Uploading


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What people's clients need to know of the node besides its services."""

    listen: str
    access: Access
    status: Callable[[], pb.GetStatusResponse]
    examine: Callable[[], doctor_pb2.ExamineResponse]
    run_watches: Run


def _person(context: grpc.ServicerContext) -> Person:
    caller = caller_of(context)
    return Person(caller.operator or "", caller.roles)


def _bundled(
    groups: Iterator[Iterator[pb.AskOverlapResponse]],
) -> Iterator[pb.AskBriefResponse]:
    """Put what is there at the same time into one message; the start waits for the first answer."""
    bundle, size = pb.AskBriefResponse(), 0
    for number, group in enumerate(groups):
        for part in group:
            length = part.ByteSize()
            if bundle.parts and (
                size + length > limits.RECORD_BATCH_BYTES
                or len(bundle.parts) >= limits.PARTS_PER_BUNDLE
            ):
                yield bundle
                bundle, size = pb.AskBriefResponse(), 0
            bundle.parts.append(part)
            size += length
        if number and bundle.parts:
            yield bundle
            bundle, size = pb.AskBriefResponse(), 0
    if bundle.parts:
        yield bundle


class OperatorServicer(
    AuditMethods,
    BudgetMethods,
    ClockMethods,
    ClueMethods,
    DepositMethods,
    ExportMethods,
    ImportMethods,
    LinkMethods,
    OperationMethods,
    PeopleMethods,
    RequestMethods,
    SeriesMethods,
    WatchMethods,
):
    """One method per RPC."""

    def __init__(self, node: Node, people: People, facts: NodeFacts) -> None:
        super().__init__(node)
        self._take_clues(node)
        self._take_operations(node)
        self._take_imports(node)
        self._take_links(node)
        self._take_watches(node, facts.run_watches)
        self._node, self._people, self._facts = node, people, facts
        self._access = facts.access
        self._series = SeriesWork(node)
        self._life = SeriesLife(node)
        self._merging, self._splitting = Merging(node), Splitting(node)
        self._retracting = Retracting(node)
        self._telling = Telling(node)
        self._referring = Referring(node)
        self._broadcasting = Broadcasting(node)
        self._uploading = Uploading(node)
        self._mailbox = Mailbox(node)
        self._clock = ReferralClock(node)
        self._alarms = Alarms(node)
        self._budgets = BudgetDesk(node)

    def Import(
        self, request_iterator: Iterator[pb.ImportRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ImportResponse]:
        """Header, records, finish; whatever ends it otherwise leaves nothing behind."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise MalformedMessage("an import starts with its header")
        work = Import(self._node, _person(context), first.header)
        if work.repeated is not None:
            yield pb.ImportResponse(report=work.repeated)
            return
        finished = False
        try:
            yield pb.ImportResponse(staged=0)
            for request in request_iterator:
                part = request.WhichOneof("part")
                if part == "columns":
                    work.add_columns(from_wire(request.columns))
                    yield pb.ImportResponse(staged=work.counts.records)
                elif part == "records":
                    work.add([record_in(one) for one in request.records.records])
                    yield pb.ImportResponse(staged=work.counts.records)
                elif part == "finish":
                    report = work.finish(request.finish)
                    finished = True
                    yield pb.ImportResponse(report=report)
                    return
                else:
                    raise MalformedMessage("an import holds a header, records and a finish")
            raise InvalidInput("the import ended before its finish; nothing of it is kept")
        finally:
            if not finished:
                work.abandon()

    def AskOverlap(
        self,
        request_iterator: Iterator[pb.AskOverlapRequest | DigestBatch],
        context: grpc.ServicerContext,
    ) -> Iterator[pb.AskOverlapResponse]:
        """Header, then the list; then the peers' answers as they come."""
        first = next(request_iterator, None)
        if not isinstance(first, pb.AskOverlapRequest) or first.WhichOneof("part") != "header":
            raise MalformedMessage("a question starts with its header")
        question = Question(self._node, _person(context), first.header)
        try:
            for request in request_iterator:
                if isinstance(request, DigestBatch):
                    question.take(request)
                elif request.WhichOneof("part") == "batch":
                    question.take(DigestBatch.from_wire(request.batch))
                elif request.WhichOneof("part") == "list_digest":
                    question.announce(request.list_digest)
                else:
                    raise MalformedMessage("after its header a question holds digests only")
            for group in question.answer():
                yield from group
        finally:
            question.close()

    def AskBrief(
        self, request: pb.AskBriefRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.AskBriefResponse]:
        """The same in one message; what is there at the same time goes back in one."""
        question = Question(self._node, _person(context), request.header)
        try:
            for one in request.lists:
                question.take(DigestBatch.from_wire(one))
            yield from _bundled(question.answer())
        finally:
            question.close()

    def CompareCollection(
        self, request: pb.CompareCollectionRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.CompareCollectionResponse]:
        """Everything that this agency holds, series by series."""
        comparison = Comparison(self._node, _person(context), request)
        try:
            yield from comparison.compare()
        finally:
            comparison.close()

    def GetAskTerms(
        self, request: pb.GetAskTermsRequest, context: grpc.ServicerContext
    ) -> pb.GetAskTermsResponse:
        """What may be asked abroad."""
        listed = sorted(self._node.defaults.categories)
        return pb.GetAskTermsResponse(
            categories=[pb.Category(scheme=one.scheme, code=one.code) for one in listed],
            records_most=limits.RECORDS_PER_QUERY,
            digest_later=True,
        )

    def GetStats(
        self, request: pb.GetStatsRequest, context: grpc.ServicerContext
    ) -> pb.GetStatsResponse:
        """Counts."""
        stats = self._node.store.read(lambda tx: tx.items.stats())
        return pb.GetStatsResponse(
            items=stats.items,
            holdings=stats.holdings,
            series=stats.series,
            exclusions=stats.exclusions,
            digests=stats.by_kind,
            generation=stats.generation,
            index_generation=self._node.store.index.reflected(),
        )

    def GetStatus(
        self, request: pb.GetStatusRequest, context: grpc.ServicerContext
    ) -> pb.GetStatusResponse:
        """The node, and who asks."""
        person = _person(context)
        status = self._facts.status()
        status.person = person.name
        status.roles.extend(sorted(person.roles))
        return status

    def ListPeers(
        self, request: pb.ListPeersRequest, context: grpc.ServicerContext
    ) -> pb.ListPeersResponse:
        """Members, and whom policy lists."""
        node, directory = self._node, self._node.directory()
        if request.purpose:
            directory.purpose(request.purpose)
        response = pb.ListPeersResponse()
        for member in directory.active_members():
            if member.agency == node.agency:
                continue
            peer = response.peers.add(
                agency=member.agency,
                name=member.name,
                role=str(member.role),
                countries=list(member.countries),
            )
            if request.purpose:
                decision = node.policy.decide(
                    node.question(
                        Action.ASK,
                        asker=node.agency,
                        holder=member.agency,
                        purpose=request.purpose,
                    )
                )
                peer.listed = decision.allowed
                peer.reason = "" if decision.allowed else decision.why[:500]
        return response

    def ListSeries(
        self, request: pb.ListSeriesRequest, context: grpc.ServicerContext
    ) -> pb.ListSeriesResponse:
        """A page of series."""
        page = self._series.find(request.page_token, request.page_size)
        self._reads.note(_person(context), "series.listed", (one.notice.id for one in page.series))
        return page

    def GetSeries(
        self, request: pb.GetSeriesRequest, context: grpc.ServicerContext
    ) -> pb.GetSeriesResponse:
        """One series."""
        found = self._series.get(request.series)
        self._reads.note(_person(context), "series.read", (found.notice.id,))
        return pb.GetSeriesResponse(series=found)

    def CreateSeries(
        self, request: pb.CreateSeriesRequest, context: grpc.ServicerContext
    ) -> pb.CreateSeriesResponse:
        """A new series."""
        return pb.CreateSeriesResponse(series=self._series.create(_person(context), request))

    def AssessSeries(
        self, request: pb.AssessSeriesRequest, context: grpc.ServicerContext
    ) -> pb.AssessSeriesResponse:
        """A judgement."""
        return pb.AssessSeriesResponse(series=self._series.assess(_person(context), request))

    def RetractSeries(
        self, request: pb.RetractSeriesRequest, context: grpc.ServicerContext
    ) -> pb.RetractSeriesResponse:
        """Withdraw an own series, or narrow it."""
        return pb.RetractSeriesResponse(series=self._retracting.retract(_person(context), request))

    def ReferSeries(
        self, request: pb.ReferSeriesRequest, context: grpc.ServicerContext
    ) -> pb.ReferSeriesResponse:
        """Tell the likely country."""
        with about(request.purpose, request.case_ref):
            waiting: list[Request] = []
            referrals = self._telling.refer(_person(context), request, waiting)
        requests = [self._requests.get(one.id) for one in waiting]
        return pb.ReferSeriesResponse(referrals=referrals, requests=requests)

    def ListInbox(
        self, request: pb.ListInboxRequest, context: grpc.ServicerContext
    ) -> pb.ListInboxResponse:
        """What came in."""
        entries = self._mailbox.inbox()
        news = self._mailbox.news()
        shown = [*(one.id for one in entries), *(one.series for one in news)]
        self._reads.note(_person(context), "inbox.listed", dict.fromkeys(shown))
        return pb.ListInboxResponse(entries=entries, alarms=self._alarms.open(), news=news)

    def GetInboxEntry(
        self, request: pb.GetInboxEntryRequest, context: grpc.ServicerContext
    ) -> pb.GetInboxEntryResponse:
        """One of it."""
        found = self._mailbox.entry(request.id)
        self._reads.note(_person(context), "inbox.read", (found.id,))
        return pb.GetInboxEntryResponse(entry=found)

    def StepReferral(
        self, request: pb.StepReferralRequest, context: grpc.ServicerContext
    ) -> pb.StepReferralResponse:
        """A step; a notice and a broadcast can be acknowledged the same way."""
        person, seen = _person(context), request.state == "acknowledged"
        if seen and (notice := acknowledge(self._node, person, request.id)) is not None:
            return pb.StepReferralResponse(entry=notice)
        if seen and self._mailbox.is_broadcast(request.id):
            return pb.StepReferralResponse(entry=self._broadcasting.acknowledge(person, request.id))
        return pb.StepReferralResponse(entry=self._referring.step(person, request))

    def AnswerBroadcast(
        self, request: pb.AnswerBroadcastRequest, context: grpc.ServicerContext
    ) -> pb.AnswerBroadcastResponse:
        """An answer to the hub."""
        entry = self._broadcasting.answer(_person(context), request)
        return pb.AnswerBroadcastResponse(entry=entry)

    def BroadcastSeries(
        self, request: pb.BroadcastSeriesRequest, context: grpc.ServicerContext
    ) -> pb.BroadcastSeriesResponse:
        """Ask a group."""
        with about(request.purpose, request.case_ref):
            broadcasts = self._broadcasting.broadcast(_person(context), request)
        return pb.BroadcastSeriesResponse(broadcasts=broadcasts)

    def ListBroadcasts(
        self, request: pb.ListBroadcastsRequest, context: grpc.ServicerContext
    ) -> pb.ListBroadcastsResponse:
        """Sent broadcasts."""
        found = self._broadcasting.find()
        self._reads.note(_person(context), "broadcasts.listed", (one.id for one in found))
        return pb.ListBroadcastsResponse(broadcasts=found)

    def UploadSeries(
        self, request: pb.UploadSeriesRequest, context: grpc.ServicerContext
    ) -> pb.UploadSeriesResponse:
        """Deposit."""
        with about(request.purpose, request.case_ref):
            uploads = self._uploading.upload(_person(context), request)
        return pb.UploadSeriesResponse(uploads=uploads)

    def ListUploads(
        self, request: pb.ListUploadsRequest, context: grpc.ServicerContext
    ) -> pb.ListUploadsResponse:
        """Deposits."""
        found = self._uploading.find()
        self._reads.note(_person(context), "uploads.listed", (one.id for one in found))
        return pb.ListUploadsResponse(uploads=found)

    def StepUpload(
        self, request: pb.StepUploadRequest, context: grpc.ServicerContext
    ) -> pb.StepUploadResponse:
        """Move a deposit on."""
        return pb.StepUploadResponse(upload=self._uploading.step(_person(context), request))

    def Examine(
        self, request: doctor_pb2.ExamineRequest, context: grpc.ServicerContext
    ) -> doctor_pb2.ExamineResponse:
        """What `tieline doctor` shows."""
        return self._facts.examine()
