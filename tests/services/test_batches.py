"""Several messages in one call: one transaction, each for itself; and one by one to v1.0."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tieline.v1 import delivery_pb2, envelope_pb2, operator_pb2, payload_pb2
from tieline_client import constraints, limits
from tieline_client.errors import InvalidInput, LimitExceeded, StorageUnavailable, TielineError
from tieline_client.identifiers import new_id
from tieline_server.domain.messages import OutMessage, OutState
from tieline_server.domain.ports import Tx
from tieline_server.domain.refusals import Refusal
from tieline_server.services.receiving import Receiving
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, CASE, ES, PT, Bench, Running, records, wait_for

Request = delivery_pb2.DeliverRequest
APPLIED, DUPLICATE = delivery_pb2.REPLY_APPLIED, delivery_pb2.REPLY_DUPLICATE
REFUSED, RETRY = delivery_pb2.REPLY_REFUSED, delivery_pb2.REPLY_RETRY
UNSUPPORTED = delivery_pb2.REPLY_UNSUPPORTED


def _series(node: Running) -> str:
    made = operator_pb2.CreateSeriesRequest(name=new_id(), case_ref=CASE)
    return SeriesWork(node.node).create(ANA, made).notice.id


def _referrals(bench: Bench, count: int, **more: object) -> list[str]:
    """ES refers new series to PT; nothing leaves yet."""
    es, _ = bench[ES], bench[PT]
    return [es.refer(_series(es), country="PT", **more)[0].id for _ in range(count)]


def _requests(node: Running, to: str) -> list[Request]:
    return [
        Request(
            envelope=envelope_pb2.Envelope.FromString(one.envelope),
            lane=int(one.lane),
            sequence=one.sequence,
            epoch=node.node.epoch,
        )
        for one in node.queued(to)
    ]


def _send(bench: Bench, requests: list[Request]) -> list[int]:
    """Deliver by hand from ES to PT, through the wire's bytes."""
    batch = delivery_pb2.DeliverBatchRequest(messages=requests)
    return [one.reply for one in bench[ES].node.peers.deliver_batch(PT, batch).replies]


def _inbox(node: Running) -> set[str]:
    return {entry.id for entry in node.inbox()}


def _commits(node: Running) -> list[int]:
    """Return a list that grows by one with each write."""
    writes, honest = [], node.store.write

    def write(work: Callable[[Tx], object]) -> object:
        writes.append(1)
        return honest(work)

    node.store.write = write  # type: ignore[method-assign, assignment]
    return writes


def test_a_batch_is_one_write_and_each_message_has_its_reply(bench: Bench) -> None:
    ids = _referrals(bench, 8)
    pt, requests = bench[PT], _requests(bench[ES], PT)
    writes = _commits(pt)
    assert _send(bench, requests) == [APPLIED] * 8
    assert len(writes) == 1
    assert _inbox(pt) == set(ids)
    assert _send(bench, requests) == [DUPLICATE] * 8
    assert len(pt.audit("referral.received")) == 8


def test_a_message_twice_in_one_batch_counts_once(bench: Bench) -> None:
    ids = _referrals(bench, 2)
    one, two = _requests(bench[ES], PT)
    assert _send(bench, [one, one, two, one]) == [APPLIED, DUPLICATE, APPLIED, DUPLICATE]
    assert _inbox(bench[PT]) == set(ids)


