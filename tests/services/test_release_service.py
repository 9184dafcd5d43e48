"""Releases beyond a hit: what waits, an officer's decision, and what the asker has of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest
from tieline.v1 import operator_pb2, payload_pb2, requests_pb2, series_pb2
from tieline.v1 import operator_requests_pb2 as pb
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, WrongState
from tieline_client.identifiers import new_id, new_series_id
from tieline_server.services.context import Person
from tieline_server.services.deciding import Requests
from tieline_server.services.purging import Purging
from tieline_server.services.retracting import Retracting

from tests.services.bench import CASE, ES, FR, HUB, ICE, PT, PURPOSE, Bench, Running, records
from tests.services.test_standing_service import contact

RUI = Person("rui", frozenset({"officer"}))


def waiting(node: Running) -> list[pb.RequestView]:
    return Requests(node.node).find(sent=False, decided=False)


def sent(node: Running) -> list[pb.RequestView]:
    return Requests(node.node).find(sent=True, decided=True)


def show(node: Running, request: str) -> pb.RequestView:
    return Requests(node.node).get(request)


def decide(node: Running, request: str, *, approve: bool = True, **more: object) -> pb.RequestView:
    wanted = pb.DecideRequestRequest(id=request, approve=approve, **more)  # type: ignore[arg-type]
    return Requests(node.node).decide(RUI, wanted)


def asked(bench: Bench, *, level: int = 0) -> tuple[str, str]:
    """PT holds a series of five, ES asks for three of them; return series and request."""
    series = bench[PT].series(records(range(5)))
    ends, _ = bench[ES].ask(records(range(3)), PT, wish=level)
    return series, ends[PT].request


def test_a_hit_leaves_a_request_that_says_who_asked_and_what_hit(bench: Bench) -> None:
    series, request = asked(bench)
    (here,) = waiting(bench[PT])
    assert (here.id, here.kind, here.direction, here.state) == (request, "release", "in", "pending")
    assert (here.peer, here.person) == (ES, "ana")
    assert (here.purpose, here.case_ref) == (PURPOSE, CASE)
    assert (here.level, here.items) == ("reference", 3)
    assert [(one.id, one.items, one.state) for one in here.series] == [(series, 3, "waiting")]
    (there,) = sent(bench[ES])
    assert (there.id, there.peer, there.direction, there.state) == (request, PT, "out", "pending")
    (entry,) = bench[PT].audit("query.answered")
    assert request in entry["subjects"]  # type: ignore[operator]


def test_the_request_holds_nothing_of_the_asked_list(bench: Bench) -> None:
    _, request = asked(bench)
    stored = show(bench[PT], request).SerializeToString()
    for one in records(range(3)):
        for digest in (one.md5, one.sha1, one.sha256):
            assert digest is not None
            assert digest not in stored and digest.hex().encode() not in stored


def test_asking_again_for_one_case_adds_to_what_waits(bench: Bench) -> None:
    _, request = asked(bench)
    other = bench[PT].series(records(range(10, 14)), "Verde")
    ends, _ = bench[ES].ask(records([*range(5), 10, 11]), PT)
    assert ends[PT].request == request
    (here,) = waiting(bench[PT])
    assert {one.items for one in here.series if one.id == other} == {2}
    assert (len(here.series), here.items) == (2, 7)
    another, _ = bench[ES].ask(records([1]), PT, case_ref="another case")
    assert another[PT].request not in ("", request)


def test_a_question_that_hits_nothing_leaves_no_request(bench: Bench) -> None:
    bench[PT].series(records(range(5)))
    ends, _ = bench[ES].ask(records(range(50, 53)), PT)
    assert (ends[PT].status, ends[PT].request) == ("answered", "")
    assert waiting(bench[PT]) == [] and sent(bench[ES]) == []


def test_the_hub_waits_for_a_person_as_everybody_does(bench: Bench) -> None:
    """Its triage begins with hits; references come once the holder's officer releases them."""
    series = bench[PT].series(records(range(5)))
    ends, found = bench[HUB].ask(records(range(3)), PT)
    assert [(one.disclosure, list(one.series)) for one in found[PT]] == [("hit", [])] * 3
    assert ends[PT].reason == f"more waits for a person at {PT}"
    decide(bench[PT], ends[PT].request)
    bench.flow()
    ends, found = bench[HUB].ask(records(range(3)), PT)
    assert [one.disclosure for one in found[PT]] == ["reference"] * 3
    assert {each.id for one in found[PT] for each in one.series} == {series}
    assert ends[PT].request == ""
    ends, _ = bench[HUB].ask(records(range(3)), PT, wish=4)
    assert show(bench[PT], ends[PT].request).level == "detail"


