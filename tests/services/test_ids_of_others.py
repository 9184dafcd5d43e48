"""A word under an id that somebody else gave undoes nothing, and keeps nothing out."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import envelope_pb2, operator_links_pb2, operator_pb2, payload_pb2, series_work_pb2
from tieline_client.errors import PolicyRefused
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import timestamp
from tieline_server.domain.messages import OutMessage, OutState, Reply
from tieline_server.domain.referral import Direction
from tieline_server.domain.retraction import Retraction
from tieline_server.services import item_chunks
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.likely import standing_countries
from tieline_server.services.notes import NoteDesk
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.restricting import restriction_of
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.splitting import Splitting

from tests.services.bench import ANA, CASE, ES, FR, HUB, PT, PURPOSE, Bench, Running, records

_ANCHOR = "a blue school bag with a white anchor"


def _taken(node: Running, identifier: str) -> payload_pb2.Payload:
    """A withdrawal of a series of the node's own, under an id that it was told."""
    retraction = payload_pb2.Retraction(
        id=identifier,
        series=new_series_id(node.node.agency),
        kind="withdraw",
        reason="x",
        retract_time=timestamp(node.bench.now),
    )
    return payload_pb2.Payload(retraction=retraction)


def _series_of(receipt: OutMessage) -> str:
    envelope = envelope_pb2.Envelope.FromString(receipt.envelope)
    return payload_pb2.Payload.FromString(envelope.payload).purge_receipt.series


def _told_to_both(bench: Bench) -> str:
    pt = bench[PT]
    for agency in (ES, FR):
        assert bench[agency]
    series = pt.series(records(range(4)))
    pt.refer(series, agency=ES, country="ES")
    pt.refer(series, agency=FR, country="FR")
    bench.flow()
    return series


def _withdrawn_for_one(bench: Bench) -> tuple[str, Retraction]:
    """ES has heard that a series of PT's is withdrawn, FR is away."""
    series = _told_to_both(bench)
    bench.offline.add(FR)
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="mistake")
    Retracting(bench[PT].node).retract(ANA, request)
    bench.flow()
    (said,) = bench[ES].store.read(lambda tx: tx.retractions.of_series(series))
    bench.offline.clear()
    return series, said


def _back(bench: Bench, agency: str) -> None:
    """Somebody who was away is reached again."""
    bench.now += timedelta(minutes=10)
    for one in set(bench.nodes) - {agency}:
        bench[one].ready(agency)
    bench.flow()


def test_a_retraction_under_the_id_of_ours_does_not_take_its_place(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records(range(2)))
    pt.refer(series, country="ES")
    bench.flow()
    narrow = operator_pb2.RetractSeriesRequest(
        series=series, kind="narrow", limited=True, only=[ES]
    )
    Retracting(pt.node).retract(ANA, narrow)
    bench.flow()
    (said,) = es.store.read(lambda tx: tx.retractions.of_series(series))
    es.deliver(es.seal(_taken(es, said.id), PT), PT)
    assert pt.store.read(lambda tx: restriction_of(tx, series)).only == frozenset({ES})
    with pytest.raises(PolicyRefused, match="narrowed"):
        pt.refer(series, agency=FR, country="FR")


def test_a_withdrawal_is_not_kept_out_by_another_word_under_its_id(bench: Bench) -> None:
    series, said = _withdrawn_for_one(bench)
    es, fr = bench[ES], bench[FR]
    taken = _taken(es, said.id)
    es.deliver(es.seal(taken, FR), FR)  # ES is quicker
    _back(bench, FR)
    assert fr.store.read(lambda tx: restriction_of(tx, series)).withdrawn
    for _ in range(3):
        Purging(fr.node).run()
    sent = fr.store.read(lambda tx: tx.outbox.of_subject(said.id))
    receipts = {one.recipient: _series_of(one) for one in sent if one.kind == "purge_receipt"}
    assert receipts == {PT: series, ES: taken.retraction.series}
    (other,) = fr.store.read(lambda tx: tx.retractions.of_series(taken.retraction.series))
    assert other.id == said.id
    assert fr.store.read(lambda tx: tx.retractions.sources(other)) == [ES]
    assert fr.store.read(lambda tx: tx.retractions.sources(said)) == [PT]