def test_a_message_that_fails_costs_only_itself(bench: Bench) -> None:
    ids = _referrals(bench, 4)
    es, pt = bench[ES], bench[PT]
    one, two, three, four = _requests(es, PT)
    refused: list[Refusal] = []
    pt.receiving = Receiving(pt.node, refused.append)
    wrong = payload_pb2.Payload.FromString(two.envelope.payload)
    wrong.id, wrong.referral.root = "", new_id()
    bad = Request(envelope=es.seal(wrong, PT), lane=3, sequence=90)
    later = payload_pb2.Payload(referral_step=payload_pb2.ReferralStep(id=new_id()))
    later.referral_step.referral = later.referral_step.root = new_id()
    later.referral_step.state = "acknowledged"
    later.referral_step.step_time.FromDatetime(bench.now)
    early = Request(envelope=es.seal(later, PT), lane=3, sequence=91)
    newer = Request(envelope=es.seal(later, PT), lane=3, sequence=92)
    newer.envelope.payload_type = newer.envelope.payload_type.replace("referral_step", "moonshot")
    forged = Request(envelope=three.envelope, lane=3, sequence=93)
    forged.envelope.signatures[0].sig = bytes(70)
    reused = payload_pb2.Payload.FromString(one.envelope.payload)
    reused.referral.note = "another"
    again = Request(envelope=es.seal(reused, PT), lane=3, sequence=one.sequence)
    sent = [one, bad, two, early, newer, forged, again, three, four]
    replies = _send(bench, sent)
    retried = [APPLIED, REFUSED, APPLIED, RETRY, UNSUPPORTED, RETRY, REFUSED, APPLIED, APPLIED]
    assert replies == retried
    assert _inbox(pt) == set(ids)
    assert [one.reason for one in refused] == ["SIGNATURE_REFUSED", "REQUEST_ID_REUSED"]
    assert len(pt.audit("referral.received")) == 4


def test_a_fault_of_the_program_costs_only_its_message(bench: Bench) -> None:
    ids = _referrals(bench, 3)
    pt = bench[PT]
    honest, count = pt.receiving._handlers["referral"], []

    def broken(message: object) -> object:
        count.append(1)
        if len(count) == 2:
            raise KeyError("a mistake")
        subject, effect = honest(message)  # type: ignore[arg-type]

        def faulty(tx: Tx) -> None:
            effect(tx)
            if len(count) == 3 and subject == ids[0]:
                raise ZeroDivisionError

        return subject, faulty

    pt.receiving._handlers["referral"] = broken  # type: ignore[assignment]
    assert _send(bench, _requests(bench[ES], PT)) == [RETRY, RETRY, APPLIED]
    assert _inbox(pt) == {ids[2]}
    assert len(pt.audit("referral.received")) == 1


def test_when_storage_fails_nothing_of_a_batch_is_said_to_be_applied(bench: Bench) -> None:
    _referrals(bench, 3)
    pt = bench[PT]
    requests = _requests(bench[ES], PT)
    honest = pt.store.write

    def failing(work: Callable[[Tx], object]) -> object:
        def full(tx: Tx) -> object:
            work(tx)
            raise StorageUnavailable("disk full")

        return honest(full)

    pt.store.write = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(StorageUnavailable):
        _send(bench, requests)
    assert _inbox(pt) == set()
    pt.store.write = honest  # type: ignore[method-assign]
    assert _send(bench, requests) == [APPLIED] * 3


