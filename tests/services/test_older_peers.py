"""What a peer's version of the wire cannot read waits, says so, and holds nothing else up."""

from __future__ import annotations

from typing import Any

from tieline.v1 import delivery_pb2, operator_links_pb2, operator_pb2, series_work_pb2
from tieline_client import WIRE_MINOR
from tieline_client.payload_kinds import unread
from tieline_client.payloads import kind_of
from tieline_server.domain.messages import OutState
from tieline_server.services.inbox import Mailbox
from tieline_server.services.merging import Merging
from tieline_server.services.notes import NoteDesk
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_life import SeriesLife

from tests.services.bench import ANA, CASE, ES, INTERPOL, PT, PURPOSE, Bench, Running, records
from tests.services.test_standing_service import contact
from tests.services.test_upload_numbers import deposit


def _watch(node: Running) -> list[str]:
    """Note the kinds of messages that reach a node."""
    seen: list[str] = []
    take, deliver = node.receiving.deliver_batch, node.receiving.deliver

    def batch(peer: str, requests: Any) -> Any:
        seen.extend(_kind(one) for one in requests)
        return take(peer, requests)

    def single(peer: str, request: Any) -> Any:
        seen.append(_kind(request))
        return deliver(peer, request)

    node.receiving.deliver_batch = batch  # type: ignore[method-assign]
    node.receiving.deliver = single  # type: ignore[method-assign]
    return seen


def _kind(request: Any) -> str:
    return kind_of(request.envelope)


def _outbox(node: Running, state: str) -> list[operator_pb2.OutboxEntry]:
    found = Mailbox(node.node).outbox(operator_pb2.ListOutboxRequest(state=state))
    return list(found.entries)


def _note(node: Running, series: str) -> None:
    why = {"purpose": PURPOSE, "case_ref": CASE}
    request = operator_links_pb2.AddNoteRequest(series=series, text="phone seized", **why)
    NoteDesk(node.node).add(ANA, request)


def test_newer_kinds_wait_and_older_ones_of_the_series_pass(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    part, kept = es.series(records(range(3))), es.series(records(range(5, 7)), "Verde")
    pt.wire = "v1.2"
    seen = _watch(pt)
    contact(es, PT)
    es.refer(part, agency=PT)
    bench.flow()
    _note(es, part)
    Merging(es.node).merge(ANA, series_work_pb2.MergeSeriesRequest(series=kept, merged=part))
    bench.flow()
    waiting = _outbox(es, "parked")
    assert {one.kind for one in waiting} == {"note", "series_merge"}
    for one in waiting:
        assert f"{PT} speaks v1.2 and reads no {one.kind} before v1.3" in one.reason
    # the retraction of the same series is not held up by them
    withdraw = operator_pb2.RetractSeriesRequest(series=kept, kind="withdraw", reason="court")
    Retracting(es.node).retract(ANA, withdraw)
    bench.flow()
    held = pt.store.read(lambda tx: tx.series.get(part))
    assert held is None or held.status.value == "withdrawn"
    assert "retraction" in seen and not unread("v1.2") & set(seen)


def test_a_message_of_the_same_subject_that_it_reads_is_not_parked_behind(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    pt.wire = "v1.2"
    series = es.series(records(range(3)))
    es.refer(series, agency=PT)
    contact(es, PT)
    bench.flow()
    _note(es, series)
    bench.flow()
    (parked,) = _outbox(es, "parked")
    behind = es.store.read(lambda tx: tx.outbox.behind(PT, {series}))
    assert behind.keys() == {series}
    newer = unread("v1.2")
    assert es.store.read(lambda tx: tx.outbox.behind(PT, {series}, passing=newer)) == {}
    assert parked.kind == "note"


def test_what_waited_is_sent_once_the_peer_reads_it(bench: Bench) -> None:
    there, here = bench[INTERPOL], bench[PT]
    series = here.series(records(range(3)))
    deposit(bench, series, PT)
    here.wire = "v1.2"
    contact(there, PT)
    move = series_work_pb2.SetSeriesStatusRequest(series=series, status="identified")
    SeriesLife(there.node).move(ANA, move)
    bench.flow()
    (waits,) = _outbox(there, "parked")
    assert waits.kind == "deposit_report"
    # not yet new enough: it goes on waiting, and is not asked
    seen = _watch(here)
    here.wire = "v1.1"
    contact(there, PT)
    bench.flow()
    assert len(_outbox(there, "parked")) == 1 and not seen
    here.wire = f"v1.{WIRE_MINOR}"
    contact(there, PT)
    bench.flow()
    assert not _outbox(there, "parked")
    known = here.store.read(lambda tx: tx.series.get(series))
    assert known is not None and known.status.value == "identified"


def test_a_peer_whose_version_is_not_known_is_asked(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = es.series(records(range(3)))
    es.refer(series, agency=PT)
    bench.flow()
    seen = _watch(pt)
    _note(es, series)
    bench.flow()
    assert seen == ["note"]
    assert not _outbox(es, "parked")


def test_what_is_taken_back_while_an_older_peer_is_asked_is_not_kept_for_later(
    bench: Bench,
) -> None:
    pt, es = bench[PT], bench[ES]
    series = pt.series(records([1]))
    pt.refer(series, country="ES")
    (message,) = pt.queued(ES)
    honest = es.receiving.deliver

    def deliver(peer: str, request: delivery_pb2.DeliverRequest) -> delivery_pb2.DeliverResponse:
        if kind_of(request.envelope) != "referral":
            return honest(peer, request)
        back = operator_pb2.RetractSeriesRequest(series=series, kind="withdraw", reason="x")
        Retracting(pt.node).retract(ANA, back)
        return delivery_pb2.DeliverResponse(
            reply=delivery_pb2.REPLY_UNSUPPORTED, reason="UNKNOWN_METHOD"
        )

    es.receiving.deliver = deliver  # type: ignore[method-assign]
    bench.flow()
    pt.store.write(lambda tx: tx.standings.revive(ES))  # ES is upgraded
    bench.flow()
    known = pt.store.read(lambda tx: tx.outbox.get(ES, message.id))
    assert known is not None and known.state is OutState.CANCELLED
