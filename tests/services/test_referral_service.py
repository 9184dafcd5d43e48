"""Referrals between whole nodes: who is told, what both sides see, and what a step needs."""

from __future__ import annotations

import pytest
from tieline.v1 import operator_pb2, payload_pb2, series_pb2
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, TielineError, WrongState
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    FR,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)


def _assess(node: Running, series: str, country: str, **more: object) -> operator_pb2.SeriesView:
    fields: dict[str, object] = {"confidence": 2, "grounds": "plates"} | more
    request = operator_pb2.AssessSeriesRequest(series=series, country=country, **fields)  # type: ignore[arg-type]
    return SeriesWork(node.node).assess(ANA, request)


def _step(node: Running, referral: str, state: str, **more: object) -> operator_pb2.InboxEntry:
    request = operator_pb2.StepReferralRequest(id=referral, state=state, **more)  # type: ignore[arg-type]
    return Referring(node.node).step(ANA, request)


def _clock(node: Running, series: str = "") -> list[operator_pb2.ReferralView]:
    return Mailbox(node.node).clock(series)


def test_a_series_reaches_the_country_with_items_and_restrictions(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(7)))
    _assess(es, series, "PT", confidence=3)
    (view,) = es.refer(series, note="call us")
    assert (view.recipient, view.country, view.state) == (PT, "PT", "referred")
    bench.flow()
    (entry,) = pt.inbox()
    assert entry.referral.note == "call us"
    assert (entry.referral.purpose, entry.referral.case_ref) == (PURPOSE, CASE)
    notice = entry.series.notice
    assert (notice.id, notice.name, notice.items) == (series, "", 7)
    assert (notice.handling.code, notice.handling.tlp, notice.handling.information) == (0, 3, 4)
    assert notice.contact.name == f"desk {ES}"
    assert [one.country for one in notice.assessments] == ["PT"]
    assert pt.store.read(lambda tx: tx.items.count_of_series(series)) == 7
    assert _clock(es)[0].state == "delivered"


def test_what_was_only_referred_is_no_answer_for_peers(bench: Bench) -> None:
    es, pt, hub = bench[ES], bench[PT], bench[HUB]
    series = es.series(records(range(3)))
    es.refer(series, agency=PT)
    bench.flow()
    assert pt.store.read(lambda tx: tx.items.count_of_series(series)) == 3
    _, overlaps = hub.ask(records(range(3)), PT)
    assert overlaps == {}


def test_steps_travel_back_and_the_outcome_counts_at_both_ends(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(2)))
    es.refer(series, country="PT")
    bench.flow()
    referral = pt.inbox()[0].id
    for state, more in (
        ("acknowledged", {}),
        ("accepted", {}),
        ("outcome", {"outcome": payload_pb2.Outcome(identified=2, safeguarded=1), "text": "home"}),
    ):
        assert _step(pt, referral, state, **more).referral.state == state
        bench.flow()
        assert _clock(es)[0].state == state
    states = [step.state for step in _clock(es)[0].steps]
    assert states == ["delivered", "acknowledged", "accepted", "outcome"]
    for node in (es, pt):
        notice = SeriesWork(node.node).get(series).notice
        assert (notice.identified, notice.status) == (2, "identified")
    assert len(pt.audit("referral.outcome")) == len(es.audit("referral_step.received")) - 2 == 1


def test_two_agencies_of_one_country_are_both_told(bench: Bench) -> None:
    es = bench[ES]
    bench[FBI], bench[ICE]
    series = es.series(records(range(2)))
    views = es.refer(series, country="US")
    # FBI has no agreement in this directory: it is named with the reason, ICE is told.
    assert {view.recipient: bool(view.reason) for view in views} == {FBI: True, ICE: False}
    assert "agreement" in next(view.reason for view in views if view.recipient == FBI)


def test_a_country_that_no_member_serves_goes_to_the_hub_with_that_said(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    (view,) = es.refer(es.series(records(range(2))), country="BR")
    assert (view.recipient, view.country) == (HUB, "BR")
    bench.flow()
    assert "No member of the federation serves BR" in hub.inbox()[0].referral.note


def test_telling_again_tells_nobody_twice(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(2)))
    (first,), (second,) = es.refer(series, country="PT"), es.refer(series, country="PT")
    assert first.id == second.id
    assert len(es.queued(PT)) == 1


