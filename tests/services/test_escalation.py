"""Reminders, then the hub, then another agency: who is alarmed and told when, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.directory import Directory
from tieline_client.errors import StorageUnavailable
from tieline_server.services import falling_back
from tieline_server.services.alarms import Alarms
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, ES, FBI, FR, HUB, ICE, PT, Bench, Running, records

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def told(bench: Bench) -> Iterator[Bench]:
    """Both agencies of the US may be told; ES tells PT of a series, urgently."""
    members = tuple(
        one.model_copy(update={"agreement": "trial agreement"}) if one.agency == FBI else one
        for one in bench.directory.members
    )
    fields = {name: getattr(bench.directory, name) for name in Directory.model_fields}
    bench.directory = Directory(**(fields | {"members": members}))
    for agency in (ES, PT, HUB, FR):
        bench[agency]
    yield bench


def _raised(node: Running) -> list[str]:
    return [one.kind.value for one in Alarms(node.node).raise_due()]


def _step(node: Running, state: str, **more: object) -> None:
    request = operator_pb2.StepReferralRequest(id=node.inbox()[0].id, state=state, **more)  # type: ignore[arg-type]
    Referring(node.node).step(ANA, request)


def _falls_back(node: Running, **countries: str) -> None:
    targets = replace(node.node.defaults.targets, fallbacks=countries)
    node.node.defaults = replace(node.node.defaults, targets=targets)


def test_a_reminder_the_hub_then_the_fallback_agency(told: Bench) -> None:
    es, pt, hub, fr = told[ES], told[PT], told[HUB], told[FR]
    _falls_back(es, PT=FR)
    series = es.series(records(range(2)))
    es.refer(series, country="PT")
    told.flow()
    assert _raised(es) == _raised(pt) == []
    told.now += DAY  # acknowledging is due
    assert (_raised(pt), _raised(es)) == (["reminder"], [])
    assert len(pt.audit("alarm.reminder")) == 1
    told.now += DAY
    assert _raised(pt) == _raised(es) == ["unacknowledged"]
    told.flow()
    assert _raised(hub) == ["escalated"]
    assert fr.inbox() == []
    told.now += DAY
    assert (_raised(es), _raised(pt)) == (["fallback"], [])
    told.flow()
    (entry,) = fr.inbox()
    assert (entry.referral.country, entry.referral.urgency) == ("PT", 2)
    assert entry.referral.note.startswith(f"{PT} was told on 2026-03-01 12:00 UTC")
    assert fr.store.read(lambda tx: tx.items.count_of_series(series)) == 2
    assert es.audit("alarm.fallback")[0]["detail"]["told"] == [FR]  # type: ignore[index]
    assert len(es.audit("referral.sent")) == 2
    assert _raised(es) == []  # once
    states = {one.recipient: one.state for one in Mailbox(es.node).clock("")}
    assert states == {PT: "delivered", FR: "delivered"}


def test_the_countrys_other_agency_goes_before_the_configured_one(told: Bench) -> None:
    es, ice, fbi = told[ES], told[ICE], told[FBI]
    _falls_back(es, US=FR)
    es.refer(es.series(records([1])), agency=ICE, country="US", urgency=1)
    told.flow()
    told.now += 2 * HOUR
    assert sorted(_raised(es)) == ["fallback", "unacknowledged"]
    told.flow()
    (entry,) = fbi.inbox()
    assert entry.referral.urgency == 1
    assert told[FR].inbox() == []
    _step(fbi, "accepted")
    told.flow()
    assert {one.lead for one in Mailbox(ice.node).clock("")} == {FBI}


@pytest.mark.parametrize("state", ["acknowledged", "accepted", "declined"])
def test_a_word_ends_it(told: Bench, state: str) -> None:
    es, pt = told[ES], told[PT]
    _falls_back(es, PT=FR)
    es.refer(es.series(records([1])), country="PT")
    told.flow()
    _step(pt, state, text="x")
    told.flow()
    told.now += 20 * HOUR
    assert _raised(es) == _raised(pt) == []
    told.now += 3 * DAY
    assert _raised(es) == []
    assert _raised(pt) == (["reminder"] if state == "acknowledged" else [])
    told.now += 40 * DAY
    assert _raised(pt) == (["reminder"] if state == "accepted" else [])
    told.flow()
    assert told[FR].inbox() == []


def test_one_of_two_at_work_is_enough_and_a_country_that_stands_no_longer_waits_for_nobody(
    told: Bench,
) -> None:
    es, ice, fbi, fr = told[ES], told[ICE], told[FBI], told[FR]
    _falls_back(es, US=FR, PT=FR)
    es.refer(es.series(records([1])), country="US")
    other = es.series(records([2]), name="B")
    assess = operator_pb2.AssessSeriesRequest(series=other, country="PT", confidence=2, grounds="g")
    SeriesWork(es.node).assess(ANA, assess)
    es.refer(other)
    told.flow()
    _step(fbi, "accepted")
    assess.eliminate = True
    SeriesWork(es.node).assess(ANA, assess)
    told.flow()
    told.now += 4 * DAY
    raised = _raised(es)
    assert raised == ["unacknowledged", "fallback"]  # of ICE, and nobody is told
    assert es.audit("alarm.fallback")[0]["detail"]["told"] == []  # type: ignore[index]
    assert _raised(told[PT]) == []
    told.flow()
    assert fr.inbox() == [] and len(ice.inbox()) == 1


def test_nobody_is_told_against_policy_or_after_it_was_taken_back(told: Bench) -> None:
    from tieline_server.services.retracting import Retracting

    es = told[ES]
    _falls_back(es, PT="interpol", FR=PT)
    es.refer(es.series(records([1])), country="PT")  # a repository is no addressee of referrals
    gone = es.series(records([2]), name="B")
    es.refer(gone, country="FR")
    told.flow()
    withdraw = operator_pb2.RetractSeriesRequest(series=gone, kind="withdraw", reason="error")
    Retracting(es.node).retract(ANA, withdraw)
    told.flow()
    told.now += 4 * DAY
    assert sorted(_raised(es)) == ["fallback", "unacknowledged"]
    assert es.audit("alarm.fallback")[0]["detail"]["told"] == []  # type: ignore[index]
    told.flow()
    assert len(es.audit("referral.sent")) == 2


def test_a_fallback_that_fails_holds_up_no_other_alarm(
    told: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    es, fr = told[ES], told[FR]
    _falls_back(es, PT=FR)
    grows = es.series(records([1]), name="grows")
    es.refer(grows, country="PT")
    told.flow()
    told.now += timedelta(minutes=1)
    small = es.series(records([100]), name="small")
    es.refer(small, country="PT")
    told.flow()
    monkeypatch.setattr(limits, "ITEMS_PER_ATTACHMENT", 3)
    es.load(records(range(2, 9)), series="grows")  # too many to go at once
    told.now += 5 * DAY
    assert sorted(_raised(es)) == ["fallback", "fallback", "unacknowledged", "unacknowledged"]
    told.flow()
    assert [one.referral.series for one in fr.inbox()] == [small]
    passed = [one["detail"]["told"] for one in es.audit("alarm.fallback")]  # type: ignore[index]
    assert passed == [[], [FR]]
    assert _raised(es) == []


def test_alarms_are_announced_when_storage_fails_at_a_fallback_which_comes_again(
    told: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    es, fr = told[ES], told[FR]
    _falls_back(es, PT=FR)
    es.refer(es.series(records([1])), country="PT")
    told.flow()
    told.now += 5 * DAY

    def away(*_: object) -> None:
        raise StorageUnavailable("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(falling_back, "tell", away)
        assert _raised(es) == ["unacknowledged"]
    assert _raised(es) == ["fallback"]
    told.flow()
    assert len(fr.inbox()) == 1


def test_an_alarm_says_whom_it_told_itself(told: Bench) -> None:
    es, pt = told[ES], told[PT]
    es.refer(es.series(records([1])), country="PT", urgency=1)  # the hub is told after an hour
    pt.refer(pt.series(records([2])), country="ES", urgency=3)  # of which nobody tells the hub
    told.flow()
    told.now += 60 * DAY
    assert {"unacknowledged", "reminder"} <= set(_raised(es))
    entries = [*es.audit("alarm.unacknowledged"), *es.audit("alarm.reminder")]
    whom = [one["detail"]["told"] for one in entries]  # type: ignore[index]
    assert len(whom) > 1
    assert [one for one in whom if one] == [[HUB]]
