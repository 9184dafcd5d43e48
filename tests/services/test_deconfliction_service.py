"""Two agencies that work on the same series are both told at once, with one reference."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_links_pb2, operator_pb2, operator_requests_pb2
from tieline_server.services.alarms import Alarms
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.deciding import Requests
from tieline_server.services.proposing import Proposing
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting
from tieline_server.services.same_as import Linking

from tests.services.bench import ANA, CASE, ES, HUB, PT, PURPOSE, Bench, Running, records

DECONFLICTION = "deconfliction"


def _met(node: Running) -> list[operator_pb2.AlarmView]:
    alarms = Alarms(node.node)
    alarms.raise_due()
    return [one for one in alarms.open() if one.kind == DECONFLICTION]


def test_a_question_that_hits_tells_both_with_one_reference(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = pt.series(records(range(5)))
    ends, _ = es.ask(records(range(3)), PT, purpose=DECONFLICTION)
    (here,), (there,) = _met(pt), _met(es)
    assert here.referral == there.referral
    assert (here.sender, here.recipient, here.series) == (ES, PT, series)
    assert (there.sender, there.recipient, there.series) == (ES, PT, "")  # by default a hit
    (asked,) = pt.audit("query.answered")
    assert here.referral in asked["subjects"]  # type: ignore[operator]
    assert [one["subjects"] for one in pt.audit("alarm.deconfliction")] == [[here.referral, series]]
    # contacts follow once a person has released them
    request = operator_requests_pb2.DecideRequestRequest(id=ends[PT].request, approve=True)
    Requests(pt.node).decide(ANA, request)
    bench.flow()
    (released,) = Requests(es.node).get(ends[PT].request).series
    assert released.entry.contact_email == "duty@pt-pj.example"


def test_who_learns_references_is_told_which_series(bench: Bench) -> None:
    hub, pt = bench[HUB], bench[PT]
    series = pt.series(records(range(5)))
    ends, _ = hub.ask(records(range(3)), PT, purpose=DECONFLICTION)
    assert [one.series for one in _met(hub)] == [""]  # a hit
    pt.release(ends[PT].request)
    bench.now += timedelta(days=1)  # the next day's notice
    hub.ask(records(range(3)), PT, purpose=DECONFLICTION)
    (there,) = [one for one in _met(hub) if one.series]
    (here,) = [one for one in _met(pt) if one.referral == there.referral]
    assert here.series == there.series == series


@pytest.mark.parametrize(
    ("purpose", "numbers"), [(PURPOSE, range(3)), (DECONFLICTION, range(50, 53))]
)
def test_other_purposes_and_misses_tell_nobody(bench: Bench, purpose: str, numbers: range) -> None:
    es, pt = bench[ES], bench[PT]
    pt.series(records(range(5)))
    es.ask(records(numbers), PT, purpose=purpose)
    assert _met(pt) == _met(es) == []


def test_one_notice_a_day_and_case(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    pt.series(records(range(5)))
    for numbers in (range(3), range(4)):
        es.ask(records(numbers), PT, purpose=DECONFLICTION)
    assert len(_met(pt)) == len(_met(es)) == 1
    es.ask(records(range(5)), PT, purpose=DECONFLICTION, case_ref="2026-119")
    assert len(_met(pt)) == len(_met(es)) == 2
    bench.now += timedelta(days=1)
    es.ask(records(range(2)), PT, purpose=DECONFLICTION)
    assert len(_met(pt)) == len(_met(es)) == 3


def test_ours_to_a_broadcast_tells_the_owner_of_the_series_too(bench: Bench) -> None:
    es, hub, pt = bench[ES], bench[HUB], bench[PT]
    theirs = es.series(records(range(4)))
    ours = pt.series(records(range(4)), "Nosso")
    es.refer(theirs, agency=HUB)
    bench.flow()
    asked = operator_pb2.BroadcastSeriesRequest(
        series=[theirs], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    Broadcasting(hub.node).broadcast(ANA, asked)
    bench.flow()
    said = operator_pb2.AnswerBroadcastRequest(id=pt.inbox()[0].id, kind="ours", series=ours)
    Broadcasting(pt.node).answer(ANA, said)
    bench.flow()
    (here,), (there,), (between,) = _met(pt), _met(es), _met(hub)
    assert here.referral == there.referral
    assert (here.series, there.series, between.series) == (ours, theirs, theirs)
    (link,) = Linking(es.node).find()
    assert (link.own, link.other, link.state) == (theirs, ours, "pending")
    assert (link.theirs, link.contact.email) == ("confirmed", "duty@pt-pj.example")


def test_each_who_says_ours_to_a_broadcast_is_named_to_who_asked(bench: Bench) -> None:
    hub = bench[HUB]
    asked = hub.series(records(range(4)))
    ours = {agency: bench[agency].series(records(range(4)), "Nosso") for agency in (ES, PT)}
    wanted = operator_pb2.BroadcastSeriesRequest(
        series=[asked], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    Broadcasting(hub.node).broadcast(ANA, wanted)
    bench.flow()
    for agency, series in ours.items():
        node = bench[agency]
        said = operator_pb2.AnswerBroadcastRequest(
            id=node.inbox()[0].id, kind="ours", series=series
        )
        Broadcasting(node.node).answer(ANA, said)
    bench.flow()
    (broadcast,) = Broadcasting(hub.node).find()
    by_it = [one for one in _met(hub) if one.referral == broadcast.id]
    assert sorted(one.sender for one in by_it) == [ES, PT]


def test_a_word_that_two_are_one_tells_both(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    theirs = es.series(records(range(10)))
    ours = pt.series(records(range(10)), "Nosso")
    es.refer(theirs, agency=PT)
    bench.flow()
    pt.store.index.refresh(wait=True)
    Proposing(pt.node).look()
    assert _met(pt) == _met(es) == []  # nobody has looked at the proposal
    (link,) = Linking(pt.node).find()
    request = operator_links_pb2.AnswerSameAsRequest(
        id=link.id, confirm=True, purpose=DECONFLICTION, case_ref=CASE
    )
    Linking(pt.node).answer(ANA, request)
    bench.flow()
    (here,), (there,) = _met(pt), _met(es)
    assert here.referral == there.referral
    assert (here.series, there.series) == (ours, theirs)
    # a series that is taken back is no longer spoken of
    withdraw = operator_pb2.RetractSeriesRequest(series=theirs, kind="withdraw", reason="x")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    Purging(pt.node).run()
    assert Linking(pt.node).find() == []
