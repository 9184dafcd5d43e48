"""A series is told again to whom it did not reach, and where it is more urgent by now."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, timedelta
from itertools import permutations
from typing import Any

import pytest
from tieline.v1 import operator_pb2, series_work_pb2
from tieline_client.errors import InvalidInput
from tieline_server.domain.policy import Action, Decision
from tieline_server.domain.referral import Direction
from tieline_server.services.clock import ReferralClock
from tieline_server.services.inbox import Mailbox
from tieline_server.services.merging import Merging
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.uploading import Uploading
from tieline_server.services.views import find_series, series_view

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)

IMMEDIATE, URGENT, ROUTINE = 1, 2, 3


_TAKEN = (Action.BE_TOLD, Action.RECEIVE_BROADCAST, Action.ACCEPT_UPLOAD)


class _Denying:
    """Rules of an agency that takes nothing this week."""

    version = "0" * 64

    def __init__(self, rules: Any) -> None:
        self._rules = rules

    def decide(self, question: Any) -> Any:
        if question.action in _TAKEN:
            return Decision(False, (), (), "nothing this week")
        return self._rules.decide(question)

    def highest_disclosure(self, question: Any) -> Any:
        return self._rules.highest_disclosure(question)


def _assess(node: Running, series: str, **words: object) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series,
        grounds="sockets",
        confidence=3,
        **words,  # type: ignore[arg-type]
    )
    SeriesWork(node.node).assess(ANA, request)


def _likely(node: Running) -> str:
    series = node.series(records(range(2)))
    _assess(node, series, country="ES")
    return series


def _states(node: Running, series: str, direction: Direction) -> list[tuple[int, str]]:
    found = node.store.read(lambda tx: tx.referrals.find(direction, series))
    return sorted((int(one.urgency), one.state.value) for one in found)


# --- refused --------------------------------------------------------------------------------------


@pytest.fixture
def refused(bench: Bench) -> tuple[str, Callable[[], None]]:
    """A series that ES refused to be told, and what puts its rules right."""
    pt, es = bench[PT], bench[ES]
    rules = es.node.policy
    es.node.policy = _Denying(rules)
    series = _likely(pt)
    pt.refer(series, country="ES")
    bench.flow()
    assert es.inbox() == []

    def put_right() -> None:
        es.node.policy = rules

    return series, put_right


def test_a_referral_that_was_refused_says_so_and_its_country_is_untold(
    bench: Bench, refused: tuple[str, Callable[[], None]]
) -> None:
    pt, (series, _) = bench[PT], refused
    assert _states(pt, series, Direction.OUT) == [(URGENT, "refused")]
    assert [one.country for one in ReferralClock(pt.node).untold()] == ["ES"]
    view = pt.store.read(lambda tx: series_view(tx, find_series(tx, series)))
    assert list(view.untold_countries) == ["ES"]


def test_a_referral_that_was_refused_can_be_made_again(
    bench: Bench, refused: tuple[str, Callable[[], None]]
) -> None:
    pt, es, (series, put_right) = bench[PT], bench[ES], refused
    put_right()
    (view,) = pt.refer(series, country="ES")
    assert view.reason == ""
    bench.flow()
    assert [one.referral.series for one in es.inbox()] == [series]
    assert _states(pt, series, Direction.OUT) == [(URGENT, "delivered"), (URGENT, "refused")]
    assert ReferralClock(pt.node).untold() == []


def test_who_refused_a_referral_gets_no_correction_of_it(
    bench: Bench, refused: tuple[str, Callable[[], None]]
) -> None:
    pt, (series, _) = bench[PT], refused
    _assess(pt, series, country="ES", eliminate=True)
    assert pt.queued(ES) == []


def test_a_deposit_that_was_refused_can_be_made_again(bench: Bench) -> None:
    pt, interpol = bench[PT], bench[INTERPOL]
    series, rules = pt.series(records(range(3))), interpol.node.policy
    request = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    interpol.node.policy = _Denying(rules)
    (refused,) = Uploading(pt.node).upload(ANA, request)
    bench.flow()
    interpol.node.policy = rules
    (again,) = Uploading(pt.node).upload(ANA, request)
    assert (again.unchanged, again.items) == (False, 3)
    bench.flow()
    assert interpol.store.read(lambda tx: tx.items.count_of_series(series)) == 3
    (same,) = Uploading(pt.node).upload(ANA, request)
    assert (same.id, same.unchanged) == (again.id, True)
    assert {one.id: one.delivery for one in Uploading(pt.node).find()} == {
        refused.id: "refused",
        again.id: "delivered",
    }


# --- more urgent ----------------------------------------------------------------------------------


@pytest.mark.parametrize("urgency", [URGENT, ROUTINE])
def test_who_was_told_is_not_told_twice_and_the_answer_says_so(bench: Bench, urgency: int) -> None:
    pt, series = bench[PT], _likely(bench[PT])
    bench[ES]
    pt.refer(series, country="ES")
    bench.flow()
    (view,) = pt.refer(series, country="ES", urgency=urgency, case_ref="another")
    assert "told already on 2026-03-01 12:00 UTC, urgent, for victim-identification" in view.reason
    assert view.reason.endswith("nothing was sent now")
    assert pt.queued(ES) == []


@pytest.mark.parametrize("delivered", [True, False])
def test_a_referral_with_more_urgency_overtakes_the_earlier_one(
    bench: Bench, delivered: bool
) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES", urgency=ROUTINE)
    if delivered:
        bench.flow()
    bench.now += timedelta(hours=3)
    (view,) = pt.refer(series, country="ES", urgency=IMMEDIATE)
    assert (view.reason, view.urgency) == ("", IMMEDIATE)
    bench.flow()
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        states = _states(node, series, direction)
        assert states == [(IMMEDIATE, "delivered"), (ROUTINE, "withdrawn")]
    now = [one for one in es.inbox() if one.referral.state == "delivered"]
    assert [one.referral.urgency for one in now] == [IMMEDIATE]
    (ended,) = [one for one in Mailbox(pt.node).clock(series) if one.state == "withdrawn"]
    assert ended.since_time.ToDatetime(UTC) == bench.now
    alarms = es.store.read(lambda tx: tx.alarms.due(bench.now, 10))
    assert [(one.kind, one.referral) for one in alarms] == [("immediate", now[0].referral.id)]
    step = operator_pb2.StepReferralRequest(id=now[0].referral.id, state="accepted")
    Referring(es.node).step(ANA, step)
    bench.flow()
    assert _states(pt, series, Direction.OUT)[0] == (IMMEDIATE, "accepted")
    assert ReferralClock(pt.node).untold() == []


@pytest.mark.parametrize("order", list(permutations((IMMEDIATE, URGENT, ROUTINE))))
def test_in_whatever_order_they_come_the_most_urgent_stands(
    bench: Bench, order: tuple[int, ...]
) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    for urgency in order:
        pt.refer(series, country="ES", urgency=urgency)
        bench.now += timedelta(minutes=1)
    bench.flow()
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        states = _states(node, series, direction)
        assert states[0] == (IMMEDIATE, "delivered")
        assert {state for _, state in states[1:]} <= {"withdrawn"}


def test_another_country_or_agency_is_not_overtaken(bench: Bench) -> None:
    pt, series = bench[PT], _likely(bench[PT])
    assert bench[ES] and bench[FR]
    for agency in (ES, FR):
        pt.refer(series, agency=agency, urgency=ROUTINE)
    pt.refer(series, country="ES", urgency=IMMEDIATE)
    bench.flow()
    states = _states(pt, series, Direction.OUT)
    assert states == [(IMMEDIATE, "delivered"), (ROUTINE, "delivered"), (ROUTINE, "delivered")]


def test_what_was_ended_before_stays_as_it_ended(bench: Bench) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES", urgency=ROUTINE)
    bench.flow()
    (entry,) = es.inbox()
    decline = operator_pb2.StepReferralRequest(
        id=entry.referral.id, state="declined", text="not ours"
    )
    Referring(es.node).step(ANA, decline)
    bench.flow()
    pt.refer(series, country="ES", urgency=IMMEDIATE)
    bench.flow()
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        assert _states(node, series, direction) == [
            (IMMEDIATE, "delivered"),
            (ROUTINE, "declined"),
        ]


@pytest.mark.parametrize("state", ["declined", "accepted"])
def test_a_step_that_crosses_with_more_urgency_leaves_both_sides_with_one_view(
    bench: Bench, state: str
) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES", urgency=ROUTINE)
    bench.flow()
    bench.offline.add(PT)
    step = operator_pb2.StepReferralRequest(id=es.inbox()[0].id, state=state, text="x")
    Referring(es.node).step(ANA, step)
    bench.now += timedelta(hours=1)
    pt.refer(series, country="ES", urgency=IMMEDIATE)
    bench.flow()
    bench.offline.clear()
    es.ready(PT)
    bench.flow()
    ended = "declined" if state == "declined" else "withdrawn"
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        states = _states(node, series, direction)
        assert states == [(IMMEDIATE, "delivered"), (ROUTINE, ended)]


def test_what_was_refused_overtakes_nothing(bench: Bench) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES", urgency=ROUTINE)
    bench.flow()
    step = operator_pb2.StepReferralRequest(id=es.inbox()[0].id, state="accepted")
    Referring(es.node).step(ANA, step)
    bench.flow()
    es.node.policy = _Denying(es.node.policy)
    pt.refer(series, country="ES", urgency=IMMEDIATE)
    bench.flow()
    assert _states(es, series, Direction.IN) == [(ROUTINE, "accepted")]
    assert _states(pt, series, Direction.OUT) == [(IMMEDIATE, "refused"), (ROUTINE, "accepted")]


def test_the_log_of_both_sides_says_what_was_overtaken_by_what(bench: Bench) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    (first,) = pt.refer(series, country="ES", urgency=ROUTINE)
    bench.flow()
    (second,) = pt.refer(series, country="ES", urgency=IMMEDIATE, case_ref="2026-119")
    bench.flow()
    for node, peer in ((pt, ES), (es, PT)):
        (entry,) = node.audit("referral.overtaken")
        assert entry["subjects"] == [first.id, second.id, series]
        assert (entry["peer"], entry["case"], entry["person"]) == (peer, "2026-119", "ana")


@pytest.mark.parametrize(("country", "said"), [("ZZ", "no country has"), ("UK", "is GB")])
def test_a_country_that_there_is_not_is_told_by_nobody(
    bench: Bench, country: str, said: str
) -> None:
    pt, series = bench[PT], _likely(bench[PT])
    bench[ES]
    with pytest.raises(InvalidInput, match=said):
        pt.refer(series, country=country)
    with pytest.raises(InvalidInput, match=said):
        pt.refer(series, agency=ES, country=country)


# --- more items -----------------------------------------------------------------------------------


def _add(node: Running, series: str, numbers: range) -> None:
    """Import more of a series, an hour later, and be an hour further."""
    node.bench.now += timedelta(hours=1)
    node.load(records(numbers), series=node.store.read(lambda tx: find_series(tx, series)).name)
    node.bench.now += timedelta(hours=1)


def _shown(node: Running, series: str) -> operator_pb2.SeriesView:
    return SeriesWork(node.node).get(series)


def _items(node: Running, series: str) -> int:
    return node.store.read(lambda tx: tx.items.count_of_series(series))


@pytest.mark.parametrize("urgency", [IMMEDIATE, URGENT])
@pytest.mark.parametrize("state", ["referred", "delivered", "acknowledged"])
def test_what_came_since_a_referral_is_told_by_telling_again(
    bench: Bench, state: str, urgency: int
) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES", urgency=urgency)
    if state != "referred":
        bench.flow()
    if state == "acknowledged":
        (entry,) = es.inbox()
        step = operator_pb2.StepReferralRequest(id=entry.referral.id, state="acknowledged")
        Referring(es.node).step(ANA, step)
        bench.flow()
    assert list(_shown(pt, series).grown_since_told) == []
    _add(pt, series, range(2, 7))
    assert list(_shown(pt, series).grown_since_told) == [ES]
    (view,) = pt.refer(series, country="ES", urgency=urgency)
    assert view.reason == ""
    bench.flow()
    assert _items(es, series) == _items(pt, series) == 7
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        assert _states(node, series, direction) == [(urgency, "delivered"), (urgency, "withdrawn")]
    (ended,) = [one for one in Mailbox(pt.node).clock(series) if one.state == "withdrawn"]
    assert ended.since_time.ToDatetime(UTC) == bench.now
    assert list(_shown(pt, series).grown_since_told) == []
    (view,) = pt.refer(series, country="ES", urgency=urgency)
    assert view.reason.endswith("nothing was sent now")
    (view,) = pt.refer(series, agency=ES, urgency=urgency)
    assert view.reason.endswith("nothing was sent now")


def test_who_accepted_a_referral_keeps_it_when_more_items_come(bench: Bench) -> None:
    pt, es, series = bench[PT], bench[ES], _likely(bench[PT])
    pt.refer(series, country="ES")
    bench.flow()
    (entry,) = es.inbox()
    step = operator_pb2.StepReferralRequest(id=entry.referral.id, state="accepted")
    Referring(es.node).step(ANA, step)
    bench.flow()
    _add(pt, series, range(2, 7))
    pt.refer(series, country="ES")
    bench.flow()
    assert _items(es, series) == 7
    for node, direction in ((pt, Direction.OUT), (es, Direction.IN)):
        assert _states(node, series, direction) == [(URGENT, "accepted"), (URGENT, "delivered")]


def test_items_of_a_series_that_was_merged_into_it_are_told_by_telling_again(bench: Bench) -> None:
    pt, es, whole = bench[PT], bench[ES], _likely(bench[PT])
    part = pt.series(records(range(10, 15)), "Verde")
    pt.refer(whole, country="ES")
    bench.flow()
    bench.now += timedelta(hours=1)
    request = series_work_pb2.MergeSeriesRequest(series=whole, merged=part, text="one room")
    Merging(pt.node).merge(ANA, request)
    bench.now += timedelta(hours=1)
    assert list(_shown(pt, whole).grown_since_told) == [ES]
    (view,) = pt.refer(whole, country="ES")
    assert view.reason == ""
    bench.flow()
    assert _items(es, whole) == 7
    (view,) = pt.refer(whole, country="ES")
    assert view.reason.endswith("nothing was sent now")


def test_what_came_since_is_told_on_in_the_envelope_that_it_came_in(bench: Bench) -> None:
    """A recipient takes an envelope once, so whoever tells it on tells the new one as well."""
    pt, es, fr, series = bench[PT], bench[ES], bench[FR], _likely(bench[PT])
    pt.refer(series, country="ES")
    bench.flow()
    es.refer(series, agency=FR)
    bench.flow()
    assert _items(fr, series) == 2
    (view,) = es.refer(series, agency=FR)
    assert view.reason.endswith("nothing was sent now")
    _add(pt, series, range(2, 7))
    pt.refer(series, country="ES")
    bench.flow()
    (view,) = es.refer(series, agency=FR)
    assert view.reason == ""
    bench.flow()
    assert _items(fr, series) == 7
    assert _states(fr, series, Direction.IN) == [(URGENT, "delivered"), (URGENT, "delivered")]
