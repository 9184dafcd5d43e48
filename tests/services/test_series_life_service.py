"""Where a series stands: by hand and by what is done, with who and when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2, payload_pb2, series_work_pb2
from tieline_client.errors import InvalidInput, NotFound, WrongState
from tieline_server.domain.series import Origin, SeriesStatus
from tieline_server.services.notices import series_in
from tieline_server.services.referring import Referring
from tieline_server.services.series_life import SeriesLife
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, CASE, ES, PT, Bench, Running, records


def _move(node: Running, series: str, status: str, text: str = "") -> operator_pb2.SeriesView:
    request = series_work_pb2.SetSeriesStatusRequest(series=series, status=status, text=text)
    return SeriesLife(node.node).move(ANA, request)


def _history(node: Running, series: str) -> list[tuple[str, str, str, str]]:
    view = SeriesWork(node.node).get(series)
    return [(one.before, one.after, one.agency, one.person) for one in view.history]


def test_a_series_is_not_made_for_a_day_that_is_past(bench: Bench) -> None:
    """As an import and a narrowing are refused; it would be erased within the hour."""
    node, today = bench[PT], bench.now.date()
    request = operator_pb2.CreateSeriesRequest(name="Azul")
    for past in ("2020-01-01", today.isoformat()):
        request.handling.retain_until = past
        with pytest.raises(InvalidInput, match="the retention date is past; give a later"):
            SeriesWork(node.node).create(ANA, request)
    assert node.store.read(lambda tx: tx.series.find()) == []
    request.handling.retain_until = (today + timedelta(days=1)).isoformat()
    assert SeriesWork(node.node).create(ANA, request).notice.name == "Azul"


def test_a_life_by_hand_and_by_what_is_done_keeps_who_and_when(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    _move(es, series, "triaged")
    view = _move(es, series, "under_evaluation", "desk 3")
    assert (view.notice.stage, view.history[-1].text) == ("under_evaluation", "desk 3")
    assert view.history[-1].event_time.ToSeconds() == int(bench.now.timestamp())
    SeriesWork(es.node).assess(
        ANA,
        operator_pb2.AssessSeriesRequest(series=series, country="PT", confidence=2, grounds="x"),
    )
    es.refer(series)
    bench.flow()
    referral = pt.inbox()[0].id
    for state in ("acknowledged", "accepted"):
        Referring(pt.node).step(ANA, operator_pb2.StepReferralRequest(id=referral, state=state))
    found = payload_pb2.Outcome(identified=1)
    request = operator_pb2.StepReferralRequest(id=referral, state="outcome", outcome=found)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    _move(es, series, "closed")
    assert _history(es, series) == [
        ("new", "triaged", ES, "ana"),
        ("triaged", "under_evaluation", ES, "ana"),
        ("under_evaluation", "localised", ES, "ana"),
        ("localised", "referred", ES, "ana"),
        ("referred", "identified", PT, "ana"),
        ("identified", "closed", ES, "ana"),
    ]
    assert [one["detail"] for one in es.audit("series.status")][-1] == {
        "before": "identified",
        "after": "closed",
    }


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("referred", WrongState),
        ("withdrawn", WrongState),
        ("localised", WrongState),
        ("gone", InvalidInput),
    ],
)
def test_a_refused_step_leaves_no_trace(bench: Bench, status: str, error: type[Exception]) -> None:
    es = bench[ES]
    series = es.series(records(range(1)))
    with pytest.raises(error):
        _move(es, series, status)
    assert _history(es, series) == []
    assert es.audit("series.status") == []
    with pytest.raises(NotFound):
        _move(es, f"{ES}/none", "triaged")


def test_an_outcome_that_comes_late_opens_nothing_that_is_closed(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    es.refer(series, country="PT")
    bench.flow()
    referral = pt.inbox()[0].id
    Referring(pt.node).step(ANA, operator_pb2.StepReferralRequest(id=referral, state="accepted"))
    _move(es, series, "closed")
    found = payload_pb2.Outcome(identified=2)
    request = operator_pb2.StepReferralRequest(id=referral, state="outcome", outcome=found)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    notice = SeriesWork(es.node).get(series).notice
    assert (notice.status, notice.identified) == ("closed", 2)


def test_peers_that_know_no_evaluation_are_told_what_they_know(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    _move(es, series, "under_evaluation")
    notice = SeriesWork(es.node).get(series).notice
    assert (notice.status, notice.stage) == ("triaged", "under_evaluation")
    assert series_in(notice, Origin.REFERRAL, CASE).status is SeriesStatus.UNDER_EVALUATION
    notice.stage = "something of v1.9"
    assert series_in(notice, Origin.REFERRAL, CASE).status is SeriesStatus.TRIAGED
    es.refer(series, agency=PT)
    bench.flow()
    assert pt.inbox()[0].series.notice.stage == "under_evaluation"
