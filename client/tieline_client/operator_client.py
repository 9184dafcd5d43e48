"""A person to the node of their own agency: one method for each RPC of OperatorService.

A file goes out as a stream: header, batches, finish. The node keeps nothing of a stream without
its finish, so a file that turns out to be broken half-way cancels the call and leaves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tieline.v1 import budget_pb2, doctor_pb2, payload_pb2, series_pb2, series_work_pb2
from tieline.v1 import operator_pb2 as pb

from tieline_client import collection, limits
from tieline_client.asked_file import AskedFile
from tieline_client.asked_list import AskedList, AskTerms
from tieline_client.asking import AskOptions, ask, build_list
from tieline_client.exporting import ExportOptions, ExportReport, write_export
from tieline_client.formats import FileFormat
from tieline_client.formats.record import Vote
from tieline_client.importing import ImportOptions, ImportReport, Progress, import_file
from tieline_client.operator_clock import ClockCalls
from tieline_client.operator_clues import ClueCalls
from tieline_client.operator_connection import make
from tieline_client.operator_deposits import DepositCalls
from tieline_client.operator_imports import ImportCalls
from tieline_client.operator_links import LinkCalls
from tieline_client.operator_operations import OperationCalls
from tieline_client.operator_people import PeopleCalls
from tieline_client.operator_requests import RequestCalls
from tieline_client.operator_sharing import SharingCalls
from tieline_client.operator_watches import WatchCalls
from tieline_client.overlap_answers import Event
from tieline_client.record_stream import source_name
from tieline_client.split_list import ItemList

Leaf = tuple[int, bytes, bytes]
"""An entry of the audit log: position, leaf, leaf hash."""


class OperatorClient(
    ClockCalls,
    ClueCalls,
    DepositCalls,
    ImportCalls,
    LinkCalls,
    OperationCalls,
    PeopleCalls,
    RequestCalls,
    SharingCalls,
    WatchCalls,
):
    """The methods of OperatorService; a context manager.

    Methods raise TielineError: Unreachable when the node does not answer, otherwise what it said.
    """

    _ask_terms: AskTerms | None = None
    """What may be asked abroad, as the node said it last."""

    # --- files ---------------------------------------------------------------------------------

    def import_file(
        self,
        path: Path,
        file_format: FileFormat,
        options: ImportOptions,
        on_progress: Progress | None = None,
        on_staged: Callable[[int], None] | None = None,
    ) -> ImportReport:
        """Import one file whole or not at all; see `importing.import_file`.

        Raises FormatError when the file is broken, NothingUsable when no record can be used.
        """
        return import_file(self, path, file_format, options, on_progress, on_staged)

    def ask_overlap(
        self,
        source: AskedFile | AskedList,
        options: AskOptions,
        on_event: Callable[[Event], None],
    ) -> None:
        """Ask peers which records they hold; ``on_event`` is called as they answer.

        A list that is made already is asked as it is. Raises as import_file; nothing is asked of a
        file that turns out to be broken.
        """
        terms = self._ask_terms
        if terms is None or not isinstance(source, AskedList):
            terms = self._ask_terms = self.get_ask_terms()
        if not isinstance(source, AskedList):
            source = build_list(terms, source, options)
        ask(self, source, options, on_event, digest_later=terms.digest_later)

    def compare_collection(
        self, options: AskOptions, on_event: Callable[[collection.Event], None]
    ) -> None:
        """Ask peers for all that the own agency holds, and compare series by series."""
        collection.compare(self, options, on_event)

    def get_ask_terms(self) -> AskTerms:
        """What may be asked abroad."""
        terms = self.call(self.stub.GetAskTerms, pb.GetAskTermsRequest())
        categories = frozenset(Vote(one.scheme, one.code) for one in terms.categories)
        most = min(terms.records_most, limits.RECORDS_PER_QUERY)
        return AskTerms(categories, most, terms.digest_later)

    # --- the node ------------------------------------------------------------------------------

    def get_stats(self) -> pb.GetStatsResponse:
        """Counts of what is stored."""
        return self.call(self.stub.GetStats, pb.GetStatsRequest())

    def get_status(self) -> pb.GetStatusResponse:
        """The node, and the caller's name and roles."""
        return self.call(self.stub.GetStatus, pb.GetStatusRequest())

    def list_peers(self, purpose: str = "") -> Sequence[pb.Peer]:
        """The members, and which of them policy lists for a purpose."""
        request = make(pb.ListPeersRequest, purpose=purpose)
        return self.call(self.stub.ListPeers, request).peers

    # --- series --------------------------------------------------------------------------------

    def list_series(self) -> Iterator[pb.SeriesView]:
        """All series by id, fetched page by page."""
        token = ""
        while True:
            request = make(pb.ListSeriesRequest, page_token=token)
            page = self.call(self.stub.ListSeries, request)
            yield from page.series
            # A node that never ends its pages would hold the caller for ever.
            if page.next_page_token <= token:
                return
            token = page.next_page_token

    def get_series(self, series: str) -> pb.SeriesView:
        """One series by id, or by name when it is the agency's own."""
        request = make(pb.GetSeriesRequest, series=series)
        return self.call(self.stub.GetSeries, request).series

    def create_series(
        self,
        name: str,
        *,
        case_ref: str = "",
        handling: series_pb2.Handling | None = None,
        references: Sequence[tuple[str, str]] = (),
        clues: str = "",
        victims: int | None = None,
        contact: tuple[str, str, str] | None = None,
    ) -> pb.SeriesView:
        """Make a series by hand; ``contact`` is name, mail and telephone."""
        request = make(
            pb.CreateSeriesRequest,
            name=name,
            case_ref=case_ref,
            handling=handling,
            references=[
                make(series_pb2.ExternalReference, scheme=scheme, value=value)
                for scheme, value in references
            ],
            clues=clues,
            victims=victims,
            contact=None
            if contact is None
            else make(series_pb2.DutyContact, name=contact[0], email=contact[1], phone=contact[2]),
        )
        return self.call(self.stub.CreateSeries, request).series

    def assess_series(
        self,
        series: str,
        country: str,
        confidence: int,
        grounds: str,
        *,
        confirmed: bool = False,
        eliminate: bool = False,
        region: str = "",
        clues: Sequence[str] = (),
    ) -> pb.SeriesView:
        """Add an assessment; ``confidence`` is 1 low, 2 medium, 3 high."""
        request = make(
            pb.AssessSeriesRequest,
            series=series,
            country=country,
            confidence=confidence,
            grounds=grounds,
            confirmed=confirmed,
            eliminate=eliminate,
            region=region,
            clues=clues,
        )
        return self.call(self.stub.AssessSeries, request).series

    def set_series_status(self, series: str, status: str, text: str = "") -> pb.SeriesView:
        """Move a series on by hand."""
        request = make(
            series_work_pb2.SetSeriesStatusRequest, series=series, status=status, text=text
        )
        return self.call(self.stub.SetSeriesStatus, request).series

    def merge_series(self, series: str, merged: str, text: str = "") -> pb.SeriesView:
        """Make an own series part of another."""
        request = make(series_work_pb2.MergeSeriesRequest, series=series, merged=merged, text=text)
        return self.call(self.stub.MergeSeries, request).series

    def split_series(
        self, series: str, name: str, items: ItemList, text: str = ""
    ) -> pb.SplitSeriesResponse:
        """Move listed items of an own series to a new one."""
        request = make(series_work_pb2.SplitSeriesRequest, series=series, name=name, text=text)
        request.items.extend(items.chunks())
        return self.call(self.stub.SplitSeries, request)

    def retract_series(
        self,
        series: str,
        kind: str,
        reason: str,
        *,
        code: int | None = None,
        tlp: int = 0,
        restriction: str = "",
        retain_until: str = "",
        only: Sequence[str] | None = None,
    ) -> pb.SeriesView:
        """Withdraw an own series or narrow it; ``only`` None leaves its recipients as they are."""
        request = make(
            pb.RetractSeriesRequest,
            series=series,
            kind=kind,
            reason=reason,
            code=code,
            tlp=tlp,
            restriction=restriction,
            retain_until=retain_until,
            limited=only is not None,
            only=only or (),
        )
        return self.call(self.stub.RetractSeries, request).series

    def refer_series(
        self,
        series: str,
        *,
        country: str = "",
        agency: str = "",
        urgency: int,
        purpose: str,
        case_ref: str,
        note: str = "",
    ) -> Sequence[pb.ReferralView]:
        """Tell a country's agencies, one agency, or the standing likely countries (neither)."""
        return self.refer(
            series,
            country=country,
            agency=agency,
            urgency=urgency,
            purpose=purpose,
            case_ref=case_ref,
            note=note,
        ).referrals

    def refer(
        self,
        series: str,
        *,
        country: str,
        agency: str,
        urgency: int,
        purpose: str,
        case_ref: str,
        note: str,
        vital_interests: str = "",
    ) -> pb.ReferSeriesResponse:
        """As `refer_series`; with ``vital_interests``, who may be told on that exception alone
        waits for a second officer."""
        request = make(
            pb.ReferSeriesRequest,
            series=series,
            country=country,
            agency=agency,
            urgency=urgency,
            purpose=purpose,
            case_ref=case_ref,
            note=note,
            vital_interests=vital_interests,
        )
        return self.call(self.stub.ReferSeries, request, limits.ACTION_SECONDS)

    # --- inbox ---------------------------------------------------------------------------------

    def list_inbox(self) -> pb.ListInboxResponse:
        """Received referrals and broadcasts, newest first, and alarms."""
        return self.call(self.stub.ListInbox, pb.ListInboxRequest())

    def get_inbox_entry(self, entry: str) -> pb.InboxEntry:
        """One of them with its steps."""
        request = make(pb.GetInboxEntryRequest, id=entry)
        return self.call(self.stub.GetInboxEntry, request).entry

    def step_referral(
        self,
        entry: str,
        state: str,
        *,
        text: str = "",
        passed_to: str = "",
        outcome: payload_pb2.Outcome | None = None,
        lead: bool = False,
    ) -> pb.InboxEntry:
        """Take a step: acknowledged (a broadcast too), accepted (with the ``lead``), declined,
        passed_on, outcome."""
        request = make(
            pb.StepReferralRequest,
            id=entry,
            state=state,
            text=text,
            passed_to=passed_to,
            outcome=outcome,
            lead=lead,
        )
        return self.call(self.stub.StepReferral, request, limits.ACTION_SECONDS).entry

    def answer_broadcast(
        self,
        entry: str,
        kind: str,
        *,
        country: str = "",
        confidence: int = 0,
        series: str = "",
        text: str = "",
    ) -> pb.InboxEntry:
        """Answer with assess, eliminate or ours."""
        request = make(
            pb.AnswerBroadcastRequest,
            id=entry,
            kind=kind,
            country=country,
            confidence=confidence,
            series=series,
            text=text,
        )
        return self.call(self.stub.AnswerBroadcast, request).entry

    # --- exports -------------------------------------------------------------------------------

    def export_series(
        self,
        options: ExportOptions,
        path: Path,
        *,
        replace: bool = False,
        on_records: Callable[[int], None] | None = None,
    ) -> ExportReport:
        """Write series into a file whole or not at all; see `exporting.write_export`."""
        request = make(
            pb.ExportSeriesRequest,
            series=options.series,
            format=options.format.value,
            file=source_name(path),
            recipient=options.recipient,
            purpose=options.purpose,
            case_ref=options.case_ref,
        )
        parts = self.read(self.stub.ExportSeries(request, timeout=limits.EXPORT_SECONDS))
        return write_export(parts, options, path, replace=replace, on_records=on_records)

    # --- node, audit ---------------------------------------------------------------------------

    def list_budgets(self) -> budget_pb2.ListBudgetsResponse:
        """What peers may ask here today, and what is left at them."""
        return self.call(self.stub.ListBudgets, budget_pb2.ListBudgetsRequest())

    def set_budget(
        self, agency: str, units: int | None, purpose: str = ""
    ) -> budget_pb2.BudgetView:
        """Set what a peer may ask in a day; None: as configured again."""
        request = make(budget_pb2.SetBudgetRequest, agency=agency, purpose=purpose, units=units)
        return self.call(self.stub.SetBudget, request).budget

    def examine(self) -> Sequence[doctor_pb2.Finding]:
        """What the node finds when it looks itself over."""
        request = doctor_pb2.ExamineRequest()
        return self.call(self.stub.Examine, request, limits.EXAMINE_SECONDS).findings

    def get_audit_head(self) -> pb.GetAuditHeadResponse:
        """Size and root of the audit log."""
        return self.call(self.stub.GetAuditHead, pb.GetAuditHeadRequest())

    def list_audit_entries(self, start: int = 0, limit: int = 0) -> Iterator[tuple[int, bytes]]:
        """Yield (position, leaf) in order; ``limit`` 0 means all."""
        for position, leaf, _ in self.list_audit_leaves(start, limit):
            yield position, leaf

    def list_audit_leaves(self, start: int = 0, limit: int = 0) -> Iterator[Leaf]:
        """Yield (position, leaf, leaf hash as the log keeps it, or empty of an older node)."""
        request = make(pb.ListAuditEntriesRequest, start=start, limit=limit)
        pages = self.stub.ListAuditEntries(request, timeout=limits.AUDIT_SECONDS)
        for page in self.read(pages):
            hashes = page.hashes or [b""] * len(page.leaves)
            for at, (leaf, hashed) in enumerate(zip(page.leaves, hashes, strict=True)):
                yield page.start + at, leaf, hashed
