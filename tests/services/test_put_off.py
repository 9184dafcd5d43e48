"""What is put off goes again when its time has come, and holds up nothing else until then."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import delivery_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.identifiers import new_id
from tieline_server.delivery.engine import DeliveryEngine
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.services import attachments
from tieline_server.services.broadcasting import Broadcasting
from tieline_server.services.sending import send

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    HUB,
    PT,
    PURPOSE,
    Bench,
    Running,
    records,
    wait_for,
)


def _word(bench: Bench, state: str = "x") -> payload_pb2.Payload:
    """A step of a referral that its recipient does not know: refused, or put off where a step of
    that state may follow one that is still on its way."""
    payload = payload_pb2.Payload(person="ana", purpose=PURPOSE, case_ref=CASE)
    body = payload.referral_step
    body.id, body.referral, body.root, body.state = new_id(), new_id(), new_id(), state
    body.step_time.FromDatetime(bench.now)
    return payload


def _lanes(node: Running, bench: Bench, minutes: int = 10) -> list[list[int]]:
    """The lanes of each batch that a node takes; so many minutes pass with each."""
    honest, seen = node.receiving.take, []

    def take(
        peer: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        seen.append([one.lane for one in request.messages])
        answer = honest(peer, request)
        bench.now += timedelta(minutes=minutes)
        return answer

    node.receiving.take = take  # type: ignore[method-assign]
    return seen


def test_an_immediate_message_that_was_put_off_does_not_wait_for_the_whole_queue(
    bench: Bench,
) -> None:
    pt, es = bench[PT], bench[ES]

    def work(tx: Tx) -> None:
        first = _word(bench, "acknowledged")
        send(pt.node, tx, first, recipient=ES, lane=Urgency.IMMEDIATE, subject=new_id())
        for _ in range(256):
            send(pt.node, tx, _word(bench), recipient=ES, lane=Urgency.ROUTINE, subject=new_id())

    pt.store.write(work)
    seen = _lanes(es, bench)
    pt.engine.start()
    wait_for("all went", lambda: sum(call.count(3) for call in seen) == 256)
    assert 1 in seen[0]
    assert any(1 in call for call in seen[1:3]), "it was put off for a second, from the second on"


def test_attachments_that_wait_for_their_messages_do_not_keep_these_from_going(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as a peer may have begun are put off, and those behind them cannot begin."""
    monkeypatch.setattr(attachments, "_OPEN_MOST", 3)
    hub, es = bench[HUB], bench[ES]
    whole = bench.directory
    es.node.directory = lambda: whole.model_copy(update={"groups": ()})
    for number in range(5):
        request = operator_pb2.BroadcastSeriesRequest(
            series=[hub.series(records([number]), name=f"S{number}")],
            group="desks",
            purpose=PURPOSE,
            case_ref=CASE,
        )
        Broadcasting(hub.node).broadcast(ANA, request)
    hub.engine.start()
    wait_for("three are there", lambda: es.store.read(lambda tx: tx.attachments.open_of(HUB)) == 3)

    es.node.directory = lambda: whole  # ES has learnt of the group

    def all_came() -> bool:
        bench.now += timedelta(hours=1)
        hub.ready(ES)
        return len(es.inbox()) == 5

    wait_for("all came", all_came)


def _fill(pt: Running) -> None:
    """PT has begun as many attachments at ES as it may, whose messages were since taken back."""
    for number in range(3):
        request = delivery_pb2.PutChunkRequest(
            attachment=f"{number:064x}",
            chunks=2,
            items=limits.ITEMS_PER_CHUNK + 1,
            kind="referral",
            purpose=PURPOSE,
            series=f"{PT}/{new_id()}",
        )
        pt.node.peers.put_chunk(ES, request)


def test_items_that_are_not_taken_now_hold_up_no_message_before_or_behind_them(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachments, "_OPEN_MOST", 3)
    pt = bench[PT]
    assert bench[ES]
    _fill(pt)

    def word(lane: Urgency) -> str:
        return pt.store.write(
            lambda tx: send(pt.node, tx, _word(bench), recipient=ES, lane=lane, subject=new_id())
        ).id

    before = word(Urgency.URGENT)
    pt.refer(pt.series(records([1, 2])), country="ES", urgency=2)
    others = {before, word(Urgency.URGENT), word(Urgency.ROUTINE)}
    pt.engine.start()
    wait_for(
        "all others are answered",
        lambda: not others & pt.store.read(lambda tx: tx.outbox.queued(ES, others)),
    )
    (left,) = [one for one in pt.store.read(lambda tx: tx.outbox.find()) if one.settled is None]
    assert left.kind == "referral"
    assert "send those first" in left.reason


def test_a_peer_that_answers_fewer_messages_than_came_is_left_alone_for_a_while(
    bench: Bench,
) -> None:
    pt, es = bench[PT], bench[ES]
    honest, calls = es.receiving.take, []

    def take(
        peer: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        calls.append(len(request.messages))
        answer = honest(peer, request)
        del answer.replies[1:]
        return answer

    es.receiving.take = take  # type: ignore[method-assign]

    def work(tx: Tx) -> None:
        for _ in range(3):
            send(pt.node, tx, _word(bench), recipient=ES, lane=Urgency.ROUTINE, subject=new_id())

    pt.store.write(work)
    pt.engine.start()
    wait_for(
        "it waits, and says why",
        lambda: "1 of 3" in pt.store.read(lambda tx: tx.outbox.destination(ES)).last_error,
    )
    assert calls == [3]
    assert len(pt.queued(ES)) == 2, "what was answered is settled"
    es.receiving.take = honest  # type: ignore[method-assign]
    bench.flow()


def test_a_clock_that_is_put_right_by_a_day_holds_up_nothing_for_a_day(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    seen = _lanes(es, bench, minutes=0)

    def word(lane: Urgency, state: str) -> None:
        for _ in range(2):  # one alone goes in a call of its own
            one = _word(bench, state)
            pt.store.write(
                lambda tx, p=one: send(pt.node, tx, p, recipient=ES, lane=lane, subject=new_id())  # type: ignore[misc]
            )

    word(Urgency.IMMEDIATE, "acknowledged")
    pt.engine.start()
    wait_for("it is put off", lambda: pt.store.read(lambda tx: tx.outbox.held(ES)))
    pt.engine.stop()
    bench.now -= timedelta(days=1)
    count = len(seen)
    word(Urgency.ROUTINE, "x")
    engine = DeliveryEngine(pt.node)
    engine.start()
    try:
        wait_for("it goes again", lambda: any(1 in call for call in seen[count:]))
    finally:
        engine.stop()
