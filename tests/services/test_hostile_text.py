"""Text that a person or a peer states, with what nobody can see in it: kept plain everywhere.

Found rather than listed: every free text of every request on the operator port, by reflection, one
after another; what came of it is delivered to peers; then every text in all databases is looked at.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from tieline.v1 import constraints_pb2, digests_pb2, series_pb2, series_work_pb2
from tieline.v1 import operator_clock_pb2 as telling
from tieline.v1 import operator_clues_pb2 as clues
from tieline.v1 import operator_deposits_pb2 as deposits
from tieline.v1 import operator_imports_pb2 as imports
from tieline.v1 import operator_links_pb2 as links
from tieline.v1 import operator_operations_pb2 as operations
from tieline.v1 import operator_pb2 as pb
from tieline.v1 import operator_requests_pb2 as asking
from tieline.v1 import operator_watches_pb2 as watching
from tieline_client.digests import DigestKind, pack
from tieline_client.errors import TielineError
from tieline_client.identifiers import new_id
from tieline_client.inert import plain
from tieline_client.payloads import timestamp
from tieline_server.rpc.call import CallContext, Caller
from tieline_server.rpc.operator import OperatorServicer
from tieline_server.services.clues import ClueDesk
from tieline_server.services.operations import OperationDesk
from tieline_server.services.proposing import Proposing
from tieline_server.services.same_as import Linking
from tieline_server.services.tips import TipDesk
from tieline_server.services.watch_runs import WatchRuns

from tests.rpc.descriptors import services
from tests.services.bench import (
    ANA,
    CASE,
    ES,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)

FREE = 200
"""Fields that may hold so many characters are free text."""
HOSTILE = "A\u202egnp\u2066\u200b\ufeff e\u0301\u2028 =1+1 <b> [x] pay\u200dpal"
(OPERATORS,) = (one for one in services() if one.name == "OperatorService")
ROLES = frozenset({"analyst", "officer", "auditor", "admin"})


def _free(descriptor: Descriptor, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the ways to the free texts of a message."""
    for field in descriptor.fields:
        here = (*path, field.name)
        if field.message_type is not None and len(path) < 2:
            yield from _free(field.message_type, here)
        elif field.type == FieldDescriptor.TYPE_STRING:
            cap = field.GetOptions().Extensions[constraints_pb2.cap]
            if cap.max_length >= FREE:
                yield here


def _set(message: Any, path: tuple[str, ...], text: str) -> bool:
    """Put text behind what stands there; False where a list on the way is empty."""
    *way, last = path
    for name in way:
        message = getattr(message, name)
        if hasattr(message, "add"):
            if not len(message):
                return False
            message = message[0]
    value = getattr(message, last)
    if isinstance(value, str):
        setattr(message, last, value + text)
    else:
        value[:] = [*value, text] if not value else [one + text for one in value]
    return True


class Desk:
    """The operator port of a node, without gRPC."""

    def __init__(self, running: Running) -> None:
        self.running = running
        self.servicer = OperatorServicer(
            running.node,
            cast(Any, None),
            cast(Any, SimpleNamespace(access=None, run_watches=WatchRuns(running.node).run)),
        )
        caller = Caller(running.agency, "ana", ROLES, 1, bytes(32))
        self.context = CallContext(cast(Any, None), caller, time.monotonic() + 600)

    def call(self, method: str, request: Any) -> Any:
        """Call, and take all of a streamed answer; a typed refusal is an answer, too."""
        with contextlib.suppress(TielineError):
            answer = getattr(self.servicer, method)(request, self.context)
            if isinstance(answer, Message):
                return answer
            return list(answer)
        return None


def _link(bench: Bench, number: int) -> str:
    """Two series of two agencies that share nearly all: what the node proposes of them."""
    shared = records(range(30_000 + 20 * number, 30_010 + 20 * number))
    bench[ES].refer(bench[ES].series(shared, f"T{number}"), agency=PT)
    bench.flow()
    pt = bench[PT]
    ours = pt.series(shared, f"O{number}")
    pt.store.index.refresh(wait=True)
    Proposing(pt.node).look()
    (link,) = Linking(pt.node).find(ours)
    return link.id


def _sha1(*numbers: int) -> bytes:
    return pack(DigestKind.SHA1, [record(n).sha1 or b"" for n in numbers])


def _question() -> pb.AskHeader:
    digest = hashlib.sha256(_sha1(1)).digest()
    return pb.AskHeader(
        purpose=PURPOSE, case_ref=CASE, peers=[ES], records=1, counts=[0, 1], list_digest=digest
    )


HANDLING = series_pb2.Handling(code=3, restriction="words")
WHY: dict[str, Any] = {"purpose": PURPOSE, "case_ref": CASE}
BATCH = digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=_sha1(1))
CONTACT = series_pb2.DutyContact(name="n", email="e@x.example")