def test_a_referral_waits_for_a_node_that_is_away(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    bench.offline.add(PT)
    es.refer(es.series(records(range(2))), country="PT")
    bench.flow()
    assert pt.inbox() == []
    bench.offline.clear()
    es.engine.heard_from(PT)
    bench.flow()
    assert len(pt.inbox()) == 1


def test_passing_on_keeps_the_first_senders_signature_and_tells_it(bench: Bench) -> None:
    es, pt, hub = bench[ES], bench[PT], bench[HUB]
    series = es.series(records(range(4)))
    es.refer(series, country="BR")
    bench.flow()
    _step(hub, hub.inbox()[0].id, "passed_on", passed_to=PT)
    bench.flow()
    (entry,) = pt.inbox()
    assert (entry.referral.sender, entry.series.owner) == (HUB, ES)
    assert pt.store.read(lambda tx: tx.items.count_of_series(series)) == 4
    _step(pt, entry.id, "accepted")
    bench.flow()
    assert _clock(hub)[-1].state == "passed_on"
    first = _clock(es)[0]
    assert first.state == "passed_on"
    assert any(f"{PT}: accepted" in step.text for step in first.steps)
    _step(pt, entry.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    bench.flow()
    assert _clock(es)[0].state == "outcome"


@pytest.mark.parametrize(
    ("state", "more", "words"),
    [
        ("declined", {}, "--reason"),
        ("passed_on", {}, "--to"),
        ("accepted", {"passed_to": HUB}, "--to"),
        ("passed_on", {"passed_to": ES}, "has this referral already"),
        ("passed_on", {"passed_to": PT}, "has this referral already"),
        ("passed_on", {"passed_to": "xx-no"}, "not in the directory"),
        ("outcome", {}, "cannot become"),
        ("withdrawn", {}, "sender"),
        ("delivered", {}, "sender"),
        ("done", {}, "no step"),
    ],
)
def test_a_step_that_cannot_be_taken(
    bench: Bench, state: str, more: dict[str, object], words: str
) -> None:
    es, pt = bench[ES], bench[PT]
    es.refer(es.series(records(range(1))), country="PT")
    bench.flow()
    referral = pt.inbox()[0].id
    with pytest.raises(TielineError, match=words):
        _step(pt, referral, state, **more)
    assert pt.inbox()[0].referral.state == "delivered"
    assert pt.queued(ES) == []


def test_steps_need_a_referral_that_came_in(bench: Bench) -> None:
    es = bench[ES]
    (view,) = es.refer(es.series(records(range(1))), country="PT")
    for referral in (view.id, "nothing"):
        with pytest.raises(NotFound, match="came in"):
            _step(es, referral, "accepted")


def test_h2_is_told_and_not_passed_on(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    handling = series_pb2.Handling(code=2, tlp=3, source="A", information=1)
    (series,) = es.load(records(range(2)), series="Azul", handling=handling).series
    es.refer(series, country="PT")
    bench.flow()
    with pytest.raises(PolicyRefused, match="H2"):
        _step(pt, pt.inbox()[0].id, "passed_on", passed_to=HUB)
    assert pt.queued(HUB) == []


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"agency": ES}, InvalidInput),
        ({"agency": "xx-no"}, NotFound),
        ({"agency": INTERPOL}, PolicyRefused),
        ({"country": "ES"}, InvalidInput),
        ({"country": "pt"}, InvalidInput),
        ({"country": "PT", "urgency": 9}, InvalidInput),
        ({"country": "PT", "purpose": "prosecution"}, PolicyRefused),
        ({"country": "PT", "case_ref": ""}, InvalidInput),
        ({}, InvalidInput),
    ],
)
def test_a_referral_that_cannot_be_made(
    bench: Bench, request_: dict[str, object], error: type[TielineError]
) -> None:
    es = bench[ES]
    series = es.series(records(range(1)))
    with pytest.raises(error):
        es.refer(series, **request_)
    assert _clock(es) == []
    assert es.store.read(lambda tx: tx.outbox.find()) == []


def test_an_assessment_needs_grounds_and_sense(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(1)))
    for more in ({"grounds": "  "}, {"confidence": 4}, {"confirmed": True, "eliminate": True}):
        with pytest.raises(InvalidInput):
            _assess(es, series, "PT", **more)
    assert _assess(es, series, "PT").notice.status == "localised"
    assert _assess(es, series, "PT", eliminate=True).likely_countries == []
    with pytest.raises(InvalidInput, match="no likely country stands"):
        es.refer(series)


def test_series_names_are_the_own_agencys_and_stand_once(bench: Bench) -> None:
    work = SeriesWork(bench[ES].node)
    made = work.create(ANA, operator_pb2.CreateSeriesRequest(name=" Verde ", case_ref=CASE))
    assert (made.notice.name, made.origin) == ("Verde", "own")
    assert work.get("Verde").notice.id == made.notice.id
    with pytest.raises(WrongState, match="choose another"):
        work.create(ANA, operator_pb2.CreateSeriesRequest(name="Verde"))
    with pytest.raises(InvalidInput, match="needs a name"):
        work.create(ANA, operator_pb2.CreateSeriesRequest(name=" "))


def test_a_withdrawn_series_is_not_referred(bench: Bench) -> None:
    from tieline_server.domain.series import SeriesStatus

    es = bench[ES]
    series = es.series([record(1)])
    es.store.write(lambda tx: tx.series.set_status(series, SeriesStatus.WITHDRAWN))
    with pytest.raises(InvalidInput, match="withdrawn"):
        es.refer(series, country="PT")


def test_a_referral_goes_through_several_hands_and_the_owner_hears_of_all(bench: Bench) -> None:
    es, hub, pt, fr = bench[ES], bench[HUB], bench[PT], bench[FR]
    series = es.series(records(range(3)))
    es.refer(series, agency=HUB)
    bench.flow()
    _step(hub, hub.inbox()[0].id, "passed_on", passed_to=PT)
    bench.flow()
    _step(pt, pt.inbox()[0].id, "passed_on", passed_to=FR)
    bench.flow()
    (entry,) = fr.inbox()
    assert (entry.referral.sender, entry.series.owner) == (PT, ES)
    assert entry.series.notice.contact.name == f"desk {ES}"
    _step(fr, entry.id, "acknowledged")
    _step(fr, entry.id, "accepted")
    _step(fr, entry.id, "outcome", outcome=payload_pb2.Outcome(identified=1))
    bench.flow()
    first = _clock(es)[0]
    assert first.state == "outcome"
    assert {(step.agency, step.passed_to) for step in first.steps if step.passed_to} == {
        (HUB, PT),
        (PT, FR),
    }
    assert SeriesWork(es.node).get(series).notice.identified == 1
