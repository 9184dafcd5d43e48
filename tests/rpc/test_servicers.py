"""Servicers translate and call: each RPC over a real in-process server, behind the real guard.

pytest-grpc serves without TLS, so who calls is told by metadata; everything after that (roles,
rows, caps, one ErrorInfo) is the product's. Behind it stands a whole node over SQLite.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[2] / "build" / "kernels"))

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline.v1 import (
    delivery_pb2,
    delivery_pb2_grpc,
    digests_pb2,
    doctor_pb2,
    envelope_pb2,
    exchange_pb2,
    exchange_pb2_grpc,
    operator_pb2_grpc,
    payload_pb2,
    series_pb2,
)
from tieline.v1 import operator_pb2 as pb
from tieline.v1.operator_access_pb2 import GetAccessRequest, GetAccessResponse
from tieline_client import columns_wire, keys, limits
from tieline_client.asked_list import AskTerms, ListBuilder
from tieline_client.columns import of_records
from tieline_client.digests import DigestKind
from tieline_client.errors import TielineError
from tieline_client.formats.record import Record, Vote
from tieline_client.identifiers import new_id
from tieline_client.inert import plain
from tieline_client.payloads import Audience, open_payload
from tieline_client.record_stream import to_wire
from tieline_client.records_in import record_in
from tieline_server.domain.refusals import Refusal
from tieline_server.rpc.call import Caller
from tieline_server.rpc.delivery import DeliveryServicer
from tieline_server.rpc.exchange import ExchangeServicer
from tieline_server.rpc.interceptors import Guard
from tieline_server.rpc.methods import Listener
from tieline_server.rpc.operator import NodeFacts, OperatorServicer
from tieline_server.services.people import IssuedLeaf, People
from tieline_server.services.watch_runs import WatchRuns
from tieline_server.storage.engine import open_store

from tests.rpc.guarded import PATIENT, only_reason
from tests.services.bench import (
    ABUSE,
    CASE,
    ES,
    HUB,
    PT,
    PURPOSE,
    START,
    Bench,
    make_bench,
    records,
)

grpc_max_workers = 8
ALL = "analyst,officer,auditor,admin"
SECONDS = 600
"""The first import compiles the kernels, where no other test has yet."""


class ByWord:
    """Identifies by the call's metadata: ``as`` is an agency, or NAME:ROLE,ROLE of pt-pj."""

    def identify(self, context: grpc.ServicerContext) -> Caller:
        word = dict(context.invocation_metadata())["as"]
        assert isinstance(word, str)
        name, colon, roles = word.partition(":")
        if not colon:
            return Caller(word, None, frozenset(), 1, bytes(32))
        return Caller(PT, name, frozenset(roles.split(",")) - {""}, 1, bytes(32))

    def check_fresh(self) -> None:
        """The directory of these tests does not expire."""

    def ground(self) -> object:
        """Words do not change within a call."""
        return None