def test_a_split_is_not_kept_out_by_another_word_under_its_id(bench: Bench) -> None:
    series = _told_to_both(bench)
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    bench.offline.add(FR)
    listed = item_chunks.encode(
        pt.store.read(lambda tx: list(tx.items.of_series(series, after=0, limit=2))), PT
    )
    Splitting(pt.node).split(
        ANA, series_work_pb2.SplitSeriesRequest(series=series, name="Verde", items=[listed])
    )
    bench.flow()
    (said,) = es.store.read(lambda tx: tx.splits.of(series))
    bench.offline.clear()
    envelope = envelope_pb2.Envelope.FromString(said.envelope)
    stated = payload_pb2.Payload.FromString(envelope.payload).series_split
    stated.series, stated.made.id = new_series_id(ES), new_series_id(ES)
    es.deliver(es.seal(payload_pb2.Payload(series_split=stated), FR), FR)  # ES is quicker
    _back(bench, FR)
    assert fr.store.read(lambda tx: tx.items.count_of_series(said.made)) == 2


def test_a_judgement_is_not_kept_out_by_another_under_its_id(bench: Bench) -> None:
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(2)))
    SeriesWork(pt.node).assess(
        ANA,
        operator_pb2.AssessSeriesRequest(
            series=series, country="FR", confidence=3, grounds="sockets", confirmed=True
        ),
    )
    pt.refer(series, agency=ES, country="ES")
    bench.flow()
    (judged,) = es.store.read(lambda tx: list(tx.series.assessments(series)))

    other = es.series(records([50]), name="Verde")
    es.refer(other, agency=FR, country="FR")
    envelope = es.sent(FR, "referral")
    payload = payload_pb2.Payload.FromString(envelope.payload)
    payload.ClearField("id")
    payload.referral.ClearField("items")
    payload.referral.id = payload.referral.root = new_id()
    payload.referral.series.assessments.add(
        id=judged.id, series=other, agency=ES, person="x", country="DE", confidence=1, grounds="x"
    ).made_time.FromDatetime(bench.now)
    es.deliver(es.seal(payload, FR), FR, lane=2)  # in the place of the honest one
    (queued,) = es.queued(FR)
    es.store.write(lambda tx: tx.outbox.settle(FR, queued.id, OutState.DELIVERED, bench.now))
    pt.refer(series, agency=FR, country="FR")
    bench.flow()
    assert fr.store.read(lambda tx: standing_countries(tx, series)) == ("FR",)


def _step(node: Running, state: str, passed_to: str = "") -> None:
    request = operator_pb2.StepReferralRequest(
        id=node.inbox()[0].id, state=state, passed_to=passed_to
    )
    Referring(node.node).step(ANA, request)


def test_a_step_down_the_chain_is_not_kept_out_by_another_under_its_id(bench: Bench) -> None:
    """ES passes a referral of PT's on to FR, and hears of FR's step before PT does."""
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    pt.refer(pt.series(records(range(2))), country="ES")
    bench.flow()
    _step(es, "passed_on", passed_to=FR)
    bench.flow()
    bench.offline.add(PT)
    _step(fr, "accepted")
    bench.flow()
    heard = payload_pb2.Payload.FromString(fr.sent(PT, "referral_step").payload).referral_step
    mine = es.inbox()[0].id
    taken = payload_pb2.ReferralStep(
        id=heard.id, referral=mine, root=mine, state="acknowledged", step_time=heard.step_time
    )
    bench.offline.clear()
    es.deliver(es.seal(payload_pb2.Payload(referral_step=taken), PT), PT)  # ES is quicker
    _back(bench, PT)
    (first,) = pt.store.read(lambda tx: tx.referrals.find())
    steps = pt.store.read(lambda tx: tx.referrals.steps(first.id))
    assert [one.text for one in steps if one.id == heard.id and one.agency == FR] != []


def test_a_note_is_not_kept_out_by_another_under_its_id(bench: Bench) -> None:
    series = _told_to_both(bench)
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    mine = es.series(records([50]), name="Verde")
    es.refer(mine, agency=FR, country="FR")
    bench.flow()
    bench.offline.add(FR)
    request = operator_links_pb2.AddNoteRequest(
        series=series, text="the tiles are of FR", purpose=PURPOSE, case_ref=CASE
    )
    NoteDesk(pt.node).add(ANA, request)
    bench.flow()
    (said,) = es.store.read(lambda tx: tx.notes.of(series))
    sealed = payload_pb2.Payload.FromString(pt.sent(FR, "note").payload)
    taken = payload_pb2.Payload(note=sealed.note)
    taken.note.series, taken.note.text = mine, "x"
    bench.offline.clear()
    answer = es.deliver(es.seal(taken, FR), FR)  # ES is quicker
    assert (said.id, answer.reply) == (taken.note.id, int(Reply.APPLIED))
    _back(bench, FR)
    assert [one.text for one in fr.store.read(lambda tx: tx.notes.of(series))] == [
        "the tiles are of FR"
    ]