def _import(number: int) -> list[pb.ImportRequest]:
    header = pb.ImportHeader(
        source="f", format="list", case_ref=CASE, handling=HANDLING, file_digest=number.to_bytes(32)
    )
    item = pb.ItemRecord(
        number=1,
        sha1=_sha1(90_000 + number),
        schemes=["vics-us"],
        codes=["1"],
        series=f"R{number}",
        media_type="image/x",
        reference_schemes=["icse"],
        reference_values=["1"],
    )
    return [
        pb.ImportRequest(header=header),
        pb.ImportRequest(records=pb.RecordBatch(records=[item])),
        pb.ImportRequest(finish=pb.ImportFinish(records=1)),
    ]


def _series(running: Running, number: int) -> str:
    return running.series(records([number * 3, number * 3 + 1]), name=f"S{number}")


def _referral(bench: Bench, number: int) -> str:
    """The id of a referral that came in at PT."""
    (view,) = bench[ES].refer(_series(bench[ES], 10_000 + number), country="PT")
    bench.flow()
    return view.id


def _clue(running: Running, number: int) -> str:
    made = clues.AddClueRequest(series=_series(running, number), text="a bag")
    return ClueDesk(running.node).add(ANA, made).id


def _tip(running: Running, number: int) -> str:
    clue = _clue(running, number)
    TipDesk(running.node).add(ANA, [clues.NewTip(clue=clue, text="seen there")])
    request = clues.ListTipsRequest(clue=clue)
    return TipDesk(running.node).find(ANA, request).tips[0].id


def _operation(running: Running, number: int) -> str:
    request = operations.CreateOperationRequest(
        name=f"O{number}", begin_day="2026-03-01", end_day="2026-03-02", participants=[ES]
    )
    return OperationDesk(running.node).create(ANA, request).id


def _request(bench: Bench, method: str, number: int) -> Any:
    """What a method may be asked, about a series of its own; a stream as a list."""
    pt = bench[PT]
    match method:
        case "Import":
            return _import(number)
        case "AskOverlap":
            return [pb.AskOverlapRequest(header=_question()), pb.AskOverlapRequest(batch=BATCH)]
        case "AskBrief":
            return pb.AskBriefRequest(header=_question(), lists=[BATCH])
        case "CompareCollection":
            return pb.CompareCollectionRequest(peers=[ES], purpose=PURPOSE, case_ref=CASE)
        case "GetSeries":
            return pb.GetSeriesRequest(series=_series(pt, number))
        case "CreateSeries":
            icse = series_pb2.ExternalReference(scheme="icse", value="7")
            return pb.CreateSeriesRequest(
                name=f"N{number}", case_ref=CASE, handling=HANDLING, references=[icse], clues="c",
                contact=CONTACT,
            )  # fmt: skip
        case "AssessSeries":
            series = _series(pt, number)
            return pb.AssessSeriesRequest(series=series, country="ES", confidence=1, grounds="g")
        case "RemoveImport":
            made = pt.load(records([number * 3]))
            return imports.RemoveImportRequest(id=made.import_id, reason="r")
        case "RetractSeries":
            return pb.RetractSeriesRequest(
                series=_series(pt, number), reason="r", kind="narrowed", code=3, restriction="w"
            )
        case "ReferSeries":
            series = _series(pt, number)
            return pb.ReferSeriesRequest(series=series, country="ES", urgency=2, note="n", **WHY)
        case "StepReferral":
            referral = _referral(bench, number)
            return pb.StepReferralRequest(id=referral, state="declined", text="t")
        case "AnswerBroadcast":
            return pb.AnswerBroadcastRequest(id=_referral(bench, number), text="t")
        case "ListClock":
            return pb.ListClockRequest(series=_series(pt, number))
        case "GetClockReport":
            return telling.GetClockReportRequest(series=[_series(pt, number)], operation="o")
        case "TellOutside":
            series = _series(pt, number)
            return telling.TellOutsideRequest(id=series, reference="r", country="BR", **WHY)
        case "BroadcastSeries":
            series = _series(bench[HUB], number)
            return pb.BroadcastSeriesRequest(series=[series], group="desks", question="q", **WHY)
        case "UploadSeries":
            series = _series(pt, number)
            return pb.UploadSeriesRequest(series=[series], repository=INTERPOL, **WHY)
        case "AddClue":
            return clues.AddClueRequest(series=_series(pt, number), text="t")
        case "PublishClue":
            clue = _clue(pt, number)
            return clues.PublishClueRequest(clue=clue, text="t", purpose=PURPOSE, case_ref=CASE)
        case "ListClues":
            return clues.ListCluesRequest(series=_series(pt, number))
        case "AddTips":
            one = clues.NewTip(clue=_clue(pt, number), text="t", contact="c", source="s")
            return clues.AddTipsRequest(tips=[one])
        case "JudgeTip":
            return clues.JudgeTipRequest(tip=_tip(pt, number), state="dismissed", reason="r")
        case "RelayTips":
            return clues.RelayTipsRequest(tips=[_tip(pt, number)], agency=ES, **WHY)
        case "CreateOperation":
            return operations.CreateOperationRequest(
                name=f"N{number}", begin_day="2026-03-01", end_day="2026-03-02", participants=[ES],
                case_ref=CASE,
            )  # fmt: skip
        case "AddOperationSeries":
            return operations.AddOperationSeriesRequest(
                operation=_operation(pt, number), series=[_series(pt, number)]
            )
        case "AssignEvaluation":
            known, series = _operation(pt, number), _series(pt, number)
            adding = operations.AddOperationSeriesRequest(operation=known, series=[series])
            OperationDesk(pt.node).add_series(ANA, adding)
            task = operations.AssignEvaluationRequest(operation=known, series=[series], agency=ES)
            OperationDesk(pt.node).assign(ANA, task)
            task.done, task.text = True, "t"
            return task
        case "GetOperation":
            return operations.GetOperationRequest(operation=_operation(pt, number))
        case "ReportOperation":
            return operations.ReportOperationRequest(operation=_operation(pt, number))
        case "ListSameAs":
            return links.ListSameAsRequest(series=_series(pt, number))
        case "AnswerSameAs":
            return links.AnswerSameAsRequest(id=_link(bench, number), confirm=True, **WHY)
        case "AddNote":
            series = _series(pt, number)
            pt.refer(series, agency=ES)
            return links.AddNoteRequest(series=series, text="t", **WHY)
        case "SetSeriesStatus":
            series = _series(pt, number)
            return series_work_pb2.SetSeriesStatusRequest(series=series, status="triaged", text="t")
        case "ExportSeries":
            series = _series(pt, number)
            return pb.ExportSeriesRequest(series=[series], format="csv", file="f.csv", **WHY)
        case "MergeSeries":
            whole, part = _series(pt, number), _series(pt, 20_000 + number)
            return series_work_pb2.MergeSeriesRequest(series=whole, merged=part, text="t")
        case "SplitSeries":
            column = digests_pb2.DigestColumn(list=BATCH, items=[0])
            chunk = digests_pb2.ItemChunk(items=1, columns=[column])
            series = _series(pt, number)
            return series_work_pb2.SplitSeriesRequest(
                series=series, name=f"n{number}", text="t", items=[chunk]
            )
        case "ReconcileDeposits":
            return deposits.ReconcileDepositsRequest(repository=INTERPOL, **WHY)
        case "RecordDrop":
            dropped = deposits.DroppedSeries(series=_series(pt, number), records=2)
            return deposits.RecordDropRequest(
                repository=INTERPOL, drop=f"drop-{number}", series=[dropped], **WHY
            )
        case "AddWatch":
            until = timestamp(bench.now + timedelta(days=9))
            header = watching.WatchHeader(
                name="n", reference="r", records=1, counts=[0, 1], until_time=until,
                list_digest=hashlib.sha256(_sha1(1)).digest(),
                contact=watching.WatchContact(organization="o", name="n", email="e", title="t"),
                purpose=PURPOSE, case_ref=CASE,
            )  # fmt: skip
            column = digests_pb2.DigestColumn(list=BATCH, items=[0])
            return [
                watching.AddWatchRequest(header=header),
                watching.AddWatchRequest(column=column),
            ]
        case "AskPermission":
            return asking.AskPermissionRequest(
                series=_series(pt, number), action="pass-on", agencies=[ES], note="n", **WHY
            )
        case "StateVitalInterests":
            return asking.StateVitalInterestsRequest(agency=ES, grounds="g", **WHY)
        case "DecideRequest":
            return asking.DecideRequestRequest(id=new_id(), series=["s"], reason="r")
        case "StepUpload":
            return pb.StepUploadRequest(state="numbered", reference="r")
    raise AssertionError(f"{method} takes free text: ask it here")