class BothGuards(grpc.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """The guard of the listener on which a service really stands."""

    def __init__(self, refusals: list[Refusal]) -> None:
        identifier = ByWord()
        self._guards = {
            listener: Guard(
                listener,
                identifier,
                lambda: START,
                refusals.append,
                rules=PATIENT,
                check_responses=True,
            )
            for listener in Listener
        }

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Pass the call to one of the two."""
        people = "/tieline.v1.OperatorService/" in handler_call_details.method
        listener = Listener.OPERATOR if people else Listener.FEDERATION
        return self._guards[listener].intercept_service(continuation, handler_call_details)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("servicers")
    empty = folder / "empty.sqlite3"
    open_store(f"sqlite:///{empty}", clock=lambda: START).close()
    with make_bench(folder, empty) as made:
        yield made


@pytest.fixture(scope="module")
def grpc_addr(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A socket of our own: a free port may be somebody else's by the time it is bound."""
    return f"unix:{tmp_path_factory.mktemp('rpc') / 'socket'}"


@pytest.fixture(scope="module")
def refusals() -> list[Refusal]:
    return []


@pytest.fixture(scope="module")
def grpc_interceptors(refusals: list[Refusal]) -> list[BothGuards]:
    return [BothGuards(refusals)]


def _issue(name: str, public: bytes) -> IssuedLeaf:
    keys.load_public(public)
    return IssuedLeaf(b"\x30\x03" + name.encode(), 7, START)


@pytest.fixture(scope="module")
def greeted() -> list[str]:
    return []


@pytest.fixture(scope="module")
def grpc_servicer(bench: Bench, greeted: list[str]) -> tuple[Any, Any, Any]:
    running = bench[PT]
    facts = NodeFacts(
        examine=doctor_pb2.ExamineResponse,
        listen="127.0.0.1:7443",
        access=lambda: GetAccessResponse(
            node_cas=[b"\x30\x02ca", b"\x30\x04next"],
            address="127.0.0.1:7444",
            target_name=f"{PT}.demo.invalid",
        ),
        status=lambda: pb.GetStatusResponse(agency=PT, federation="demo"),
        run_watches=WatchRuns(running.node).run,
    )
    return (
        OperatorServicer(running.node, People(running.node, _issue, _issue), facts),
        ExchangeServicer(running.node, running.answerer, lambda: b"\x30\x04leaf", greeted.append),
        DeliveryServicer(running.receiving, running.receiver, running.standing),
    )


@pytest.fixture(scope="module")
def grpc_add_to_server() -> Callable[[tuple[Any, Any, Any], grpc.Server], None]:
    def add(servicers: tuple[Any, Any, Any], server: grpc.Server) -> None:
        people, exchange, delivery = servicers
        operator_pb2_grpc.add_OperatorServiceServicer_to_server(people, server)
        exchange_pb2_grpc.add_ExchangeServiceServicer_to_server(exchange, server)
        delivery_pb2_grpc.add_DeliveryServiceServicer_to_server(delivery, server)

    return add


class Stubs:
    """All three stubs; a call names who makes it."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._stubs = (
            operator_pb2_grpc.OperatorServiceStub(channel),
            exchange_pb2_grpc.ExchangeServiceStub(channel),
            delivery_pb2_grpc.DeliveryServiceStub(channel),
        )

    def call(self, method: str, request: Any, who: str = f"ana:{ALL}") -> Any:
        """Make one call; a list of requests is a stream. Streams come back as lists."""
        stub = next(one for one in self._stubs if hasattr(one, method))
        sent = iter(request) if isinstance(request, list) else request
        answer: Any = getattr(stub, method)(sent, metadata=(("as", who),), timeout=SECONDS)
        return list(answer) if hasattr(answer, "__next__") else answer

    def refused(self, method: str, request: Any, who: str = f"ana:{ALL}") -> tuple[str, str]:
        """Make a call that must fail with one ErrorInfo; return status and reason."""
        with pytest.raises(grpc.RpcError) as failed:
            self.call(method, request, who)
        code, reason, _ = only_reason(failed.value)
        return code.name, reason


@pytest.fixture(scope="module")
def grpc_stub_cls() -> type[Stubs]:
    return Stubs


@pytest.fixture(scope="module")
def stubs(grpc_stub: Stubs) -> Stubs:
    return grpc_stub


# --- imports and questions ------------------------------------------------------------------------


def _import(numbers: range, **header: Any) -> list[pb.ImportRequest]:
    batch = pb.RecordBatch(records=[to_wire(one) for one in records(numbers)])
    digest = hashlib.sha256(repr(numbers).encode()).digest()
    fields: dict[str, Any] = {"source": "f.csv", "case_ref": CASE, "file_digest": digest}
    return [
        pb.ImportRequest(header=pb.ImportHeader(**(fields | header))),
        pb.ImportRequest(records=batch),
        pb.ImportRequest(finish=pb.ImportFinish(records=len(numbers))),
    ]


def test_an_import_reports_progress_and_what_it_amounts_to(stubs: Stubs, bench: Bench) -> None:
    parts = _import(range(5), series="Azul")
    opened, staged, done = stubs.call("Import", parts)
    assert opened.HasField("staged")
    assert (opened.staged, staged.staged) == (0, 5)
    assert (done.report.records, done.report.items_new) == (5, 5)
    assert len(done.report.series) == 1
    assert bench[PT].audit("import")[-1]["person"] == "ana"
    stats = stubs.call("GetStats", pb.GetStatsRequest())
    assert (stats.items, stats.digests["sha1"]) == (5, 5)
    assert stats.index_generation == stats.generation


def test_an_import_in_columns_does_the_same(stubs: Stubs, bench: Bench) -> None:
    columns = columns_wire.to_wire(of_records(records(range(20, 25))))
    header, _, finish = _import(range(20, 25))
    parts = [header, pb.ImportRequest(columns=columns), finish]
    _, staged, done = stubs.call("Import", parts)
    assert staged.staged == 5
    assert (done.report.records, done.report.items_new) == (5, 5)
    # The same file again: the header is enough.
    (again,) = stubs.call("Import", parts[:1])
    assert again.report.repeated
    assert (again.report.items_new, again.report.items_known) == (0, 5)
    assert again.report.import_id == done.report.import_id


def _broken(parts: list[pb.ImportRequest], how: str) -> list[pb.ImportRequest]:
    header, batch, finish = parts
    if how == "no header":
        return [batch, finish]
    if how == "two headers":
        return [header, header, finish]
    if how == "no finish":
        return [header, batch]
    if how == "a wrong count":
        return [header, batch, pb.ImportRequest(finish=pb.ImportFinish(records=9))]
    if how == "a part of nothing":
        return [header, pb.ImportRequest()]
    if how == "columns that do not fit":
        columns = pb.RecordColumns(count=10, first_number=1, flags=bytes(9))
        return [header, pb.ImportRequest(columns=columns), finish]
    record = batch.records.records[0]
    if how == "half a category":
        record.codes.append("2")
    elif how == "half a reference":
        record.reference_schemes.append("icse")
    else:
        record.sha1 = b"\x01" * 19
    return [header, batch, finish]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("nothing", "MALFORMED_MESSAGE"),
        ("no header", "MALFORMED_MESSAGE"),
        ("two headers", "MALFORMED_MESSAGE"),
        ("a part of nothing", "MALFORMED_MESSAGE"),
        ("half a category", "MALFORMED_MESSAGE"),
        ("half a reference", "MALFORMED_MESSAGE"),
        ("columns that do not fit", "MALFORMED_MESSAGE"),
        ("a short digest", "INVALID_DIGEST"),
        ("no finish", "INVALID_INPUT"),
        ("a wrong count", "INVALID_INPUT"),
    ],
)
def test_an_import_that_is_broken_keeps_nothing(
    stubs: Stubs, bench: Bench, how: str, reason: str
) -> None:
    before = stubs.call("GetStats", pb.GetStatsRequest())
    parts = [] if how == "nothing" else _broken(_import(range(50, 60)), how)
    status, said = stubs.refused("Import", parts)
    assert (status, said) in (
        ("INVALID_ARGUMENT", reason),
        # A digest of the wrong width is seen by the message's caps already.
        ("INVALID_ARGUMENT", "MALFORMED_MESSAGE"),
    )
    assert stubs.call("GetStats", pb.GetStatsRequest()) == before
    assert bench[PT].store.read(lambda tx: tx.imports.incomplete()) == []


def _question(numbers: range, **header: Any) -> list[pb.AskOverlapRequest]:
    builder = ListBuilder(AskTerms(frozenset({ABUSE})), near=False)
    for one in records(numbers):
        builder.add(one)
    asked = builder.build()
    fields: dict[str, Any] = {
        "purpose": PURPOSE,
        "case_ref": CASE,
        "peers": [ES],
        "records": len(asked),
        "counts": asked.counts(),
        "list_digest": asked.digest,
    }
    return [
        pb.AskOverlapRequest(header=pb.AskHeader(**(fields | header))),
        *(pb.AskOverlapRequest.FromString(one.message) for one in asked.batches()),
    ]


def test_what_may_be_asked_abroad(stubs: Stubs) -> None:
    terms = stubs.call("GetAskTerms", pb.GetAskTermsRequest())
    assert {(one.scheme, one.code) for one in terms.categories} == {ABUSE, Vote("vics-us", "2")}
    assert terms.records_most == limits.RECORDS_PER_QUERY
    assert terms.digest_later


def test_a_question_streams_its_start_the_hits_and_each_peers_end(
    stubs: Stubs, bench: Bench
) -> None:
    bench[ES].load(records(range(3)))
    answer = stubs.call("AskOverlap", _question(range(2, 6)))
    assert [one.WhichOneof("part") for one in answer] == ["started", *["hits"] * 3, "end"]
    assert answer[0].started.asked == 4
    kinds = [one.hits.hits.kind for one in answer[1:4]]
    assert kinds == [DigestKind.MD5, DigestKind.SHA1, DigestKind.SHA256]
    assert all(len(one.hits.hits.positions) == 1 for one in answer[1:4])
    assert (answer[4].end.agency, answer[4].end.status) == (ES, "answered")


def _without_digest(parts: list[pb.AskOverlapRequest]) -> list[pb.AskOverlapRequest]:
    """The question with a header that leaves the digest out."""
    header = pb.AskHeader.FromString(parts[0].header.SerializeToString())
    header.ClearField("list_digest")
    return [pb.AskOverlapRequest(header=header), *parts[1:]]


def _named(parts: list[pb.AskOverlapRequest]) -> pb.AskOverlapRequest:
    return pb.AskOverlapRequest(list_digest=parts[0].header.list_digest)


@pytest.mark.parametrize("place", [1, 2, 4])
def test_the_digest_of_a_list_may_come_anywhere_after_the_header(
    stubs: Stubs, bench: Bench, place: int
) -> None:
    bench[ES].load(records(range(3)))
    whole = _question(range(2, 6))
    parts = _without_digest(whole)
    parts.insert(place, _named(whole))
    answer = stubs.call("AskOverlap", parts)
    assert [one.WhichOneof("part") for one in answer] == ["started", *["hits"] * 3, "end"]
    assert (answer[4].end.agency, answer[4].end.status) == (ES, "answered")


def test_a_question_of_few_digests_is_one_message_each_way(stubs: Stubs, bench: Bench) -> None:
    bench[ES].load(records(range(3)))
    header, *batches = _question(range(2, 6))
    brief = pb.AskBriefRequest(header=header.header, lists=[one.batch for one in batches])
    bundles = stubs.call("AskBrief", brief)
    parts = [part for one in bundles for part in one.parts]
    assert [one.WhichOneof("part") for one in parts] == ["started", *["hits"] * 3, "end"]
    assert len(bundles) == 1
    assert stubs.refused("AskBrief", pb.AskBriefRequest(header=header.header)) == (
        "INVALID_ARGUMENT",
        "INVALID_INPUT",
    )


def test_a_collection_is_compared_series_by_series(stubs: Stubs, bench: Bench) -> None:
    bench[ES].load(records(range(3)))
    request = pb.CompareCollectionRequest(purpose=PURPOSE, case_ref=CASE, peers=[ES])
    answer = stubs.call("CompareCollection", request)
    parts = [one.WhichOneof("part") for one in answer]
    assert parts == ["started", "progress", "rows", "end"]
    assert answer[0].started.items == answer[1].progress.items > 0
    assert answer[3].end.end.status == "answered"
    assert answer[3].end.shared > 0
    wrong = pb.CompareCollectionRequest(purpose=PURPOSE, case_ref=" ", peers=[ES])
    assert stubs.refused("CompareCollection", wrong) == ("INVALID_ARGUMENT", "INVALID_INPUT")


def _put(parts: list[pb.AskOverlapRequest], index: int, **batch: Any) -> Any:
    """The question with other digests in one of its batches."""
    changed = [pb.AskOverlapRequest.FromString(one.SerializeToString()) for one in parts]
    changed[index].batch.MergeFrom(digests_pb2.DigestList(**batch))
    return changed


def _junk(kind: DigestKind, count: int) -> bytes:
    return b"".join(bytes([n]) * kind.width for n in range(1, count + 1))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([], "MALFORMED_MESSAGE"),
        (_question(range(2))[1:], "MALFORMED_MESSAGE"),
        (_question(range(2))[:2], "INVALID_INPUT"),
        (_question(range(2))[:1], "INVALID_INPUT"),
        ([*_question(range(2)), _question(range(2))[0]], "MALFORMED_MESSAGE"),
        ([*_question(range(2)), _question(range(2))[1]], "MALFORMED_MESSAGE"),
        (_question(range(2))[:1] + _question(range(2))[:0:-1], "MALFORMED_MESSAGE"),
        ([*_question(range(2)), _question(range(2))[3]], "INVALID_DIGEST"),
        (_put(_question(range(2)), 1, digests=_junk(DigestKind.MD5, 2)), "INVALID_INPUT"),
        (_put(_question(range(2)), 1, digests=_junk(DigestKind.MD5, 3)), "INVALID_INPUT"),
        (_put(_question(range(2)), 1, digests=_junk(DigestKind.MD5, 2)[::-1]), "INVALID_DIGEST"),
        (_put(_question(range(2)), 1, digests=b"\x01" * 17), "INVALID_DIGEST"),
        (_put(_question(range(2)), 1, kind=7), "INVALID_DIGEST"),
        (_question(range(2), list_digest=bytes(32)), "INVALID_INPUT"),
        (_without_digest(_question(range(2))), "MALFORMED_MESSAGE"),
        ([*_question(range(2)), _named(_question(range(2)))], "MALFORMED_MESSAGE"),
        (
            [*_without_digest(_question(range(2))), *[_named(_question(range(2)))] * 2],
            "MALFORMED_MESSAGE",
        ),
        (
            [*_without_digest(_question(range(2))), _named(_question(range(3)))],
            "INVALID_INPUT",
        ),
        (
            [*_without_digest(_question(range(2))), pb.AskOverlapRequest(list_digest=b"")],
            "MALFORMED_MESSAGE",
        ),
        (_question(range(2), counts=[2, 2, 1]), "INVALID_INPUT"),
        (_question(range(2), counts=[2, 2, 3]), "INVALID_INPUT"),
        (_question(range(2), records=0), "INVALID_INPUT"),
        (_question(range(2), counts=[2, 2, 2, 1]), "INVALID_INPUT"),
        (_question(range(2), peers=[PT]), "INVALID_INPUT"),
        (_question(range(2), purpose="tea"), "INVALID_INPUT"),
    ],
)
def test_a_question_that_is_broken_asks_nobody(
    stubs: Stubs, bench: Bench, parts: list[pb.AskOverlapRequest], reason: str
) -> None:
    bench[ES]
    before = len(bench[ES].audit())
    assert stubs.refused("AskOverlap", parts) == ("INVALID_ARGUMENT", reason)
    assert len(bench[ES].audit()) == before


# --- series and messages --------------------------------------------------------------------------


def test_series_are_made_judged_listed_page_by_page_and_found(stubs: Stubs) -> None:
    made = stubs.call("CreateSeries", pb.CreateSeriesRequest(name="Verde", case_ref=CASE)).series
    judged = stubs.call(
        "AssessSeries",
        pb.AssessSeriesRequest(series="Verde", country="ES", confidence=3, grounds="plates"),
    ).series
    assert list(judged.likely_countries) == ["ES"]
    assert judged.notice.assessments[0].person == "ana"
    names, token = [], ""
    while True:
        page = stubs.call("ListSeries", pb.ListSeriesRequest(page_size=1, page_token=token))
        names += [one.notice.name for one in page.series]
        token = page.next_page_token
        if not token:
            break
    assert sorted(names) == ["Azul", "Verde"]
    by_id = stubs.call("GetSeries", pb.GetSeriesRequest(series=made.notice.id)).series
    assert by_id == judged
    missing = pb.GetSeriesRequest(series="Roxo")
    assert stubs.refused("GetSeries", missing) == ("NOT_FOUND", "NOT_FOUND")
    again = pb.CreateSeriesRequest(name="Verde")
    assert stubs.refused("CreateSeries", again) == ("FAILED_PRECONDITION", "WRONG_STATE")


def _without_clock(view: pb.ReferralView) -> None:
    """Take away what the clock alone says: since when it stands at its step, and what is due."""
    view.ClearField("since_time")
    view.ClearField("next_step")
    view.ClearField("due_time")


def test_a_referral_goes_out_and_shows_in_clock_and_outbox(stubs: Stubs) -> None:
    request = pb.ReferSeriesRequest(
        series="Verde", country="ES", urgency=1, purpose=PURPOSE, case_ref=CASE
    )
    (view,) = stubs.call("ReferSeries", request).referrals
    assert (view.recipient, view.state) == (ES, "referred")
    (ticking,) = stubs.call("ListClock", pb.ListClockRequest(series="Verde")).referrals
    assert ticking.next_step == "delivered"
    _without_clock(ticking)
    assert ticking == view
    outbox = stubs.call("ListOutbox", pb.ListOutboxRequest(state="queued"))
    assert [one.subject for one in outbox.entries] == [view.id]
    assert outbox.destinations[0].agency == ES
    assert stubs.refused("ListOutbox", pb.ListOutboxRequest(state="lost"))[1] == "INVALID_INPUT"
    nothing = pb.StepReferralRequest(id=view.id, state="accepted")
    assert stubs.refused("StepReferral", nothing) == ("NOT_FOUND", "NOT_FOUND")


def _told(bench: Bench) -> payload_pb2.Payload:
    identifier = new_id()
    notice = series_pb2.SeriesNotice(
        id=f"{ES}/{new_id()}",
        status="new",
        handling=series_pb2.Handling(tlp=3, source="X", information=4, retain_until="2028-01-01"),
    )
    notice.create_time.FromDatetime(START.replace(tzinfo=None))
    return payload_pb2.Payload(
        referral=payload_pb2.Referral(
            id=identifier, root=identifier, series=notice, country="PT", urgency=2
        )
    )


def test_what_comes_in_is_listed_and_stepped(stubs: Stubs, bench: Bench) -> None:
    payload = _told(bench)
    envelope = bench[ES].seal(payload, PT)
    request = delivery_pb2.DeliverRequest(envelope=envelope, lane=2, sequence=1, epoch="e")
    answer = stubs.call("Deliver", request, ES)
    assert (answer.reply, answer.epoch) == (delivery_pb2.REPLY_APPLIED, bench[PT].node.epoch)
    assert stubs.call("Deliver", request, ES).reply == delivery_pb2.REPLY_DUPLICATE
    assert stubs.refused("Deliver", request, HUB) == ("UNAUTHENTICATED", "SIGNATURE_REFUSED")
    (entry,) = stubs.call("ListInbox", pb.ListInboxRequest()).entries
    assert entry.id == payload.referral.id
    shown = stubs.call("GetInboxEntry", pb.GetInboxEntryRequest(id=entry.id)).entry
    for one in (shown, entry):
        _without_clock(one.referral)
    assert shown == entry
    stepped = pb.StepReferralRequest(id=entry.id, state="acknowledged")
    assert stubs.call("StepReferral", stepped).entry.referral.state == "acknowledged"


def test_a_broadcast_is_acknowledged_by_the_same_call(stubs: Stubs, bench: Bench) -> None:
    asked = payload_pb2.Payload(
        broadcast=payload_pb2.Broadcast(id=new_id(), series=_told(bench).referral.series)
    )
    asked.broadcast.series.id = f"{HUB}/{new_id()}"
    envelope = bench[HUB].seal(asked, Audience(group="desks", group_version=2))
    request = delivery_pb2.DeliverRequest(envelope=envelope, lane=2, sequence=1, epoch="e")
    assert stubs.call("Deliver", request, HUB).reply == delivery_pb2.REPLY_APPLIED
    read = pb.StepReferralRequest(id=asked.broadcast.id, state="acknowledged")
    assert stubs.call("StepReferral", read).entry.broadcast.state == "acknowledged"
    placed = pb.AnswerBroadcastRequest(id=asked.broadcast.id, kind="assess", country="PT")
    assert stubs.call("AnswerBroadcast", placed).entry.broadcast.state == "answered"
    assert stubs.refused("AnswerBroadcast", pb.AnswerBroadcastRequest(id="x", kind="hm"))[0] in (
        "INVALID_ARGUMENT",
        "NOT_FOUND",
    )


def test_only_hubs_broadcast_and_only_repositories_step_uploads(stubs: Stubs) -> None:
    broadcast = pb.BroadcastSeriesRequest(
        series=["Azul"], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    assert stubs.refused("BroadcastSeries", broadcast) == ("PERMISSION_DENIED", "ROLE_REFUSED")
    step = pb.StepUploadRequest(id=new_id(), state="numbered")
    assert stubs.refused("StepUpload", step) == ("PERMISSION_DENIED", "ROLE_REFUSED")
    assert not stubs.call("ListBroadcasts", pb.ListBroadcastsRequest()).broadcasts
    upload = pb.UploadSeriesRequest(
        series=["Azul"], repository="interpol", purpose=PURPOSE, case_ref=CASE
    )
    (view,) = stubs.call("UploadSeries", upload).uploads
    assert (view.items, view.state) == (5, "announced")
    assert stubs.call("ListUploads", pb.ListUploadsRequest()).uploads == [view]


def test_peers_are_listed_with_what_policy_says(stubs: Stubs) -> None:
    peers = stubs.call("ListPeers", pb.ListPeersRequest(purpose=PURPOSE)).peers
    listed = {one.agency: one.listed for one in peers}
    assert PT not in listed
    assert listed[ES] is True
    assert listed["us-fbi"] is False
    assert next(one.reason for one in peers if one.agency == "us-fbi")
    assert not any(one.listed for one in stubs.call("ListPeers", pb.ListPeersRequest()).peers)


# --- people and the log ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "request_", "roles"),
    [
        ("Import", [], "officer,auditor,admin"),
        ("AskOverlap", [], "officer,auditor,admin"),
        ("AskBrief", pb.AskBriefRequest(), "officer,auditor,admin"),
        ("CompareCollection", pb.CompareCollectionRequest(), "officer,auditor,admin"),
        ("GetAskTerms", pb.GetAskTermsRequest(), "officer,auditor,admin"),
        ("CreateSeries", pb.CreateSeriesRequest(name="x"), "officer,auditor,admin"),
        ("ReferSeries", pb.ReferSeriesRequest(series="Azul"), "analyst,auditor,admin"),
        ("StepReferral", pb.StepReferralRequest(id="x"), "analyst,auditor,admin"),
        ("UploadSeries", pb.UploadSeriesRequest(), "analyst,auditor,admin"),
        ("ExportSeries", pb.ExportSeriesRequest(), "analyst,auditor,admin"),
        ("AddOperator", pb.AddOperatorRequest(name="x"), "analyst,officer,auditor"),
        ("RevokeOperator", pb.RevokeOperatorRequest(name="x"), "analyst,officer,auditor"),
        ("ListAuditEntries", pb.ListAuditEntriesRequest(), "analyst,officer,admin"),
        ("ListSeries", pb.ListSeriesRequest(), "auditor,admin"),
        ("GetStats", pb.GetStatsRequest(), ""),
        ("GetAccess", GetAccessRequest(), ""),
    ],
)
def test_a_role_opens_its_methods_and_no_others(
    stubs: Stubs, refusals: list[Refusal], method: str, request_: Any, roles: str
) -> None:
    found = stubs.refused(method, request_, f"eve:{roles}")
    assert found == ("PERMISSION_DENIED", "ROLE_REFUSED")
    assert (refusals[-1].person, refusals[-1].reason) == ("eve", "ROLE_REFUSED")


def test_series_are_handed_out_through_the_guard(stubs: Stubs, bench: Bench) -> None:
    bench[PT].series(records(range(900, 903)), "Exported")
    request = pb.ExportSeriesRequest(
        series=["Exported"], format="csv", purpose=PURPOSE, case_ref=CASE
    )
    parts = stubs.call("ExportSeries", request, "ana:officer")
    assert [part.WhichOneof("part") for part in parts] == ["series", "records", "end"]
    refused = pb.ExportSeriesRequest(
        series=["Exported"], format="csv", purpose="new-code", case_ref=CASE
    )
    assert stubs.refused("ExportSeries", refused, "ana:officer")[1] == "POLICY_REFUSED"


def test_a_person_is_added_listed_and_revoked(stubs: Stubs) -> None:
    public = keys.public_der(keys.generate())
    added = stubs.call(
        "AddOperator", pb.AddOperatorRequest(name="rui", roles=["admin"], public_key=public)
    )
    assert added.certificate == b"\x30\x03rui"
    assert (added.address, added.node_ca) == ("127.0.0.1:7444", b"\x30\x02ca")
    # While one CA takes the other's place a new profile gets both, and so does one that asks.
    access = stubs.call("GetAccess", GetAccessRequest(), "zoe:auditor")
    assert list(added.node_cas) == list(access.node_cas) == [b"\x30\x02ca", b"\x30\x04next"]
    assert (access.address, access.target_name) == (added.address, added.target_name)
    people = stubs.call("ListOperators", pb.ListOperatorsRequest()).operators
    assert [(one.name, list(one.roles)) for one in people] == [("rui", ["admin"])]
    last = pb.RevokeOperatorRequest(name="rui")
    assert stubs.refused("RevokeOperator", last) == ("FAILED_PRECONDITION", "WRONG_STATE")
    other = pb.AddOperatorRequest(name="eva", roles=["admin"], public_key=public)
    stubs.call("AddOperator", other)
    stubs.call("RevokeOperator", last)
    assert stubs.refused("RevokeOperator", last) == ("NOT_FOUND", "NOT_FOUND")
    bad = pb.AddOperatorRequest(name="eve", roles=["king"], public_key=public)
    assert stubs.refused("AddOperator", bad) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    bad = pb.AddOperatorRequest(name="eve", roles=["admin"], public_key=b"\x30\x00")
    assert stubs.refused("AddOperator", bad)[0] == "INVALID_ARGUMENT"


def test_who_asks_is_in_the_status(stubs: Stubs) -> None:
    status = stubs.call("GetStatus", pb.GetStatusRequest(), "zoe:auditor")
    assert (status.agency, status.person, list(status.roles)) == (PT, "zoe", ["auditor"])


def test_the_log_is_read_in_pages_and_reading_is_logged(stubs: Stubs) -> None:
    head = stubs.call("GetAuditHead", pb.GetAuditHeadRequest(), "zoe:auditor")
    assert len(head.root) == 32
    pages = stubs.call("ListAuditEntries", pb.ListAuditEntriesRequest(), "zoe:auditor")
    leaves = [leaf for page in pages for leaf in page.leaves]
    assert len(leaves) == head.size
    assert pages[0].start == 0
    after = pb.ListAuditEntriesRequest(start=head.size, limit=5)
    (page,) = stubs.call("ListAuditEntries", after, "zoe:auditor")
    read = json.loads(page.leaves[0])
    assert (read["action"], read["person"]) == ("audit.read", "zoe")
    part = pb.ListAuditEntriesRequest(start=1, limit=2)
    (page,) = stubs.call("ListAuditEntries", part, "zoe:auditor")
    assert (page.start, list(page.leaves)) == (1, leaves[1:3])


# --- peers ----------------------------------------------------------------------------------------


def test_a_hello_is_proven_to_its_caller(stubs: Stubs, bench: Bench, greeted: list[str]) -> None:
    nonce = bytes(range(32))
    answer = stubs.call("Hello", exchange_pb2.HelloRequest(nonce=nonce, wire_version="v1.0"), ES)
    opened = open_payload(
        answer.proof,
        directory=bench.directory,
        issuer=PT,
        audience=Audience(agency=ES),
        now=bench.now,
    )
    assert opened.hello.nonce == nonce
    assert opened.hello.caller == f"spiffe://demo/agency/{ES}"
    assert greeted == [ES]
    short = exchange_pb2.HelloRequest(nonce=b"short")
    assert stubs.refused("Hello", short, ES) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


def test_an_overlap_is_answered_to_who_signed_it(stubs: Stubs, bench: Bench) -> None:
    asked = sorted(one.sha1 or b"" for one in records(range(4)))
    header = payload_pb2.Payload(
        query=payload_pb2.QueryHeader(
            mode=payload_pb2.QUERY_MODE_EXACT,
            records=4,
            counts=[0, 4, 0, 0],
            list_digest=hashlib.sha256(b"".join(asked)).digest(),
        )
    )
    batch = digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=b"".join(asked))
    parts = [
        exchange_pb2.OverlapRequest(header=bench[ES].seal(header, PT, life=limits.QUERY_LIFE)),
        exchange_pb2.OverlapRequest(batch=batch),
    ]
    hits, end = stubs.call("Overlap", parts, ES)
    assert list(hits.hits.positions) == [0, 1, 2, 3]
    assert end.end.disclosure == "hit"
    assert stubs.refused("Overlap", parts, HUB) == ("UNAUTHENTICATED", "SIGNATURE_REFUSED")
    assert stubs.refused("Overlap", [], ES) == ("INVALID_ARGUMENT", "MALFORMED_MESSAGE")


def _brief(bench: Bench, numbers: range) -> exchange_pb2.OverlapBriefRequest:
    asked = sorted(one.sha1 or b"" for one in records(numbers))
    query = payload_pb2.QueryHeader(
        mode=payload_pb2.QUERY_MODE_EXACT,
        records=len(asked),
        counts=[0, len(asked)],
        list_digest=hashlib.sha256(b"".join(asked)).digest(),
    )
    header = payload_pb2.Payload(query=query)
    batch = digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=b"".join(asked))
    return exchange_pb2.OverlapBriefRequest(
        header=bench[HUB].seal(header, PT, life=limits.QUERY_LIFE), lists=[batch]
    )


def _release(stubs: Stubs, bench: Bench, numbers: range) -> None:
    """Ask for more than a hit, and release it as the holder's officer does."""
    answer = stubs.call("OverlapBrief", _brief(bench, numbers), HUB)
    bench[PT].release(answer.parts[-1].end.request)


def test_few_digests_are_answered_in_one_message_unless_there_is_more_to_say(
    stubs: Stubs, bench: Bench
) -> None:
    bench[PT].load(records(range(910, 914)), series="Brief")
    _release(stubs, bench, range(910, 914))
    answer = stubs.call("OverlapBrief", _brief(bench, range(910, 914)), HUB)
    assert [one.WhichOneof("part") for one in answer.parts] == ["batch", "hits", "end"]
    assert answer.parts[-1].end.disclosure == "reference"
    most = limits.REFERENCES_PER_SERIES
    for number in (920, 921):
        wordy = tuple(("national", f"{number}-{n}-".ljust(190, "x")) for n in range(most))
        bench[PT].load(records([number], series=f"Wordy {number}", references=wordy))
    _release(stubs, bench, range(920, 922))
    brief = _brief(bench, range(920, 922))
    assert stubs.refused("OverlapBrief", brief, HUB) == ("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED")
    parts = [
        exchange_pb2.OverlapRequest(header=brief.header),
        exchange_pb2.OverlapRequest(batch=brief.lists[0]),
    ]
    streamed = stubs.call("Overlap", parts, HUB)
    assert sum(len(one.batch.series) for one in streamed) == 2
    assert streamed[-1].HasField("end")


def test_a_chunk_is_staged_for_its_sender(stubs: Stubs) -> None:
    request = delivery_pb2.PutChunkRequest(
        attachment="ab" * 32,
        chunks=1,
        items=1,
        kind="referral",
        purpose=PURPOSE,
        series=f"{ES}/{new_id()}",
    )
    assert stubs.call("PutChunk", request, ES).next_index == 0
    request.kind = "gift"
    request.attachment = "cd" * 32
    assert stubs.refused("PutChunk", request, ES) == ("INVALID_ARGUMENT", "INVALID_INPUT")


def test_a_method_of_the_other_port_is_not_there(stubs: Stubs) -> None:
    envelope = envelope_pb2.Envelope()
    request = delivery_pb2.DeliverRequest(envelope=envelope, lane=3)
    assert stubs.refused("Deliver", request, ES)[0] in ("INVALID_ARGUMENT", "UNAUTHENTICATED")


# --- records --------------------------------------------------------------------------------------

_TEXT = (
    st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=30)
    .map(plain)
    .filter(bool)
)
"""As texts are kept: what is not plain yet is made so at the door (tests/client/test_inert.py)."""
_FLAG = st.none() | st.booleans()