def _tip(
    series: str, text: str, known: payload_pb2.TipRelay | None = None, words: str = _ANCHOR
) -> payload_pb2.Payload:
    """A tip on a clue, under ids of its own or those of a known one."""
    tip = payload_pb2.TipRelay(
        id=known.id if known else new_id(),
        clue=known.clue if known else new_id(),
        clue_text=words,
        series=series,
        clue_kind="object",
        text=text,
        state="new",
    )
    return payload_pb2.Payload(tip=tip)


def test_a_tip_is_not_kept_out_by_another_under_its_id_nor_under_that_of_its_clue(
    bench: Bench,
) -> None:
    series = _told_to_both(bench)
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    mine = es.series(records([50]), name="Verde")
    es.refer(mine, agency=FR, country="FR")
    _step(es, "passed_on", passed_to=FR)  # so that it shares the series with FR
    bench.flow()
    honest = [_tip(series, "sold in Lyon"), _tip(series, "sold in Nice")]
    taken = [
        _tip(mine, "x", honest[0].tip),  # on another series
        _tip(series, "y", honest[1].tip, "a red lamp"),  # and on this one, in other words
    ]
    for sender, tips in ((es, taken), (pt, honest)):
        for one in tips:
            one.tip.receive_time.CopyFrom(timestamp(bench.now))
            answer = sender.deliver(sender.seal(one, FR), FR)
            assert answer.reply == int(Reply.APPLIED), answer.text
    clues = {one.id: one for one in fr.store.read(lambda tx: tx.clues.find(series))}
    came = [one for one in fr.store.read(lambda tx: tx.clues.tips()) if one.origin == PT]
    assert sorted(one.text for one in came) == ["sold in Lyon", "sold in Nice"]
    assert {clues[one.clue].text for one in came} == {_ANCHOR}


def test_a_step_down_the_chain_is_not_kept_out_by_a_telling_under_its_referrals_id(
    bench: Bench,
) -> None:
    """ES tells PT that it told a country itself, under the id by which it passed on to FR."""
    pt, es, fr = bench[PT], bench[ES], bench[FR]
    series = pt.series(records(range(2)))
    pt.refer(series, country="ES")
    bench.flow()
    _step(es, "passed_on", passed_to=FR)
    bench.flow()
    telling = payload_pb2.ToldOutside(
        id=new_id(),
        referral=fr.inbox()[0].id,
        root=fr.inbox()[0].id,
        series=series,
        country="BR",
        reference="note 1",
        tell_time=timestamp(bench.now),
        alone=True,
    )
    answer = es.deliver(es.seal(payload_pb2.Payload(told_outside=telling), PT), PT)
    assert answer.reply == int(Reply.APPLIED), answer.text
    _step(fr, "accepted")
    bench.flow()
    (first,) = pt.store.read(lambda tx: tx.referrals.find(Direction.OUT))
    steps = pt.store.read(lambda tx: tx.referrals.steps(first.id))
    assert FR in {one.agency for one in steps}


def test_a_series_that_is_withdrawn_takes_no_broadcast_of_another_along(bench: Bench) -> None:
    """ES was told a broadcast, and refers a series of its own to the hub under its id."""
    es, hub = bench[ES], bench[HUB]
    assert bench[PT]
    bench.offline.add(PT)
    request = operator_pb2.BroadcastSeriesRequest(
        series=[hub.series(records(range(2)))], group="desks", purpose=PURPOSE, case_ref=CASE
    )
    (asked,) = Broadcasting(hub.node).broadcast(ANA, request)
    assert set(asked.recipients) == {ES, PT}
    bench.flow()
    assert [one.broadcast.id for one in es.inbox()] == [asked.id]
    mine = es.series(records([50]), name="Verde")
    es.refer(mine, agency=HUB)
    payload = payload_pb2.Payload.FromString(es.sent(HUB, "referral").payload)
    (queued,) = es.queued(HUB)
    payload.ClearField("id")
    payload.referral.ClearField("items")
    payload.referral.id = payload.referral.root = asked.id
    es.store.write(lambda tx: tx.outbox.settle(HUB, queued.id, OutState.DELIVERED, bench.now))
    assert es.deliver(es.seal(payload, HUB), HUB, lane=2).reply == int(Reply.APPLIED)
    withdraw = _taken(es, new_id())
    withdraw.retraction.series = mine
    assert es.deliver(es.seal(withdraw, HUB), HUB, lane=1).reply == int(Reply.APPLIED)
    Purging(hub.node).run()
    assert hub.sent(PT, "broadcast").payload
