"""Operations at whole nodes: made, filled, evaluated; and what came of it, from the data."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_operations_pb2 as pb
from tieline.v1 import operator_pb2, payload_pb2, series_work_pb2
from tieline_client import limits
from tieline_client.errors import (
    InvalidInput,
    LimitExceeded,
    NotFound,
    UnknownAgency,
    WrongState,
)
from tieline_server.services.merging import Merging
from tieline_server.services.operations import OperationDesk
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    HUB,
    INTERPOL,
    PT,
    PURPOSE,
    START,
    Bench,
    Running,
    records,
)


def _new(node: Running, **changes: object) -> pb.OperationView:
    fields: dict[str, object] = {
        "name": "Taskforce 7",
        "begin_day": "2026-03-01",
        "end_day": "2026-03-12",
        "participants": [PT, ES],
        "case_ref": CASE,
    }
    request = pb.CreateOperationRequest(**fields | changes)  # type: ignore[arg-type]
    return OperationDesk(node.node).create(ANA, request)


def _add(node: Running, *series: str, to: str = "Taskforce 7") -> pb.AddOperationSeriesResponse:
    request = pb.AddOperationSeriesRequest(operation=to, series=series)
    return OperationDesk(node.node).add_series(ANA, request)


def _assign(node: Running, *series: str, **more: object) -> pb.AssignEvaluationResponse:
    fields: dict[str, object] = {"operation": "Taskforce 7", "agency": PT} | more
    request = pb.AssignEvaluationRequest(series=series, **fields)  # type: ignore[arg-type]
    return OperationDesk(node.node).assign(ANA, request)


def _show(node: Running, most: int = 0) -> pb.GetOperationResponse:
    return OperationDesk(node.node).get("Taskforce 7", most)


def _report(node: Running) -> pb.ReportOperationResponse:
    return OperationDesk(node.node).report("Taskforce 7")


def _assess(node: Running, series: str, country: str) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, confidence=3, grounds="a sign", confirmed=True
    )
    SeriesWork(node.node).assess(ANA, request)


def _step(node: Running, referral: str, state: str, **more: object) -> None:
    request = operator_pb2.StepReferralRequest(id=referral, state=state, **more)  # type: ignore[arg-type]
    Referring(node.node).step(ANA, request)


def test_figures_follow_the_work_from_the_first_series_to_an_outcome(bench: Bench) -> None:
    hub, pt, interpol = bench[HUB], bench[PT], bench[INTERPOL]
    _new(hub)
    first, second, third = (
        hub.series(records(range(n, n + 3)), name=f"S{n}") for n in (10, 20, 30)
    )
    assert _add(hub, first, "S20", third, first).added == 3
    assert _assign(hub, first, second, person="Ana Silva").changed == 2
    assert _assign(hub, first, person="Ana Silva").changed == 0
    assert {one.status for one in _show(hub).series} == {"under_evaluation", "new"}
    done = _assign(hub, first, person="Ana Silva", done=True, text="a ferry's livery")
    assert (done.changed, done.operation.evaluated, done.operation.series) == (1, 1, 3)
    bench.now += timedelta(hours=1)
    _assess(hub, first, "PT")
    bench.now += timedelta(seconds=6)
    hub.refer(first)
    bench.flow()
    figures = _report(hub).figures
    assert (figures.series, figures.triaged, figures.evaluated) == (3, 2, 1)
    assert (figures.localised, figures.told, figures.delivered, figures.acknowledged) == (
        1,
        1,
        1,
        0,
    )
    assert figures.median_millis == 6_000
    (entry,) = pt.inbox()
    _step(pt, entry.id, "acknowledged")
    _step(pt, entry.id, "accepted")
    bench.now += timedelta(days=20)  # long after the last day
    _step(pt, entry.id, "outcome", outcome=payload_pb2.Outcome(identified=2, tentative=1))
    upload = operator_pb2.UploadSeriesRequest(
        series=[first, third], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    Uploading(hub.node).upload(ANA, upload)
    bench.flow()
    (came,) = [one for one in Uploading(interpol.node).find() if one.series == third]
    Uploading(interpol.node).step(
        ANA, operator_pb2.StepUploadRequest(id=came.id, state="numbered", reference="R-1")
    )
    bench.flow()
    report = _report(hub)
    figures = report.figures
    assert (figures.acknowledged, figures.uploaded) == (1, 1)
    assert (figures.identified, figures.tentative) == (1, 1)
    assert (figures.victims_identified, figures.victims_tentative) == (2, 1)
    assert [(one.country, one.localised, one.told) for one in report.countries] == [("PT", 1, 1)]
    assert (report.days[0].day, report.days[0].localised) == ("2026-03-01", 1)
    assert (report.days[-1].day, report.days[-1].identified) == ("2026-03-21", 1)
    actions = {one["action"] for one in hub.audit()}
    assert {"operation.created", "operation.series_added", "operation.assigned"} <= actions
    (evaluated,) = hub.audit("operation.evaluated")
    assert evaluated["person"] == ANA.name and evaluated["case"] == CASE
    assert first in str(evaluated["subjects"])


def test_what_was_done_before_the_first_day_does_not_count(bench: Bench) -> None:
    pt = bench[PT]
    series = pt.series(records(range(3)))
    _assess(pt, series, "ES")
    _new(pt, begin_day="2026-03-02")
    _add(pt, series)
    bench.now += timedelta(days=2)
    figures = _report(pt).figures
    assert (figures.series, figures.triaged, figures.localised) == (1, 0, 0)
    assert not figures.HasField("median_millis")


def test_the_triage_list_knows_overlaps_clues_and_experts(bench: Bench) -> None:
    hub, es = bench[HUB], bench[ES]
    _new(hub)
    plain = hub.series(records(range(10, 13)), name="Plain")
    shared = hub.series(records(range(20, 23)), name="Shared")
    theirs = es.series(records(range(22, 25)), name="Theirs")
    es.refer(theirs, agency=HUB)
    bench.flow()
    _add(hub, plain, shared, theirs)
    _assign(hub, shared, agency=ES)
    found = _show(hub)
    assert [one.series for one in found.series[:2]] in ([shared, theirs], [shared, plain])
    first = found.series[0]
    whys = {part.name: part.why for part in first.parts}
    assert whys["overlaps"] == f"1 other agencies hold items of it ({ES})"
    assert [(one.agency, one.person) for one in first.evaluations] == [(ES, "")]
    names = {one.series: one.name for one in found.series}
    assert names == {plain: "Plain", shared: "Shared", theirs: ""}
    assert sum(one.points for one in found.weights) == 1_000
    assert [one.series for one in _show(hub, 1).series] == [shared]


def test_a_triage_list_stays_inside_one_message(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    pt = bench[PT]
    _new(pt)
    _add(pt, *(pt.series(records([n]), name=f"S{n}") for n in range(6)))
    whole = _show(pt)
    assert len(whole.series) == 6
    monkeypatch.setattr(limits, "TRIAGE_BYTES", whole.series[0].ByteSize() * 3)
    assert 2 <= len(_show(pt).series) <= 4
    monkeypatch.setattr(limits, "TRIAGE_SHOWN", 1)
    assert len(_show(pt).series) == 1 and _show(pt).operation.series == 6


def test_who_and_what_takes_part(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pt = bench[PT]
    series = pt.series(records(range(3)))
    for wrong, error in (
        ({"begin_day": "tomorrow"}, InvalidInput),
        ({"begin_day": "2026-04-01"}, InvalidInput),
        ({"name": " "}, InvalidInput),
        ({"participants": []}, InvalidInput),
        ({"participants": ["xx-none"]}, UnknownAgency),
    ):
        with pytest.raises(error):
            _new(pt, **wrong)
    with pytest.raises(NotFound, match="operation list"):
        _show(pt)
    _new(pt)
    with pytest.raises(WrongState, match="another name"):
        _new(pt)
    other = pt.series(records(range(5, 8)), name="Roxo")
    with pytest.raises(NotFound):
        _add(pt, series, "Nothing")
    assert _show(pt).operation.series == 0, "all or none"
    with pytest.raises(InvalidInput):
        _add(pt)
    _add(pt, series)
    with pytest.raises(InvalidInput, match="takes no part"):
        _assign(pt, series, agency=FR)
    with pytest.raises(WrongState, match="add it first"):
        _assign(pt, series, other)
    assert not _show(pt).series[0].evaluations, "all or none"
    with pytest.raises(NotFound, match="assign it first"):
        _assign(pt, series, done=True)
    with pytest.raises(InvalidInput, match="--done"):
        _assign(pt, series, text="seen")
    _assign(pt, series, person="eva")
    assert _assign(pt, series, person="eva", done=True, text="one").changed == 1
    assert _assign(pt, series, person="eva", done=True, text="two").changed == 0
    assert _show(pt).series[0].evaluations[0].text == "one", "the first word stands"
    monkeypatch.setattr(limits, "OPERATION_SERIES", 1)
    with pytest.raises(LimitExceeded):
        _add(pt, other)
    assert [one.name for one in OperationDesk(pt.node).find().operations] == ["Taskforce 7"]


def test_a_withdrawn_series_leaves_every_operation(bench: Bench) -> None:
    hub, es = bench[HUB], bench[ES]
    _new(hub)
    theirs = es.series(records(range(3)), name="Theirs")
    own = hub.series(records(range(5, 8)), name="Own")
    es.refer(theirs, agency=HUB)
    bench.flow()
    _add(hub, theirs, own)
    _assign(hub, theirs, person="eva")
    request = operator_pb2.RetractSeriesRequest(series=theirs, kind="withdraw", reason="wrong")
    Retracting(es.node).retract(ANA, request)
    bench.flow()
    with pytest.raises((WrongState, NotFound)):
        _assign(hub, theirs, done=True, person="eva")
    Purging(hub.node).run()
    assert [one.series for one in _show(hub).series] == [own]
    assert _report(hub).figures.series == 1
    mine = operator_pb2.RetractSeriesRequest(series=own, kind="withdraw", reason="wrong")
    Retracting(hub.node).retract(ANA, mine)
    with pytest.raises(WrongState):
        _add(hub, own)


def test_two_series_that_become_one_count_once(bench: Bench) -> None:
    pt = bench[PT]
    _new(pt)
    kept, part = (pt.series(records(range(n, n + 3)), name=f"S{n}") for n in (0, 10))
    _add(pt, kept, part)
    _assign(pt, part)
    _assign(pt, part, done=True)
    _assess(pt, part, "ES")
    pt.refer(part)
    bench[ES]
    bench.flow()
    merge = series_work_pb2.MergeSeriesRequest(series=kept, merged=part, text="one room")
    Merging(pt.node).merge(ANA, merge)
    (shown,) = _show(pt).series
    assert shown.series == kept and len(shown.evaluations) == 1
    figures = _report(pt).figures
    assert (figures.series, figures.evaluated, figures.delivered) == (1, 1, 1)
    assert bench.now == START
