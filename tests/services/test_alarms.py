"""Immediate referrals: who is alarmed when, on both sides and at the hub, and what ends it."""

from __future__ import annotations

from datetime import timedelta

from tieline.v1 import operator_pb2, series_pb2
from tieline_client import limits
from tieline_server.delivery.alarm_clock import AlarmClock
from tieline_server.domain.referral import ReferralState
from tieline_server.services.alarms import Alarms
from tieline_server.services.referring import Referring

from tests.services.bench import ANA, ES, HUB, PT, Bench, Running, records, wait_for

HOUR = limits.ESCALATE_AFTER


def _tell(bench: Bench, urgency: int = 1) -> str:
    """ES tells PT of a series; return the referral's id."""
    es, _ = bench[ES], bench[PT]
    (view,) = es.refer(es.series(records([1])), country="PT", urgency=urgency)
    return view.id


def _open(node: Running) -> list[tuple[str, str]]:
    return [(one.kind, one.referral) for one in Alarms(node.node).open()]


def _escalations(node: Running, referral: str) -> int:
    steps = node.store.read(lambda tx: tx.referrals.steps(referral))
    return sum(one.state is ReferralState.ESCALATED for one in steps)


def _acknowledge(node: Running, referral: str) -> None:
    request = operator_pb2.StepReferralRequest(id=referral, state="acknowledged")
    Referring(node.node).step(ANA, request)


def test_an_immediate_referral_alarms_who_gets_it_and_a_persons_word_ends_it(bench: Bench) -> None:
    referral = _tell(bench)
    bench.flow()
    es, pt = bench[ES], bench[PT]
    assert [one.kind.value for one in Alarms(pt.node).raise_due()] == ["immediate"]
    assert _open(pt) == [("immediate", referral)]
    (entry,) = pt.audit("alarm.immediate")
    assert entry["subjects"][0] == referral and entry["peer"] == ES  # type: ignore[index]
    assert Alarms(pt.node).raise_due() == ()
    assert Alarms(es.node).raise_due() == ()
    _acknowledge(pt, referral)
    bench.flow()
    bench.now += 2 * HOUR
    for node in (es, pt):
        assert Alarms(node.node).raise_due() == ()
        assert _open(node) == []
        assert _escalations(node, referral) == 0


def test_routine_and_urgent_referrals_alarm_nobody(bench: Bench) -> None:
    for urgency in (2, 3):
        referral = _tell(bench, urgency)
        bench.flow()
        bench.now += 2 * HOUR
        for agency in (ES, PT):
            assert Alarms(bench[agency].node).raise_due() == ()
            assert _escalations(bench[agency], referral) == 0


def test_what_nobody_acknowledges_is_escalated_on_both_sides_and_at_the_hub(bench: Bench) -> None:
    hub = bench[HUB]
    referral = _tell(bench)
    bench.flow()
    es, pt = bench[ES], bench[PT]
    Alarms(pt.node).raise_due()
    bench.now += HOUR - timedelta(seconds=1)
    assert not Alarms(es.node).raise_due() and not Alarms(pt.node).raise_due()
    bench.now += timedelta(seconds=1)
    for node in (es, pt):
        assert [one.kind.value for one in Alarms(node.node).raise_due()] == ["unacknowledged"]
        assert _escalations(node, referral) == 1
        assert len(node.audit("alarm.unacknowledged")) == 1
        state = node.store.read(lambda tx: tx.referrals.get(referral)).state  # type: ignore[union-attr]
        assert state is ReferralState.DELIVERED
        assert not Alarms(node.node).raise_due()
    assert _open(pt) == [("unacknowledged", referral), ("immediate", referral)]
    (told,) = es.audit("alarm.unacknowledged")
    assert told["detail"]["told"] == [HUB]  # type: ignore[index]
    bench.flow()
    assert [one.kind.value for one in Alarms(hub.node).raise_due()] == ["escalated"]
    assert _open(hub) == [("escalated", referral)]
    assert hub.audit("alarm.escalated")[0]["peer"] == PT
    _acknowledge(pt, referral)
    bench.flow()
    assert _open(pt) == _open(es) == []
    bench.now += limits.ALARM_SHOWN
    assert _open(hub) == []


def test_a_referral_that_never_arrived_is_escalated_by_its_sender(bench: Bench) -> None:
    bench.offline.add(PT)
    referral = _tell(bench)
    bench.now += HOUR
    assert [one.kind.value for one in Alarms(bench[ES].node).raise_due()] == ["unacknowledged"]
    assert _escalations(bench[ES], referral) == 1


def test_the_hub_hears_nothing_of_what_is_not_for_it(bench: Bench) -> None:
    es, hub = bench[ES], bench[HUB]
    bench[PT]
    from tieline_server.services.series_work import SeriesWork

    made = operator_pb2.CreateSeriesRequest(
        name="H3", case_ref="c", handling=series_pb2.Handling(code=2, tlp=5)
    )
    series = SeriesWork(es.node).create(ANA, made).notice.id
    es.node.policy = _NotTheHub(es.node.policy)  # type: ignore[assignment]
    (view,) = es.refer(series, agency=PT, urgency=1)
    bench.now += HOUR
    (alarm,) = Alarms(es.node).raise_due()
    assert alarm.referral == view.id
    assert es.audit("alarm.unacknowledged")[0]["detail"]["told"] == []  # type: ignore[index]
    assert not es.queued(HUB)
    assert hub.audit("alarm.escalated") == []


class _NotTheHub:
    """Rules under which the hub is told nothing."""

    def __init__(self, rules: object) -> None:
        self._rules = rules

    def __getattr__(self, name: str) -> object:
        return getattr(self._rules, name)

    def decide(self, question: object) -> object:
        from tieline_server.domain.policy import Decision

        if question.asker.agency == HUB:  # type: ignore[attr-defined]
            return Decision(False, (), (), "not for the hub")
        return self._rules.decide(question)  # type: ignore[attr-defined]


def test_immediate_referrals_that_wait_stand_above_the_rest(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    first = _tell(bench)
    bench.flow()
    bench.now += timedelta(minutes=1)
    (later,) = es.refer(es.series(records([2]), name="B"), country="PT", urgency=3)
    bench.flow()
    assert [one.id for one in pt.inbox()] == [first, later.id]
    _acknowledge(pt, first)
    assert [one.id for one in pt.inbox()] == [later.id, first]


def test_the_clock_raises_what_became_due_before_it_started(bench: Bench, tmp_path: object) -> None:
    referral = _tell(bench)
    bench.flow()
    pt = bench[PT]
    bench.now += HOUR
    left = tmp_path / "alarms"  # type: ignore[operator]
    command = ("/bin/sh", "-c", f'echo "$1 $2" >> {left}', "alarm")
    clock = AlarmClock(pt.node, command)
    clock.start()
    try:
        wanted = {f"immediate {referral}", f"unacknowledged {referral}"}
        wait_for(
            "the command ran for both",
            lambda: left.exists() and set(left.read_text().splitlines()) == wanted,
        )
    finally:
        clock.stop()
    assert len(pt.audit("alarm.immediate")) == len(pt.audit("alarm.unacknowledged")) == 1