def test_what_is_refused_to_the_hub_stays_a_hit(bench: Bench) -> None:
    bench[PT].series(records(range(5)))
    ends, _ = bench[HUB].ask(records(range(3)), PT)
    decide(bench[PT], ends[PT].request, approve=False, reason="our own case comes first")
    bench.flow()
    ends, found = bench[HUB].ask(records(range(3)), PT)
    assert {one.disclosure for one in found[PT]} == {"hit"}
    assert [list(one.series) for one in found[PT]] == [[], [], []]


def test_what_is_approved_arrives_and_asking_again_answers_at_that_level_at_once(
    bench: Bench,
) -> None:
    series, request = asked(bench)
    decided = decide(bench[PT], request)
    assert (decided.state, decided.level, decided.decided_by) == ("approved", "reference", "rui")
    assert show(bench[ES], request).state == "pending"  # it is on its way
    bench.flow()
    got = show(bench[ES], request)
    assert (got.state, got.level, got.decided_by) == ("approved", "reference", "rui")
    assert got.items == 0  # so few are not counted for others
    (one,) = got.series
    assert (one.id, one.items, one.state) == (series, 3, "released")
    assert (one.entry.id, one.entry.name, one.entry.contact_name) == (series, "", f"desk {PT}")
    assert (one.entry.handling.source, one.entry.handling.information) == ("X", 4)
    ends, found = bench[ES].ask(records(range(3)), PT)
    assert [each.disclosure for each in found[PT]] == ["reference"] * 3
    assert {each.id for overlap in found[PT] for each in overlap.series} == {series}
    assert ends[PT].request == ""
    (entry,) = bench[PT].audit("request.approved")
    assert (entry["person"], entry["peer"]) == ("rui", ES)
    assert "confirmed-release" in entry["rules"]  # type: ignore[operator]
    assert bench[ES].audit("release.received") and bench[ES].audit("request_answer.received")


@pytest.mark.parametrize(
    ("who", "change"),
    [(ES, {"case_ref": "another"}), (ES, {"purpose": "deconfliction"}), (FR, {})],
)
def test_an_approval_is_for_that_asker_case_and_purpose_alone(
    bench: Bench, who: str, change: dict[str, str]
) -> None:
    _, request = asked(bench)
    decide(bench[PT], request)
    bench.flow()
    ends, found = bench[who].ask(records(range(3)), PT, **change)
    assert {each.disclosure for each in found[PT]} == {"hit"}
    assert ends[PT].request not in ("", request)


def test_an_approval_ends_with_its_day(bench: Bench) -> None:
    _, request = asked(bench)
    decide(bench[PT], request, until=f"{bench.now + timedelta(days=2):%Y-%m-%d}")
    bench.now += timedelta(days=2)
    assert bench[ES].ask(records(range(3)), PT)[1][PT][0].disclosure == "reference"
    bench.now += timedelta(days=1)
    ends, found = bench[ES].ask(records(range(3)), PT)
    assert found[PT][0].disclosure == "hit"
    assert ends[PT].request not in ("", request)
    assert show(bench[PT], request).state == "expired"


