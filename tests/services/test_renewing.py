"""What waits for longer than a signature holds is signed anew: no message is lost to time."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tieline.v1 import delivery_pb2, envelope_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.payloads import Audience, is_renewal, moment
from tieline_server.delivery.drafts import next_batch
from tieline_server.domain.messages import InMessage, OutState, Reply
from tieline_server.services.inbox import Mailbox
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ANA, ES, FR, PT, Bench, Running, records

LONG = limits.ENVELOPE_LIFE + limits.CLOCK_TOLERANCE + timedelta(days=30)


@pytest.fixture(autouse=True)
def without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewritings of the database may follow one another at once."""
    monkeypatch.setattr("tieline_server.storage.scrubbing.PAUSE", 0)


def _back(bench: Bench, *agencies: str) -> None:
    """Those who were away are there again, and everybody hears of it."""
    bench.offline.difference_update(agencies)
    for running in bench.nodes.values():
        for agency in agencies:
            running.engine.heard_from(agency)
    bench.flow()


def _withdraw(node: Running, series: str) -> None:
    request = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="court")
    Retracting(node.node).retract(ANA, request)


def _states(node: Running, series: str) -> dict[str, str]:
    view = SeriesWork(node.node).get(series)
    return {one.agency: one.state for one in view.retraction.recipients}


def _came(node: Running, kind: str) -> InMessage:
    (entry,) = node.audit(f"{kind}.received")
    sender, message = str(entry["peer"]), str(entry["subjects"][0])  # type: ignore[index]
    found = node.store.read(lambda tx: tx.inbox.get(sender, message))
    assert found is not None
    return found


def test_a_referral_that_waited_too_long_arrives_once_in_its_place(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    bench.offline.add(PT)
    es.refer(es.series(records([1]), name="old"), country="PT")
    bench.flow()
    (listed,) = es.store.read(lambda tx: tx.outbox.find(state=OutState.QUEUED))
    before = es.store.read(lambda tx: tx.outbox.get(PT, listed.id))
    assert before is not None
    bench.now += LONG
    es.refer(es.series(records([2]), name="new"), country="PT")
    _back(bench, PT)
    assert len(pt.inbox()) == 2
    assert [one.state for one in Mailbox(es.node).outbox(_all()).entries] == ["delivered"] * 2
    (logged,) = es.audit("message.renewed")
    assert logged["subjects"][0] == before.id  # type: ignore[index]
    came = pt.store.read(lambda tx: tx.inbox.get(ES, before.id))
    assert came is not None
    assert (came.sequence, came.reply) == (before.sequence, Reply.APPLIED)
    assert is_renewal(_payload(came.envelope), _payload(before.envelope))
    assert moment(_payload(came.envelope).issue_time) == bench.now


def _all() -> operator_pb2.ListOutboxRequest:
    return operator_pb2.ListOutboxRequest()


def _payload(envelope: bytes) -> payload_pb2.Payload:
    return payload_pb2.Payload.FromString(envelope_pb2.Envelope.FromString(envelope).payload)


def test_an_owners_withdrawal_outlives_any_absence(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    es.refer(series, country="PT")
    bench.flow()
    bench.offline.add(PT)
    _withdraw(es, series)
    bench.flow()
    for _ in range(3):  # the directory lives, the clock goes on; the loop looks again and again
        bench.now += LONG
        es.engine.heard_from(PT)
    _back(bench, PT)
    assert Purging(pt.node).run()
    bench.flow()
    assert _states(es, series) == {PT: "confirmed"}
    assert pt.store.read(lambda tx: tx.items.count_of_series(series)) == 0


def test_a_withdrawal_reaches_the_last_who_was_told_though_each_was_away_for_long(
    bench: Bench,
) -> None:
    """The owner's own envelope, inside, has expired by then; so has the receipt on its way back."""
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    series = es.series(records(range(3)))
    es.refer(series, country="PT")
    bench.flow()
    (entry,) = pt.inbox()
    step = operator_pb2.StepReferralRequest(id=entry.id, state="passed_on", passed_to=FR)
    Referring(pt.node).step(ANA, step)
    bench.flow()
    assert len(fr.inbox()) == 1
    bench.offline.add(FR)
    _withdraw(es, series)
    bench.flow()
    bench.now += LONG
    bench.offline.add(ES)  # now FR is there and the owner is not
    _back(bench, FR)
    for node in (pt, fr):
        assert Purging(node.node).run()
    bench.flow()
    bench.now += LONG
    _back(bench, ES)
    assert _states(es, series) == {PT: "confirmed", FR: "confirmed"}


def test_a_renewed_message_whose_first_reply_was_lost_has_one_effect(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    es.refer(es.series(records([1])), country="PT")
    bench.flow()
    came = _came(pt, "referral")
    # The reply was lost, then the line: the sender knows nothing of it.
    es.store.write(lambda tx: tx.outbox.settle(PT, came.id, OutState.QUEUED, bench.now))
    bench.now += LONG
    es.engine.wake(PT)
    bench.flow()
    assert len(pt.inbox()) == 1
    assert len(pt.audit("referral.received")) == 1
    settled = es.store.read(lambda tx: tx.outbox.get(PT, came.id))
    assert settled is not None
    assert settled.state is OutState.DELIVERED
    assert not pt.audit("alarm.reused_id")
    assert es.audit("message.renewed")


def test_another_body_under_the_id_is_still_refused_and_alarmed(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    es.refer(es.series(records([1])), country="PT")
    bench.flow()
    came = _came(pt, "referral")
    changed = _payload(came.envelope)
    changed.referral.urgency = 1
    envelope = es.node.sealer.seal(changed, Audience(agency=PT), bench.now)
    request = delivery_pb2.DeliverRequest(
        envelope=envelope, lane=int(came.lane), sequence=came.sequence, epoch=es.node.epoch
    )
    (reply,) = pt.receiving.deliver_batch(ES, [request])
    assert (reply.reply, reply.reason) == (int(Reply.REFUSED), "REQUEST_ID_REUSED")
    assert pt.audit("alarm.reused_id")


def test_it_is_renewed_before_a_recipient_with_a_fast_clock_could_refuse_it(bench: Bench) -> None:
    es = bench[ES]
    bench.offline.add(PT)
    es.refer(es.series(records([1])), country="PT")
    early = bench.now + limits.ENVELOPE_LIFE - limits.CLOCK_TOLERANCE
    minute = timedelta(minutes=1)
    looks = [
        es.store.read(lambda tx, at=at: next_batch(tx, PT, 64, at))  # type: ignore[misc]
        for at in (early - minute, early + minute)
    ]
    assert [(len(one.ready), len(one.stale)) for one in looks] == [(1, 0), (0, 1)]
