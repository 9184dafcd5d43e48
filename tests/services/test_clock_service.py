"""The clock between whole nodes: what is late by whose targets, what nobody was told, a report."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tieline.v1 import (
    operator_clock_pb2,
    operator_operations_pb2,
    operator_pb2,
    payload_pb2,
    series_work_pb2,
)
from tieline_client.errors import NotFound
from tieline_server.domain.referral import ReferralState, Urgency
from tieline_server.domain.targets import Targets
from tieline_server.services.clock import ReferralClock
from tieline_server.services.operations import OperationDesk
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_life import SeriesLife
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.telling_outside import TellingOutside

from tests.services.bench import ANA, CASE, ES, FR, HUB, PT, PURPOSE, Bench, Running, records

HOUR = timedelta(hours=1)


def _assess(node: Running, series: str, country: str, **more: object) -> None:
    fields: dict[str, object] = {"confidence": 2, "grounds": "plates"} | more
    request = operator_pb2.AssessSeriesRequest(series=series, country=country, **fields)  # type: ignore[arg-type]
    SeriesWork(node.node).assess(ANA, request)


def _step(node: Running, referral: str, state: str, **more: object) -> None:
    request = operator_pb2.StepReferralRequest(id=referral, state=state, **more)  # type: ignore[arg-type]
    Referring(node.node).step(ANA, request)


def _clock(node: Running) -> ReferralClock:
    return ReferralClock(node.node)


def test_each_side_goes_by_its_own_targets(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    steps = {ReferralState.DELIVERED: dict.fromkeys(Urgency, HOUR)}
    pt.node.defaults = replace(pt.node.defaults, targets=Targets(steps))
    es.refer(es.series(records([1])), country="PT")  # urgent: a day by default
    bench.flow()
    (ours,), (theirs,) = _clock(es).referrals(), _clock(pt).referrals()
    assert ours.next_step == theirs.next_step == "acknowledged"
    assert ours.due_time.ToDatetime() - ours.since_time.ToDatetime() == 24 * HOUR
    assert theirs.due_time.ToDatetime() - theirs.since_time.ToDatetime() == HOUR
    _step(pt, theirs.id, "declined", text="not ours")
    (done,) = _clock(pt).referrals()
    assert (done.next_step, done.HasField("due_time"), done.HasField("since_time")) == (
        *("", False, True),
    )


def test_what_is_likely_and_nobody_was_told(bench: Bench) -> None:
    es = bench[ES]
    bench[PT]
    series = es.series(records([1]))
    _assess(es, series, "PT")
    bench.now += HOUR
    _assess(es, series, "BR")
    _assess(es, series, "ES")  # our own: nobody need tell us
    later = es.series(records([2]), name="B")
    _assess(es, later, "FR")
    waiting = _clock(es).untold()
    assert (waiting[0].series, waiting[0].country) == (series, "PT")
    assert sorted((one.series, one.country) for one in waiting[1:]) == sorted(
        [(series, "BR"), (later, "FR")]
    )
    took = waiting[0].due_time.ToDatetime() - waiting[0].localise_time.ToDatetime()
    assert took == 24 * HOUR
    assert [one.country for one in _clock(es).untold("B")] == ["FR"]
    es.refer(series, country="PT")
    request = operator_clock_pb2.TellOutsideRequest(
        id=series, reference="r", country="BR", purpose=PURPOSE, case_ref=CASE
    )
    TellingOutside(es.node).tell(ANA, request)
    assert [one.series for one in _clock(es).untold()] == [later]


def test_a_series_may_be_identified_before_it_is_localised(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records([1]))
    identified = series_work_pb2.SetSeriesStatusRequest(series=series, status="identified")
    SeriesLife(es.node).move(ANA, identified)
    _assess(es, series, "PT")
    view = SeriesWork(es.node).get(series)
    assert (view.notice.status, list(view.likely_countries)) == ("identified", ["PT"])
    assert _clock(es).untold() == []  # nobody waits
    (told,) = es.refer(series)  # and it may be told all the same
    bench.flow()
    _step(pt, told.id, "accepted")
    bench.flow()
    assert SeriesWork(es.node).get(series).notice.status == "identified"
    assert _clock(es).report().sent.total.answered == 1


def test_the_report_counts_what_the_messages_say(bench: Bench) -> None:
    es, pt, hub = bench[ES], bench[PT], bench[HUB]
    one, two = es.series(records([1])), es.series(records([2]), name="B")
    for series in (one, two):
        _assess(es, series, "PT")
    _assess(es, two, "BR", confirmed=True)
    bench.now += HOUR
    es.refer(one, country="PT")
    es.refer(two, country="BR")
    bench.flow()
    bench.now += 2 * HOUR
    (at_hub,) = hub.inbox()
    (at_pt,) = pt.inbox()
    TellingOutside(hub.node).tell(
        ANA, operator_clock_pb2.TellOutsideRequest(id=at_hub.id, reference="I247-1")
    )
    _step(pt, at_pt.id, "acknowledged")
    bench.now += 3 * HOUR
    _step(pt, at_pt.id, "accepted")
    _step(pt, at_pt.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    bench.flow()
    report = _clock(es).report()
    lines = {line.country: line for line in report.sent.countries}
    assert list(lines) == ["BR", "PT"]
    assert (lines["BR"].told, lines["BR"].told_outside, lines["PT"].outcomes) == (1, 1, 1)
    took = {each.step: each.milliseconds / 3_600_000 for each in lines["PT"].medians}
    assert took == {
        "localised_to_referred": 1,
        "localised_to_told": 1,
        "referred_to_delivered": 0,
        "delivered_to_acknowledged": 2,
        "acknowledged_to_answered": 3,
        "answered_to_outcome": 0,
    }
    assert {each.step: each.milliseconds for each in lines["BR"].medians}[
        "localised_to_told"
    ] == 10_800_000
    assert (report.sent.total.referrals, report.received.total.referrals) == (2, 0)
    theirs = _clock(pt).report()
    assert (theirs.sent.total.referrals, theirs.received.total.outcomes) == (0, 1)
    only = _clock(es).report(["B"])
    assert [line.country for line in only.sent.countries] == ["BR"]
    assert list(only.sent.overdue) == []
    bench.now += timedelta(days=31)  # an outcome is waited for so long
    assert list(_clock(es).report().sent.overdue) == [at_hub.id]
    with pytest.raises(NotFound):
        _clock(es).report(["nothing"])


def test_an_answer_counts_as_seen_and_a_withdrawal_undoes_nothing(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = es.series(records([1]))
    made = operator_operations_pb2.CreateOperationRequest(
        name="T", begin_day="2026-03-01", end_day="2026-03-13", case_ref=CASE, participants=[ES]
    )
    OperationDesk(es.node).create(ANA, made)
    add = operator_operations_pb2.AddOperationSeriesRequest(operation="T", series=[series])
    OperationDesk(es.node).add_series(ANA, add)
    for country in ("PT", "FR"):
        es.refer(series, country=country)
    bench.flow()
    (at_pt,), (_at_fr,) = pt.inbox(), fr.inbox()
    _step(pt, at_pt.id, "accepted")  # without `ack`
    _step(pt, at_pt.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    bench.flow()

    def counted() -> tuple[int, ...]:
        line = _clock(es).report().sent.total
        return (line.referrals, line.told, line.acknowledged, line.answered, line.outcomes)

    figures = OperationDesk(es.node).report("T").figures
    assert (figures.told, figures.acknowledged, figures.identified) == (1, 1, 1)
    assert counted() == (2, 2, 1, 1, 1)
    bench.now += HOUR
    narrow = operator_pb2.RetractSeriesRequest(
        series=series, kind="narrow", limited=True, only=[HUB], reason="ordered"
    )
    Retracting(es.node).retract(ANA, narrow)
    es.refer(es.series(records([2]), name="B"), country="PT")  # taken back before it goes
    withdraw = operator_pb2.RetractSeriesRequest(series="B", kind="withdraw", reason="ordered")
    Retracting(es.node).retract(ANA, withdraw)
    bench.now += timedelta(days=365)
    assert counted() == (2, 2, 1, 1, 1)
    assert _clock(es).report().sent.total.overdue == 0


def test_the_report_of_an_operation_is_of_its_series(bench: Bench) -> None:
    es = bench[ES]
    bench[PT]
    one, two = es.series(records([1])), es.series(records([2]), name="B")
    for series in (one, two):
        es.refer(series, country="PT")
    work = OperationDesk(es.node)
    made = work.create(
        ANA,
        operator_operations_pb2.CreateOperationRequest(
            name="VIDTF",
            begin_day="2026-02-02",
            end_day="2026-03-13",
            case_ref=CASE,
            participants=[ES, PT],
        ),
    )
    add = operator_operations_pb2.AddOperationSeriesRequest(operation=made.id, series=["B"])
    work.add_series(ANA, add)
    for wanted in ("VIDTF", made.id):
        report = _clock(es).report(operation=wanted)
        assert (report.sent.total.referrals, report.sent.total.series) == (1, 1)
    assert _clock(es).report([one], "VIDTF").sent.total.referrals == 0
    with pytest.raises(NotFound, match="no operation"):
        _clock(es).report(operation="nothing")