def test_detail_is_released_with_the_name_and_count_without_the_series(bench: Bench) -> None:
    _, request = asked(bench)
    decide(bench[PT], request, level="detail")
    bench.flow()
    assert show(bench[ES], request).series[0].entry.name == "Azul"
    bench[PT].series(records(range(20, 40)), "Large")
    ends, _ = bench[FR].ask(records(range(20, 35)), PT, wish=2)
    decide(bench[PT], ends[PT].request)
    bench.flow()
    got = show(bench[FR], ends[PT].request)
    assert (got.state, got.level, got.items, list(got.series)) == ("approved", "count", 15, [])
    ends, found = bench[FR].ask(records(range(20, 35)), PT, wish=2)
    assert (ends[PT].count, found[PT][0].disclosure, found[PT][0].series) == (15, "count", ())


def test_some_series_are_released_and_the_others_refused(bench: Bench) -> None:
    one = bench[PT].series(records(range(5)), "One")
    two = bench[PT].series(records(range(5, 9)), "Two")
    ends, _ = bench[ES].ask(records([1, 2, 6]), PT)
    decide(bench[PT], ends[PT].request, series=["One"])
    bench.flow()
    assert {each.id: each.state for each in show(bench[PT], ends[PT].request).series} == {
        one: "released",
        two: "refused",
    }
    assert [each.id for each in show(bench[ES], ends[PT].request).series] == [one]
    again, found = bench[ES].ask(records([1, 2, 6]), PT)
    assert [[each.id for each in hit.series] for hit in found[PT]] == [[one], [one], []]
    assert again[PT].request == ""  # nobody is asked twice what was refused


def test_a_refusal_travels_with_its_reason_and_is_not_asked_again_at_once(bench: Bench) -> None:
    _, request = asked(bench)
    with pytest.raises(InvalidInput, match="reason"):
        decide(bench[PT], request, approve=False)
    decide(bench[PT], request, approve=False, reason="an operation is open")
    bench.flow()
    got = show(bench[ES], request)
    assert (got.state, got.reason, list(got.series)) == ("refused", "an operation is open", [])
    ends, found = bench[ES].ask(records(range(3)), PT)
    assert (ends[PT].request, found[PT][0].disclosure) == ("", "hit")
    # The answer keeps silent; that this agency was refused stands in its own requests.
    end = bench[ES].ask(records(range(3)), PT, wish=4)[0][PT]
    assert (end.status, end.request) == ("answered", "")
    assert "refused by a person there on 2026-03-01 (an operation is open)" in end.reason
    assert "until 2026-03-31 no new request is made" in end.reason and request in end.reason
    for other in (
        bench[ES].ask(records(range(30, 33)), PT)[0],  # nothing hit
        bench[ES].ask(records(range(3)), PT, case_ref="other")[0],
    ):
        assert "refused" not in other[PT].reason
    bench.now += timedelta(days=31)
    later = bench[ES].ask(records(range(3)), PT)[0][PT]
    assert later.request not in ("", request) and "refused" not in later.reason


def test_what_is_decided_is_decided(bench: Bench) -> None:
    _, request = asked(bench)
    decide(bench[PT], request)
    with pytest.raises(WrongState, match="approved already"):
        decide(bench[PT], request)
    with pytest.raises(WrongState, match="not to be decided here"):
        decide(bench[ES], request)
    with pytest.raises(NotFound):
        decide(bench[PT], new_id())


def test_nobody_decides_what_has_expired(bench: Bench) -> None:
    _, request = asked(bench)
    bench.now += timedelta(days=31)
    assert waiting(bench[PT]) == []
    with pytest.raises(WrongState, match="expired"):
        decide(bench[PT], request)
    Purging(bench[PT].node).run()
    with pytest.raises(NotFound):
        show(bench[PT], request)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"level": "hit"}, "none of count, reference, detail"),
        ({"until": "2020-01-01"}, "a day that is to come"),
        ({"until": "2030-01-01"}, "at most 90 days"),
        ({"until": "soon"}, "is a day"),
    ],
)
def test_bad_terms_of_an_approval_change_nothing(
    bench: Bench, more: dict[str, Any], message: str
) -> None:
    _, request = asked(bench)
    with pytest.raises(InvalidInput, match=message):
        decide(bench[PT], request, **more)
    assert show(bench[PT], request).state == "pending"
    assert bench[PT].queued(ES) == []


