"""The hub asks a group, the group answers: who is asked, what is shown, what an answer does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2, series_pb2
from tieline_client import limits
from tieline_client.errors import (
    InvalidInput,
    NotFound,
    PolicyRefused,
    RoleRefused,
    TielineError,
    WrongState,
)
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FBI,
    HUB,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
)


def _broadcast(node: Running, series: str, **changes: object) -> operator_pb2.BroadcastView:
    fields: dict[str, object] = {
        "series": [series],
        "group": "desks",
        "purpose": PURPOSE,
        "case_ref": CASE,
    } | changes
    request = operator_pb2.BroadcastSeriesRequest(**fields)  # type: ignore[arg-type]
    return Broadcasting(node.node).broadcast(ANA, request)[0]


def _answer(node: Running, broadcast: str, kind: str, **more: object) -> operator_pb2.InboxEntry:
    request = operator_pb2.AnswerBroadcastRequest(id=broadcast, kind=kind, **more)  # type: ignore[arg-type]
    return Broadcasting(node.node).answer(ANA, request)


def test_a_referred_series_is_asked_about_in_its_owners_name(bench: Bench) -> None:
    es, hub, pt = bench[ES], bench[HUB], bench[PT]
    series = es.series(records(range(4)))
    es.refer(series, agency=HUB)
    bench.flow()
    sent = _broadcast(hub, series)
    # Neither the owner nor the hub itself is asked; us-fbi has no agreement.
    assert dict(sent.recipients) == {PT: "queued"}
    bench.flow()
    (entry,) = pt.inbox()
    assert (entry.broadcast.sender, entry.broadcast.originator) == (HUB, ES)
    assert entry.broadcast.question == "Who can place this?"
    assert entry.series.notice.items == 4
    Broadcasting(pt.node).acknowledge(ANA, entry.id)
    with pytest.raises(TielineError, match="already"):
        Broadcasting(pt.node).acknowledge(ANA, entry.id)
    _answer(pt, entry.id, "assess", country="PT", confidence=3, text="tiles")
    bench.flow()
    (shown,) = Broadcasting(hub.node).find()
    assert dict(shown.recipients) == {PT: "answered"}
    assert [(one.kind, one.country) for one in shown.answers] == [("assess", "PT")]
    notice = SeriesWork(hub.node).get(series).notice
    assert [(one.agency, one.country, one.grounds) for one in notice.assessments] == [
        (PT, "PT", "tiles")
    ]


def test_an_elimination_takes_a_country_out_and_ours_names_a_series(bench: Bench) -> None:
    hub, pt, es = bench[HUB], bench[PT], bench[ES]
    series = hub.series(records(range(2)))
    _broadcast(hub, series, question="Whose tiles?")
    bench.flow()
    broadcast = pt.inbox()[0].id
    assert pt.inbox()[0].broadcast.question == "Whose tiles?"
    _answer(pt, broadcast, "eliminate", country="PT")
    ours = es.series(records(range(2)), name="Nosso")
    _answer(es, es.inbox()[0].id, "ours", series=ours)
    bench.flow()
    (shown,) = Broadcasting(hub.node).find()
    assert {one.kind: one.country or one.series for one in shown.answers} == {
        "eliminate": "PT",
        "ours": ours,
    }
    assert not SeriesWork(hub.node).get(series).likely_countries


def test_the_same_again_within_the_hour_is_sent_only_when_it_is_meant(bench: Bench) -> None:
    hub = bench[HUB]
    assert bench[PT] and bench[ES]
    series, other = (hub.series(records(range(n, n + 2)), name=str(n)) for n in (0, 5))
    first = _broadcast(hub, series)
    bench.now += limits.BROADCAST_REPEATED - timedelta(seconds=1)
    with pytest.raises(WrongState, match=f"{first.id}.*say --again"):
        _broadcast(hub, series)
    with pytest.raises(WrongState):  # and none of several is sent
        Broadcasting(hub.node).broadcast(
            ANA,
            operator_pb2.BroadcastSeriesRequest(
                series=[other, series], group="desks", purpose=PURPOSE, case_ref=CASE
            ),
        )
    assert len(Broadcasting(hub.node).find()) == 1
    _broadcast(hub, series, question="Whose tiles?")
    _broadcast(hub, series, again=True)
    _broadcast(hub, other)
    bench.now += timedelta(hours=2)
    _broadcast(hub, series)
    assert len(Broadcasting(hub.node).find()) == 5


def test_at_the_hub_a_broadcast_is_as_far_as_its_slowest_recipient(bench: Bench) -> None:
    hub, pt, es = bench[HUB], bench[PT], bench[ES]
    series = hub.series(records(range(2)))
    assert _broadcast(hub, series).state == "queued"

    def state() -> str:
        (shown,) = Broadcasting(hub.node).find()
        return shown.state

    bench.flow()
    assert state() == "delivered"
    for number, node in enumerate((pt, es)):
        _answer(node, node.inbox()[0].id, "assess", country="PT", confidence=3, text="tiles")
        bench.flow()
        assert state() == ("delivered", "answered")[number]


def test_what_the_hub_may_not_learn_is_not_said_to_be_ours(bench: Bench) -> None:
    hub, es = bench[HUB], bench[ES]
    _broadcast(hub, hub.series(records(range(2))), question="Whose tiles?")
    bench.flow()
    broadcast = es.inbox()[0].id
    red = series_pb2.Handling(code=0, tlp=5, source="A", information=1)
    restricted = es.load(records(range(2)), series="Nosso", handling=red).series[0]
    narrowed = es.series(records(range(5, 7)), name="Estreito")
    withdrawn = es.series(records(range(8, 9)), name="Retirado")
    for series, request in (
        (narrowed, {"kind": "narrow", "limited": True, "only": [PT]}),
        (withdrawn, {"kind": "withdraw"}),
    ):
        taken = operator_pb2.RetractSeriesRequest(series=series, reason="court", **request)
        Retracting(es.node).retract(ANA, taken)
    for series, error in (
        (restricted, PolicyRefused),
        (narrowed, PolicyRefused),
        (withdrawn, WrongState),
    ):
        with pytest.raises(error):
            _answer(es, broadcast, "ours", series=series)
    bench.flow()
    (shown,) = Broadcasting(hub.node).find()
    assert not shown.answers
    assert es.audit("broadcast.ours") == []


def test_ours_is_logged_with_its_rules_and_taken_back_from_the_hub(bench: Bench) -> None:
    hub, es, pt = bench[HUB], bench[ES], bench[PT]
    asked = es.series(records(range(2)))
    es.refer(asked, agency=HUB)
    bench.flow()
    _broadcast(hub, asked)
    bench.flow()
    ours = pt.series(records(range(2)), name="Nosso")
    _answer(pt, pt.inbox()[0].id, "ours", series=ours)
    bench.flow()
    (logged,) = pt.audit("broadcast.ours")
    assert ours in logged["subjects"] and logged["rules"]  # type: ignore[operator]
    taken = operator_pb2.RetractSeriesRequest(series=ours, kind="withdraw", reason="court")
    Retracting(pt.node).retract(ANA, taken)
    bench.flow()
    (logged,) = pt.audit("series.withdrawn")
    assert logged["detail"]["told"] == [ES, HUB]  # type: ignore[index]


def test_somebody_elses_series_is_not_ours(bench: Bench) -> None:
    hub, pt, es = bench[HUB], bench[PT], bench[ES]
    theirs = es.series(records(range(2)))
    es.refer(theirs, agency=PT)
    _broadcast(hub, hub.series(records(range(2)), name="B"))
    bench.flow()
    broadcast = next(one.id for one in pt.inbox() if one.kind == "broadcast")
    with pytest.raises(InvalidInput, match="own"):
        _answer(pt, broadcast, "ours", series=theirs)


def test_only_a_hub_asks_a_group_that_exists_about_what_may_spread(bench: Bench) -> None:
    hub, es = bench[HUB], bench[ES]
    bench[PT], bench[FBI]
    series = hub.series(records(range(2)))
    with pytest.raises(RoleRefused, match="hub"):
        _broadcast(es, es.series(records(range(2))))
    with pytest.raises(NotFound, match="desks"):
        _broadcast(hub, series, group="desk")
    with pytest.raises(NotFound):
        _broadcast(hub, "Roxo")
    with pytest.raises(PolicyRefused):
        _broadcast(hub, series, purpose="deconfliction")
    handling = series_pb2.Handling(code=2, tlp=3, source="A", information=1)
    (strict,) = hub.load(records(range(9, 11)), series="Strict", handling=handling).series
    with pytest.raises(PolicyRefused, match="H2"):
        _broadcast(hub, strict)
    assert not Broadcasting(hub.node).find()