NOT_BY_HAND = {("Import", "columns"), ("Import", "finish")}
"""The same texts as records, in columns; reasons of records that were left out are not kept."""
CASES = [
    (method.name, path)
    for method in OPERATORS.methods
    for path in _free(method.input_type)
    if (method.name, path[0]) not in NOT_BY_HAND
]


def _texts(path: Any) -> Iterator[tuple[str, str]]:
    """Yield every text of a database: where it stands, and what it says."""
    with closing(sqlite3.connect(path)) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            names = [row[1] for row in database.execute(f'PRAGMA table_info("{table}")')]
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for name, value in zip(names, row, strict=True):
                    if isinstance(value, str):
                        yield f"{table}.{name}", value


def test_nothing_that_nobody_can_see_is_kept_here_or_at_a_peer(bench: Bench) -> None:
    desks = {agency: Desk(bench[agency]) for agency in (PT, ES, HUB, INTERPOL)}
    assert len(CASES) > 25
    taken = 0
    for number, (method, path) in enumerate(CASES, 1):
        request = _request(bench, method, number)
        if isinstance(request, list):
            assert any(_set(one, path, HOSTILE) for one in request if one.HasField(path[0])), path
            request = iter(request)
        else:
            assert _set(request, path, HOSTILE), path
        for desk in (desks[PT], desks[HUB]) if method == "BroadcastSeries" else (desks[PT],):
            taken += desk.call(method, request) is not None
    bench.flow()
    assert taken > len(CASES) // 2
    seen = 0
    for agency in desks:
        for where, text in _texts(bench[agency].path):
            assert text.strip() == plain(text), f"{agency} {where}: {text!r}"
            seen += "=1+1 <b> [x] paypal" in text
    assert seen > 20
