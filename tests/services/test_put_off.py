"""What is put off goes again when its time has come, and holds up nothing else until then."""

from __future__ import annotations

from datetime import timedelta

from tieline.v1 import delivery_pb2, payload_pb2
from tieline_client.identifiers import new_id
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.services.sending import send

from tests.services.bench import (
    CASE,
    ES,
    PT,
    PURPOSE,
    Bench,
    Running,
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


def _lanes(node: Running, bench: Bench) -> list[list[int]]:
    """The lanes of each batch that a node takes; ten minutes pass with each."""
    honest, seen = node.receiving.take, []

    def take(
        peer: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        seen.append([one.lane for one in request.messages])
        answer = honest(peer, request)
        bench.now += timedelta(minutes=10)
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