def _batches(node: Running, *answers: TielineError | None) -> list[list[int]]:
    """Note the lanes of each batch that a node is given; raise the answers that are errors."""
    honest, left, seen = node.receiving.take, list(answers), []

    def take(
        peer: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        seen.append([one.lane for one in request.messages])
        answer = left.pop(0) if left else None
        if answer is not None:
            raise answer
        return honest(peer, request)

    node.receiving.take = take  # type: ignore[method-assign]
    return seen


def test_a_queue_goes_in_full_batches_by_urgency_and_in_order(bench: Bench) -> None:
    routine = _referrals(bench, limits.DELIVERY_BATCH + 5, urgency=3)
    urgent = _referrals(bench, 2, urgency=2)
    now = _referrals(bench, 1, urgency=1)
    pt = bench[PT]
    seen = _batches(pt)
    bench.flow()
    assert seen == [[1, 2, 2, *[3] * (limits.DELIVERY_BATCH - 3)], [3] * 8]
    came = [entry["subjects"][1] for entry in pt.audit("referral.received")]  # type: ignore[index]
    assert came == [*now, *urgent, *routine]
    assert not bench[ES].node.store.read(lambda tx: tx.outbox.destinations())


@pytest.mark.parametrize("error", [InvalidInput("one of these"), LimitExceeded("too much")])
def test_a_batch_that_is_refused_whole_goes_on_without_loss(
    bench: Bench, error: TielineError
) -> None:
    ids = _referrals(bench, 5)
    _batches(bench[PT], error)
    bench.flow()
    assert _inbox(bench[PT]) == set(ids)
    assert not bench[ES].store.read(lambda tx: tx.outbox.find(state=OutState.REFUSED))


def test_a_peer_of_v1_0_gets_the_same_one_by_one(bench: Bench) -> None:
    ids = _referrals(bench, 5)
    pt = bench[PT]
    pt.one_by_one = True
    bench.flow()
    assert _inbox(pt) == set(ids)


def test_one_subject_is_once_in_a_batch_and_in_order(bench: Bench) -> None:
    """A step that is put off must not be overtaken by the next one of the same referral."""
    from tieline_server.services.referring import Referring

    (referral,) = _referrals(bench, 1)
    bench.flow()
    es, pt = bench[ES], bench[PT]
    pt.engine.stop()
    for state in ("acknowledged", "accepted", "declined"):
        request = operator_pb2.StepReferralRequest(id=referral, state=state, text="why")
        Referring(pt.node).step(ANA, request)
    batch = [one.subject for one in pt.queued(ES)]
    assert batch == [referral] * 3
    from tieline_server.delivery.drafts import next_batch

    ready = pt.store.read(lambda tx: next_batch(tx, ES, 64, bench.now)).ready
    assert [one.message.sequence for one in ready] == [1]
    assert es.store.read(lambda tx: tx.referrals.get(referral))


def test_an_immediate_message_overtakes_between_the_chunks_of_a_routine_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ITEMS_PER_CHUNK", 10)
    es, pt = bench[ES], bench[PT]
    slow = es.series(records(range(30)), name="large")
    (routine,) = es.refer(slow, country="PT", urgency=3)
    order: list[str] = []
    put = pt.receiver.put
    sent: list[operator_pb2.ReferralView] = []

    def slowly(peer: str, request: delivery_pb2.PutChunkRequest) -> object:
        if request.chunk:
            order.append(f"chunk {request.index}")
        if request.chunk and request.index == 0 and not sent:
            sent.extend(es.refer(_series(es), country="PT", urgency=1))
        return put(peer, request)

    def noted(peer: str, request: Request) -> delivery_pb2.DeliverResponse:
        order.append(f"message of lane {request.lane}")
        return honest(peer, request)

    honest = pt.receiving.deliver
    pt.receiver.put = slowly  # type: ignore[method-assign, assignment]
    pt.receiving.deliver = noted  # type: ignore[method-assign]
    bench.flow()
    assert order == [*("chunk 0", "message of lane 1", "chunk 1", "chunk 2", "message of lane 3")]
    assert [entry.id for entry in pt.inbox()] == [sent[0].id, routine.id]


def test_what_is_put_off_is_tried_again_whatever_the_clock_says(bench: Bench) -> None:
    """The clock stands still, then is a day behind: neither keeps a message for good."""
    (referral,) = _referrals(bench, 1)
    pt, es = bench[PT], bench[ES]
    replies = [delivery_pb2.DeliverResponse(reply=RETRY, text="not now")] * 2
    honest = pt.receiving.deliver

    def later(peer: str, request: Request) -> delivery_pb2.DeliverResponse:
        if replies:
            bench.now -= timedelta(hours=1)
            return replies.pop()
        return honest(peer, request)

    pt.receiving.deliver = later  # type: ignore[method-assign]
    es.node.wake = es.engine.wake
    es.engine.start()

    def held() -> list[OutMessage]:
        return [m for m in es.store.read(lambda tx: tx.outbox.find()) if m.held_until]

    wait_for("it is put off", held)
    bench.now += timedelta(hours=3)
    es.engine.wake(PT)
    wait_for("it arrived", lambda: _inbox(pt) == {referral})


def test_constraints_hold_a_batch_to_its_size() -> None:
    batch = delivery_pb2.DeliverBatchRequest(messages=[Request()] * (limits.DELIVERY_BATCH + 1))
    with pytest.raises(InvalidInput):
        constraints.check(batch)
