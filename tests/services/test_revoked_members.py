"""A member that is revoked holds up nobody's work with others: it is left out, and that is said."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from tieline.v1 import operator_links_pb2, operator_pb2
from tieline_client.directory import Directory
from tieline_client.errors import PolicyRefused
from tieline_server.services.alarms import Alarms
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.inbox import Mailbox
from tieline_server.services.notes import NoteDesk
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
    records,
)
from tests.services.test_upload_numbers import deposit, step

WHY: dict[str, Any] = {"purpose": PURPOSE, "case_ref": CASE}


def _change(bench: Bench, agency: str, **changes: Any) -> None:
    members = tuple(
        one.model_copy(update=changes) if one.agency == agency else one
        for one in bench.directory.members
    )
    fields = {name: getattr(bench.directory, name) for name in Directory.model_fields}
    bench.directory = Directory(**(fields | {"members": members}))


def _revoke(bench: Bench, agency: str) -> None:
    _change(bench, agency, revoked=True)


def _assess(node: Running, series: str, country: str, **more: Any) -> operator_pb2.SeriesView:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, confidence=2, grounds="plates", **more
    )
    return SeriesWork(node.node).assess(ANA, request)


def test_an_assessment_is_kept_and_corrects_the_others(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ES] and bench[FR]
    series = pt.series(records(range(3)))
    _assess(pt, series, "ES")
    _assess(pt, series, "FR")
    assert {one.recipient for one in pt.refer(series)} == {ES, FR}
    bench.flow()
    _revoke(bench, ES)
    assert list(_assess(pt, series, "BR", confirmed=True).likely_countries) == ["BR"]
    assert [entry["peer"] for entry in pt.audit("referral.corrected")] == [FR]
    bench.flow()
    assert [one.corrected for one in Mailbox(bench[FR].node).clock("")] == [True]


def test_people_of_a_revoked_agency_work_on_and_nothing_goes_out(bench: Bench) -> None:
    pt, fr = bench[PT], bench[FR]
    series = pt.series(records(range(3)))
    _assess(pt, series, "FR")
    assert {one.recipient for one in pt.refer(series)} == {FR}
    bench.flow()
    _revoke(bench, PT)
    assert list(_assess(pt, series, "BR", confirmed=True).likely_countries) == ["BR"]
    assert pt.audit("referral.corrected") == []
    assert pt.series(records(range(9, 12)), name="B")
    ends, _ = pt.ask(records(range(3)), FR)
    assert ends[FR].status == "refused" and f"{PT} is revoked itself" in ends[FR].reason
    assert len(fr.inbox()) == 1
    with pytest.raises(PolicyRefused, match="revoked"):
        pt.refer(series, agency=FR)


def test_a_correction_from_elsewhere_is_taken(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    assert bench[FR]
    series = pt.series(records(range(3)))
    _assess(pt, series, "ES")
    pt.refer(series)
    bench.flow()
    passed = operator_pb2.StepReferralRequest(id=es.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(es.node).step(ANA, passed)
    bench.flow()
    _revoke(bench, FR)
    _assess(pt, series, "BR", confirmed=True)
    bench.flow()
    assert len(es.audit("referral_correction.received")) == 1
    assert es.inbox()[0].series.notice.assessments[-1].country == "BR"


def test_who_leads_is_told_to_the_others(bench: Bench) -> None:
    _change(bench, FBI, agreement="trial agreement")
    es = bench[ES]
    assert bench[ICE] and bench[FBI]
    es.refer(es.series(records(range(3))), country="US")
    bench.flow()
    _revoke(bench, ICE)
    taken = operator_pb2.StepReferralRequest(id=bench[FBI].inbox()[0].id, state="accepted")
    Referring(bench[FBI].node).step(ANA, taken)
    bench.flow()
    states = {one.recipient: one.state for one in Mailbox(es.node).clock("")}
    assert states == {ICE: "delivered", FBI: "accepted"}
    assert {entry["peer"] for entry in es.audit("referral.lead")} == {FBI}


def test_a_repository_numbers_what_is_left(bench: Bench) -> None:
    series = bench[PT].series(records(range(3)))
    upload = deposit(bench, series)
    _revoke(bench, PT)
    assert step(bench, upload).state == "numbered"
    assert bench[INTERPOL].audit("deposit.reported") == []


def test_a_broadcast_reaches_the_rest_of_its_group(bench: Bench) -> None:
    hub = bench[HUB]
    assert bench[PT] and bench[ES]
    series = hub.series(records(range(3)))
    _revoke(bench, ES)
    request = operator_pb2.BroadcastSeriesRequest(series=[series], group="desks", **WHY)
    Broadcasting(hub.node).broadcast(ANA, request)
    bench.flow()
    assert [entry.broadcast.series for entry in bench[PT].inbox()] == [series]
    assert bench[ES].inbox() == []


def test_a_question_that_names_it_is_answered_by_the_others(bench: Bench) -> None:
    bench[ES].load(records(range(3)))
    assert bench[FR]
    _revoke(bench, FR)
    ends, found = bench[PT].ask(records(range(3)), ES, FR)
    assert {agency: end.status for agency, end in ends.items()} == {ES: "answered", FR: "refused"}
    assert "revoked" in ends[FR].reason
    assert len(found[ES]) == 3


def test_what_is_late_escalates_and_notes_go_on(bench: Bench) -> None:
    pt = bench[PT]
    assert bench[ES] and bench[FR] and bench[HUB]
    series = pt.series(records(range(3)))
    for agency in (ES, FR):
        pt.refer(series, agency=agency)
    bench.flow()
    _revoke(bench, ES)
    request = operator_links_pb2.AddNoteRequest(series=series, text="seen", **WHY)
    answer = NoteDesk(pt.node).add(ANA, request)
    assert (list(answer.note.told), list(answer.refused)) == ([FR], [ES])
    bench.now += timedelta(days=3)
    assert Alarms(pt.node).raise_due()
    with pytest.raises(PolicyRefused, match="revoked"):
        pt.refer(series, agency=ES)