def _digest(width: int) -> st.SearchStrategy[bytes | None]:
    return st.none() | st.binary(min_size=width, max_size=width)


_RECORDS = st.builds(
    Record,
    number=st.integers(1, 2**40),
    md5=_digest(16),
    sha1=_digest(20),
    sha256=_digest(32),
    pdq=_digest(32),
    pdq_quality=st.none() | st.integers(0, 100),
    photodna=_digest(144),
    size=st.none() | st.integers(0, 2**63),
    media_type=st.none() | _TEXT,
    votes=st.lists(st.builds(Vote, _TEXT, _TEXT), max_size=3).map(tuple),
    series=st.none() | _TEXT,
    references=st.lists(st.tuples(_TEXT, _TEXT), max_size=3).map(tuple),
    victim_identified=_FLAG,
    offender_identified=_FLAG,
    distributed=_FLAG,
    submissions=st.none() | st.integers(0, 2**40),
    baseline=_FLAG,
    entire=st.booleans(),
    deleted=st.booleans(),
)


@given(_RECORDS)
def test_a_record_crosses_the_operator_port_unchanged(record: Record) -> None:
    sent = to_wire(record).SerializeToString()
    assert record_in(pb.ItemRecord.FromString(sent)) == record


@given(st.integers(1, 60).filter(lambda n: n not in (16, 20, 32)), st.sampled_from(["md5", "sha1"]))
def test_a_digest_of_another_width_is_none(width: int, kind: str) -> None:
    message = pb.ItemRecord(number=3)
    setattr(message, kind, bytes(width))
    with pytest.raises(TielineError, match="record 3"):
        partial(record_in, message)()