def test_policy_is_asked_again_when_it_is_released(bench: Bench) -> None:
    """Between hit and approval the owner tightened the series: nothing of it is released."""
    series, request = asked(bench)
    other = bench[PT].series(records(range(5, 9)), "Other")
    bench[ES].ask(records([1, 6]), PT)
    narrow(bench[PT], series, tlp=5)
    with pytest.raises(PolicyRefused, match="TLP:RED"):
        decide(bench[PT], request)
    assert bench[PT].queued(ES) == [] and not bench[PT].audit("request.approved")
    decide(bench[PT], request, series=[other])
    bench.flow()
    assert [one.id for one in show(bench[ES], request).series] == [other]


def narrow(node: Running, series: str, **more: object) -> None:
    wanted = operator_pb2.RetractSeriesRequest(
        series=series,
        kind="narrow",
        reason="tightened",
        **more,  # type: ignore[arg-type]
    )
    Retracting(node.node).retract(RUI, wanted)


def withdraw(node: Running, series: str) -> None:
    wanted = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="a court")
    Retracting(node.node).retract(RUI, wanted)


def test_a_grant_never_outlives_what_policy_allows(bench: Bench) -> None:
    series, request = asked(bench)
    decide(bench[PT], request)
    bench.flow()
    narrow(bench[PT], series, tlp=5)
    _, found = bench[ES].ask(records(range(3)), PT)
    assert PT not in found


def test_a_withdrawn_series_takes_back_what_was_released(bench: Bench) -> None:
    series, request = asked(bench)
    decide(bench[PT], request)
    bench.flow()
    withdraw(bench[PT], series)
    bench.flow()
    assert Purging(bench[ES].node).run()
    bench.flow()
    assert list(show(bench[ES], request).series) == []
    (told,) = bench[PT].store.read(
        lambda tx: tx.retractions.recipients(tx.retractions.of_series(series)[0])
    )
    assert (told.agency, told.erased) == (ES, True)
    (came,) = bench[ES].store.read(lambda tx: tx.inbox.by_subject(series))
    assert (came.kind, came.envelope) == ("release", b"")
    assert PT not in bench[ES].ask(records(range(3)), PT)[1]


def test_a_withdrawn_series_ends_what_waits_on_it(bench: Bench) -> None:
    series, request = asked(bench)
    withdraw(bench[PT], series)
    bench.flow()
    assert show(bench[PT], request).state == "ended"
    got = show(bench[ES], request)
    assert (got.state, got.reason) == ("ended", "the series was taken back by its owner")
    with pytest.raises(WrongState, match="ended"):
        decide(bench[PT], request)
    (logged,) = bench[PT].audit("request.ended")
    assert {request, series} <= set(cast(list[str], logged["subjects"]))
    assert (logged["peer"], logged["person"]) == (ES, "rui")


def test_what_was_refused_before_a_restore_does_not_wait_after_it(bench: Bench) -> None:
    _, request = asked(bench)
    backup = bench.image(PT)
    decide(bench[PT], request, approve=False, reason="a source is at risk")
    bench.flow()
    kept = show(bench[PT], request)
    bench.set_back(PT, backup)
    pt = bench.resync(PT)
    contact(pt, ES)
    bench.flow()
    assert waiting(pt) == []
    assert show(pt, request) == kept


