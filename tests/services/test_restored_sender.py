"""A sender that was restored waits for the same words as before, and knows who was not told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2
from tieline_server.services.alarms import Alarms
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring

from tests.services.bench import ANA, CASE, ES, FBI, HUB, PT, PURPOSE, Bench, Running, records
from tests.services.test_standing_service import contact
from tests.services.test_told_again import _Denying


@pytest.fixture
def pair(bench: Bench) -> Bench:
    for agency in (PT, ES):
        assert bench[agency]
    return bench


def _restored(bench: Bench, image: object) -> Running:
    bench.set_back(ES, image)  # type: ignore[arg-type]
    es = bench.resync(ES)
    contact(es, PT)
    contact(bench[PT], ES)
    bench.flow()
    return es


def _raised(node: Running) -> list[str]:
    return sorted(one.kind.value for one in Alarms(node.node).raise_due())


def _states(node: Running) -> dict[str, str]:
    return {one.id: one.state for one in Mailbox(node.node).clock("")}


@pytest.mark.parametrize("acknowledged", [False, True])
def test_an_escalation_is_not_forgotten(pair: Bench, acknowledged: bool) -> None:
    es, pt = pair[ES], pair[PT]
    before = pair.image(ES)
    es.refer(es.series(records([1])), country="PT", urgency=1)
    pair.flow()
    if acknowledged:
        step = operator_pb2.StepReferralRequest(id=pt.inbox()[0].id, state="acknowledged")
        Referring(pt.node).step(ANA, step)
        pair.flow()
    es = _restored(pair, before)
    assert _raised(es) == []
    pair.now += timedelta(hours=2)
    assert _raised(es) == ([] if acknowledged else ["fallback", "unacknowledged"])


def test_what_was_told_again_with_more_urgency_stays_overtaken(pair: Bench) -> None:
    es = pair[ES]
    before = pair.image(ES)
    series = es.series(records([1]))
    es.refer(series, country="PT", urgency=3)
    pair.flow()
    es.refer(series, country="PT", urgency=1)
    pair.flow()
    kept = _states(es)
    assert sorted(kept.values()) == ["delivered", "withdrawn"]
    es = _restored(pair, before)
    assert _states(es) == kept == _states(pair[PT])


def test_who_refused_after_the_backup_was_not_told(pair: Bench) -> None:
    es, pt = pair[ES], pair[PT]
    es.refer(es.series(records([1])), country="PT")
    before = pair.image(ES)  # it waits
    pt.node.policy = _Denying(pt.node.policy)
    pair.flow()
    kept = _states(es)
    assert list(kept.values()) == ["refused"]
    es = _restored(pair, before)
    assert _states(es) == kept


def test_a_broadcast_that_was_refused_after_the_backup_is(bench: Bench) -> None:
    hub, es = bench[HUB], bench[ES]
    request = operator_pb2.BroadcastSeriesRequest(
        series=[hub.series(records([1]))], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    (sent,) = Broadcasting(hub.node).broadcast(ANA, request)
    before = bench.image(HUB)
    es.node.policy = _Denying(es.node.policy)
    for agency in (PT, FBI):
        assert bench[agency]
    bench.flow()
    kept = hub.store.read(lambda tx: tx.broadcasts.recipients(sent.id))
    assert (kept[ES], kept[PT]) == ("refused", "delivered")
    bench.set_back(HUB, before)
    hub = bench.resync(HUB)
    for agency in (PT, ES, FBI):
        contact(hub, agency)
    bench.flow()
    assert hub.store.read(lambda tx: tx.broadcasts.recipients(sent.id)) == kept
