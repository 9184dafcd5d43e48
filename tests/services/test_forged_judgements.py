"""Whose word a judgement is: nobody speaks for this agency's people, nor for who speaks itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2, series_pb2
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.domain.messages import OutState, Reply
from tieline_server.services.likely import standing_countries
from tieline_server.services.referring import Referring
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, ES, FR, PT, Bench, Running, records
from tests.services.test_standing_service import contact


def _assess(node: Running, series: str, country: str) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, confidence=3, grounds="sockets", confirmed=True
    )
    SeriesWork(node.node).assess(ANA, request)


def _against(
    series: str, agency: str, at: datetime, country: str = "FR", known: str = ""
) -> series_pb2.Assessment:
    """A judgement in the name of an agency's analyst that rules a country out."""
    return series_pb2.Assessment(
        id=known or new_id(),
        series=series,
        agency=agency,
        person="ana",
        country=country,
        confidence=3,
        grounds="not there",
        eliminated=True,
        made_time=timestamp(at),
    )


def _referred_again(node: Running, to: Running, series: str) -> payload_pb2.Payload:
    """What the node referred to another one, to be sent once more under another id."""
    first = to.store.read(
        lambda tx: tx.inbox.by_subject(tx.referrals.find(series=series)[0].id)[0].envelope
    )
    again = payload_pb2.Payload.FromString(envelope_pb2.Envelope.FromString(first).payload)
    again.ClearField("id")
    again.referral.ClearField("items")
    again.referral.id = again.referral.root = new_id()
    return again


def _said(node: Running, series: str, agency: str) -> list[tuple[str, bool]]:
    known = node.store.read(lambda tx: list(tx.series.assessments(series)))
    return [(one.country, one.eliminated) for one in known if one.agency == agency]


def _standing(node: Running, series: str) -> tuple[str, ...]:
    return node.store.read(lambda tx: standing_countries(tx, series))


def _told(bench: Bench) -> str:
    """A series of PT's that ES was told, and judges to be of France."""
    series = bench[PT].series(records(range(2)))
    bench[PT].refer(series, country="ES")
    assert bench[ES]
    bench.flow()
    _assess(bench[ES], series, "FR")
    return series


def test_a_peer_does_not_speak_for_the_recipients_own_people(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = _told(bench)
    for at in (bench.now + timedelta(days=365), bench.now + timedelta(seconds=1)):
        again = _referred_again(pt, es, series)
        again.referral.series.assessments.append(_against(series, ES, at))
        answer = pt.deliver(pt.seal(again, ES), ES)
        assert answer.reply == int(Reply.APPLIED)  # what it may say is taken
    assert _said(es, series, ES) == [("FR", False)]
    assert _standing(es, series) == ("FR",)


def test_nor_by_a_correction(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = _told(bench)
    (referral,) = es.store.read(lambda tx: tx.referrals.find(series=series))
    correction = payload_pb2.ReferralCorrection(
        id=new_id(),
        referral=referral.id,
        correct_time=timestamp(bench.now),
        assessments=[
            _against(series, ES, bench.now + timedelta(seconds=1)),
            _against(series, PT, bench.now + timedelta(seconds=1), "BR"),
        ],
    )
    pt.deliver(pt.seal(payload_pb2.Payload(referral_correction=correction), ES), ES)
    assert _said(es, series, ES) == [("FR", False)]
    assert _said(es, series, PT) == [("BR", True)]


def test_no_judgement_is_of_a_time_that_has_not_come(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = _told(bench)
    later = bench.now + timedelta(days=365)
    again = _referred_again(pt, es, series)
    again.referral.series.assessments.append(_against(series, FR, later))
    assert pt.deliver(pt.seal(again, ES), ES).reply == int(Reply.APPLIED)
    assert _said(es, series, FR) == []  # left out: who passes it on is not to blame
    again = _referred_again(pt, es, series)
    again.referral.series.assessments.append(_against(series, PT, later))
    answer = pt.deliver(pt.seal(again, ES), ES)
    assert answer.reply == int(Reply.REFUSED) and "future" in answer.text


def _passed_on(bench: Bench, *, forged: list[series_pb2.Assessment]) -> None:
    """ES passes PT's series on to FR, and puts words into others' mouths."""
    es = bench[ES]
    assert bench[FR]
    request = operator_pb2.StepReferralRequest(id=es.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(es.node).step(ANA, request)
    payload = payload_pb2.Payload.FromString(es.sent(FR, "referral").payload)
    (queued,) = es.queued(FR)
    payload.ClearField("id")
    payload.referral.ClearField("items")
    stated = payload.referral.series.assessments
    own = [one for one in stated if one.agency == ES]
    del stated[:]
    stated.extend([*own, *forged])
    es.store.write(lambda tx: tx.outbox.settle(FR, queued.id, OutState.DELIVERED, bench.now))
    answer = es.deliver(es.seal(payload, FR), FR)
    assert answer.reply == int(Reply.APPLIED), answer.text


def test_who_told_us_itself_speaks_for_itself(bench: Bench) -> None:
    pt, fr = bench[PT], bench[FR]
    series = _told(bench)
    pt.refer(series, agency=FR, country="FR")
    bench.flow()
    _passed_on(bench, forged=[_against(series, PT, bench.now)])
    assert _said(fr, series, PT) == []
    assert _said(fr, series, ES) == [("FR", False)]
    assert _standing(fr, series) == ("FR",)


def test_what_an_agency_says_itself_takes_the_place_of_what_was_said_in_its_name(
    bench: Bench,
) -> None:
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(2)))
    pt.refer(series, country="ES")
    bench.flow()
    _assess(pt, series, "FR")
    bench.flow()  # the correction, which else comes amid what follows
    (judged,) = pt.store.read(lambda tx: list(tx.series.assessments(series)))
    _passed_on(bench, forged=[_against(series, PT, bench.now, known=judged.id)])
    assert _said(fr, series, PT) == [("FR", True)]  # as ES tells it, which nobody else did yet
    pt.refer(series, agency=FR, country="FR")
    bench.now += timedelta(minutes=10)
    pt.ready(FR)
    bench.flow()
    assert _said(fr, series, PT) == [("FR", False)]
    assert es.store.read(lambda tx: tx.series.assessments(series)) == [judged]


def test_what_a_restored_agency_judged_comes_back_in_its_own_words(bench: Bench) -> None:
    """ES forgot the series, its judgement of it and that it passed it on; FR holds what it said."""
    pt, fr = bench[PT], bench[FR]
    assert bench[ES]
    backup = bench.image(ES)
    series = _told(bench)
    es = bench[ES]
    request = operator_pb2.StepReferralRequest(id=es.inbox()[0].id, state="passed_on", passed_to=FR)
    Referring(es.node).step(ANA, request)
    bench.flow()
    bench.set_back(ES, backup)
    es = bench.resync(ES)
    assert _said(es, series, ES) == []
    for _ in range(2):
        for peer in (fr, pt):
            contact(es, peer.node.agency)
            contact(peer, ES)
            bench.flow()
    assert _said(es, series, ES) == [("FR", False)]