def test_narrowing_reaches_the_released_copy(bench: Bench) -> None:
    series, request = asked(bench)
    decide(bench[PT], request)
    bench.flow()
    narrow(bench[PT], series, code=2)
    bench.flow()
    assert show(bench[ES], request).series[0].entry.handling.code == 2
    narrow(bench[PT], series, limited=True, only=[FR])
    bench.flow()
    Purging(bench[ES].node).run()
    assert list(show(bench[ES], request).series) == []


def release(series: str, request: str, **handling: object) -> payload_pb2.Payload:
    terms = {"tlp": 3, "source": "B", "information": 2, "retain_until": "2028-01-01"} | handling
    body = requests_pb2.Release(request=request, level="reference", shared=1)
    body.series.id = series
    body.series.handling.CopyFrom(series_pb2.Handling(**terms))  # type: ignore[arg-type]
    return payload_pb2.Payload(release=body)


@pytest.mark.parametrize(
    ("handling", "reason"),
    [({"tlp": 5}, "APPLIED"), ({"retain_until": "2020-01-01"}, "INVALID_INPUT")],
)
def test_the_asker_looks_at_a_release_too(
    bench: Bench, handling: dict[str, object], reason: str
) -> None:
    _, request = asked(bench)
    envelope = bench[PT].seal(release(new_series_id(PT), request, **handling), ES)
    answer = bench[PT].deliver(envelope, ES)
    assert (answer.reason or "APPLIED") == reason


def test_policy_on_receipt_refuses_what_the_asker_may_not_learn(bench: Bench) -> None:
    """A repository's release of somebody's RED series: its provider has not permitted that."""
    _, request = asked(bench)
    envelope = bench[PT].seal(release(new_series_id(FR), request, tlp=5), ES)
    answer = bench[PT].deliver(envelope, ES)
    assert answer.reason == "POLICY_REFUSED"
    assert show(bench[ES], request).state == "pending"
    assert bench[ES].audit("refusal")


def test_what_was_asked_for_one_purpose_is_not_released_for_another(bench: Bench) -> None:
    """For prosecution the asker's own rules let it learn a hit and no more."""
    series = bench[PT].series(records(range(5)))
    ends, _ = bench[ES].ask(records(range(3)), PT)
    request = ends[PT].request
    said = release(series, request)
    said.purpose = "deconfliction"
    answer = bench[PT].deliver(bench[PT].seal(said, ES), ES)
    assert answer.reason == "SIGNATURE_REFUSED"
    assert show(bench[ES], request).state == "pending"


def test_nobody_else_answers_a_request(bench: Bench) -> None:
    _, request = asked(bench)
    envelope = bench[FR].seal(release(new_series_id(FR), request), ES)
    assert bench[FR].deliver(envelope, ES).reason == "SIGNATURE_REFUSED"
    body = requests_pb2.RequestAnswer(request=request, state="refused")
    sealed = bench[FR].seal(payload_pb2.Payload(request_answer=body), ES)
    assert bench[FR].deliver(sealed, ES).reason == "SIGNATURE_REFUSED"
    assert show(bench[ES], request).state == "pending"


def test_a_release_outside_the_union_says_on_what_law_it_rests(bench: Bench) -> None:
    bench[PT].series(records(range(5)))
    ends, _ = bench[ICE].ask(records(range(3)), PT)
    decide(bench[PT], ends[PT].request)
    (entry,) = bench[PT].audit("request.approved")
    assert entry["detail"]["legal_basis"] == {ICE: "agreement: trial agreement"}  # type: ignore[index]
    (answered,) = bench[PT].audit("query.answered")
    assert answered["detail"]["legal_basis"] == {ICE: "agreement: trial agreement"}  # type: ignore[index]


def test_an_older_asker_is_told_no_handling_and_a_newer_one_is(bench: Bench) -> None:
    _, request = asked(bench)
    decide(bench[PT], request)
    _, found = bench[ES].ask(records(range(3)), PT)
    handling = found[PT][0].series[0].handling
    assert handling is not None
    assert (handling.source, handling.information, handling.tlp) == ("X", 4, 3)
