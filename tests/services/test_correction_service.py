"""Assessments that change what was told: who is corrected, with what, and what both sides see."""

from __future__ import annotations

from dataclasses import replace

from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2
from tieline_client.handling import HandlingCode
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.services.inbox import Mailbox
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, ES, FR, HUB, PT, Bench, Running, records


def _assess(node: Running, series: str, country: str, **more: object) -> operator_pb2.SeriesView:
    fields: dict[str, object] = {"confidence": 2, "grounds": "plates"} | more
    request = operator_pb2.AssessSeriesRequest(series=series, country=country, **fields)  # type: ignore[arg-type]
    return SeriesWork(node.node).assess(ANA, request)


def _clock(node: Running) -> operator_pb2.ReferralView:
    (view,) = Mailbox(node.node).clock("")
    return view


def _seen(view: operator_pb2.ReferralView) -> tuple[object, ...]:
    return view.state, view.corrected, list(view.likely_countries)


def test_a_changed_assessment_corrects_what_was_told(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    _assess(es, series, "PT")
    es.refer(series)
    bench.flow()
    bench[FR]
    view = _assess(es, series, "FR", confirmed=True, region="Bretagne", clues=[clue := new_id()])
    assert (list(view.likely_countries), list(view.untold_countries)) == (["FR"], ["FR"])
    bench.flow()
    for node in (es, pt):
        assert _seen(_clock(node)) == ("delivered", True, ["FR"])
        assert _clock(node).steps[-1].state == "corrected"
    (entry,) = pt.inbox()
    judged = entry.series.notice.assessments[-1]
    assert (judged.country, judged.region, list(judged.clues)) == ("FR", "Bretagne", [clue])
    assert list(entry.series.likely_countries) == ["FR"]
    (logged,) = es.audit("referral.corrected")
    assert (logged["peer"], logged["person"]) == (PT, "ana")
    assert len(pt.audit("referral_correction.received")) == 1
    # the recipient's steps go on: a correction is a mark
    request = operator_pb2.StepReferralRequest(id=entry.id, state="declined", text="not ours")
    Referring(pt.node).step(ANA, request)
    bench.flow()
    assert _seen(_clock(es)) == _seen(_clock(pt)) == ("declined", True, ["FR"])
    # France is ruled out after all: Portugal stands again, and is told so
    _assess(es, series, "FR", eliminate=True)
    bench.flow()
    assert _seen(_clock(es)) == _seen(_clock(pt)) == ("declined", False, ["PT"])


def test_who_shares_its_place_is_not_troubled_and_the_other_is_proposed(bench: Bench) -> None:
    es = bench[ES]
    bench[PT], bench[FR]
    series = es.series(records(range(3)))
    _assess(es, series, "PT")
    es.refer(series)
    view = _assess(es, series, "FR")
    assert (list(view.likely_countries), list(view.untold_countries)) == (["FR", "PT"], ["FR"])
    assert [one.kind for one in es.queued(PT)] == ["referral"]
    told = {one.recipient for one in es.refer(series)}
    assert told == {PT, FR}  # ties stand together and all are told
    assert list(SeriesWork(es.node).get(series).untold_countries) == []


def test_whom_to_tell_is_the_owners_task_until_it_withdraws(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    _assess(es, series, "PT")
    es.refer(series)
    bench.flow()
    assert list(SeriesWork(pt.node).get(series).likely_countries) == ["PT"]
    for told in (SeriesWork(pt.node).get(series), pt.inbox()[0].series):
        assert list(told.untold_countries) == []
    assert list(_assess(es, series, "FR").untold_countries) == ["FR"]
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="twice")
    Retracting(es.node).retract(ANA, request)
    assert list(SeriesWork(es.node).get(series).untold_countries) == []


def test_who_was_told_by_somebody_else_is_corrected_by_it(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = es.series(records(range(3)))
    _assess(es, series, "PT")
    es.refer(series)
    bench.flow()
    request = operator_pb2.StepReferralRequest(id=pt.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    assert _seen(_clock(fr)) == ("delivered", False, [])
    _assess(es, series, "BR", confirmed=True)
    bench.flow()
    assert _seen(_clock(fr)) == ("delivered", True, ["BR"])
    assert fr.inbox()[0].series.notice.assessments[-1].country == "BR"
    # what the last of the chain does, all who are in it see alike
    request = operator_pb2.StepReferralRequest(id=fr.inbox()[0].id, state="declined", text="no")
    Referring(fr.node).step(ANA, request)
    bench.flow()
    came = [one for one in Mailbox(pt.node).clock("") if one.direction == "in"]
    assert _seen(came[0]) == _seen(_clock(es)) == ("passed_on", True, ["BR"])
    ours, theirs = ([one.text for one in view.steps] for view in (_clock(es), came[0]))
    assert ours[-1] == theirs[-1]


def test_whom_policy_would_not_tell_today_learns_only_that_its_country_stands_no_longer(
    bench: Bench,
) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = es.series(records(range(3)))
    _assess(es, series, "PT")
    es.refer(series)
    bench.flow()
    request = operator_pb2.StepReferralRequest(id=pt.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(pt.node).step(ANA, request)
    bench.flow()
    held = pt.store.read(lambda tx: tx.series.get(series))
    assert held is not None
    strict = replace(held.handling, code=HandlingCode.H2)
    pt.store.write(lambda tx: tx.series.set_handling(series, strict))
    _assess(es, series, "BR", confirmed=True, grounds="a secret")
    bench.flow()
    assert _seen(_clock(fr)) == ("delivered", True, [])
    assert "a secret" not in str(fr.inbox()[0])


def test_late_and_repeated_corrections_end_alike(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(2)))
    _assess(es, series, "PT")
    es.refer(series)
    bench.flow()
    bench.offline.add(PT)
    for country in ("FR", "BR", "US"):
        _assess(es, series, country, confirmed=True)
        _assess(es, series, country, eliminate=True)
    _assess(es, series, "FR", confirmed=True, confidence=3)
    said = [one.envelope for one in es.queued(PT) if one.kind == "referral_correction"]
    assert len(said) == 7
    bench.offline.discard(PT)
    for envelope in (*reversed(said), *said):
        es.deliver(envelope_pb2.Envelope.FromString(envelope), PT)
    assert _seen(_clock(pt)) == _seen(_clock(es)) == ("delivered", True, ["FR"])


def test_only_who_told_corrects(bench: Bench) -> None:
    es, pt, hub = bench[ES], bench[PT], bench[HUB]
    series = es.series(records(range(2)))
    es.refer(series, country="PT")
    bench.flow()

    def said(**more: object) -> payload_pb2.Payload:
        fields = {"id": new_id(), "referral": _clock(pt).id, "countries": ["FR"]} | more
        fields["correct_time"] = timestamp(bench.now)
        return payload_pb2.Payload(
            referral_correction=payload_pb2.ReferralCorrection(**fields)  # type: ignore[arg-type]
        )

    for node, payload, reason in (
        (hub, said(), "SIGNATURE_REFUSED"),
        (es, said(countries=["PT", "FR"]), "INVALID_INPUT"),
        (es, said(countries=["Peru"]), None),
        (es, said(referral=new_id()), "NOT_FOUND"),
    ):
        try:
            response = node.deliver(node.seal(payload, PT), PT)
        except Exception as error:  # noqa: BLE001 - a cap of the wire may come first
            assert reason is None, error
            continue
        assert response.reply in (3, 4, 5), response
        assert reason is None or response.reason == reason
    assert _seen(_clock(pt)) == ("delivered", False, [])
