"""A series' items on their way: all of them count, or none; nothing staged outlives a refusal."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tieline.v1 import delivery_pb2, digests_pb2, envelope_pb2, operator_pb2, payload_pb2
from tieline_client import constraints, limits
from tieline_client.errors import InvalidDigest, InvalidInput, MalformedMessage, TielineError
from tieline_client.formats.record import Vote
from tieline_client.identifiers import new_id, new_series_id
from tieline_server.domain.ports import Attachment
from tieline_server.services.attachments import Packed, drop_stale, pack_series
from tieline_server.services.item_chunks import decode
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ABUSE,
    ANA,
    CASE,
    ES,
    HUB,
    ICE,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)

Payload = payload_pb2.Payload
Chunk = digests_pb2.ItemChunk


def _chunk(*items: int, **changes: Any) -> Chunk:
    """A chunk as an honest sender makes it: SHA-1 only, one column."""
    digests = sorted((record(n).sha1 or b"", index) for index, n in enumerate(items))
    column = digests_pb2.DigestColumn(
        list=digests_pb2.DigestList(
            kind=digests_pb2.DIGEST_KIND_SHA1, digests=b"".join(d for d, _ in digests)
        ),
        items=[index for _, index in digests],
    )
    fields: dict[str, Any] = {"items": len(items), "columns": [column]}
    return Chunk(**(fields | changes))


def _packed(series: str, *chunks: Chunk | bytes, items: int = 0) -> Packed:
    data = tuple(c if isinstance(c, bytes) else c.SerializeToString() for c in chunks)
    digests = b"".join(hashlib.sha256(one).digest() for one in data)
    name = hashlib.sha256(series.encode() + digests).hexdigest()
    count = items or sum(one.items for one in chunks if isinstance(one, Chunk))
    return Packed(Attachment(name, "", len(data), count, series=series), data)


def _put(sender: Running, to: str, packed: Packed, index: int | None = None, **changes: Any) -> int:
    """Send one chunk (or ask where it stands); return the index that is next."""
    one = packed.attachment
    fields: dict[str, Any] = {
        "attachment": one.id,
        "chunks": one.chunks,
        "items": one.items,
        "kind": "referral",
        "purpose": PURPOSE,
        "series": one.series,
        "index": index or 0,
        "chunk": b"" if index is None else packed.chunks[index],
    }
    request = delivery_pb2.PutChunkRequest(**(fields | changes))
    return sender.node.peers.put_chunk(to, request).next_index


def _staged(node: Running) -> list[str]:
    return list(node.store.read(lambda tx: tx.imports.incomplete()))


def _counts(node: Running) -> tuple[int, int]:
    stats = node.store.read(lambda tx: tx.items.stats())
    return stats.items, stats.holdings


def _referral(sender: Running, packed: Packed, **changes: Any) -> Payload:
    """The message that names the items."""
    request = operator_pb2.CreateSeriesRequest(name=new_id(), case_ref=CASE)
    made = SeriesWork(sender.node).create(ANA, request)
    (view,) = sender.refer(made.notice.id, agency=PT)
    queued = [one for one in sender.queued(PT) if one.subject == view.id]
    payload = Payload.FromString(envelope_pb2.Envelope.FromString(queued[0].envelope).payload)
    payload.ClearField("id")
    payload.referral.series.id = packed.attachment.series
    payload.referral.items.CopyFrom(packed.reference())
    for name, value in changes.items():
        setattr(payload.referral.items, name, value)
    return payload


def _deliver(sender: Running, payload: Payload, to: str = PT) -> delivery_pb2.DeliverResponse:
    return sender.deliver(sender.seal(payload, to), to)


# --- packing --------------------------------------------------------------------------------------


def test_what_was_packed_decodes_to_the_same_items(bench: Bench) -> None:
    es = bench[ES]
    shared = record(1).md5
    rows = [
        record(1, kinds="md5 sha1 sha256"),
        record(2, kinds="sha256 pdq"),
        record(3, kinds="sha1", md5=shared, votes=(ABUSE, Vote("vics-uk", "A"))),
    ]
    packed = pack_series(es.node, es.series(rows), PT)
    assert packed is not None
    (chunk,) = packed.chunks
    decoded = decode(Chunk.FromString(chunk), ES).records()
    as_set = {(one.md5, one.sha1, one.sha256, one.pdq, frozenset(one.votes)) for one in decoded}
    assert as_set == {(r.md5, r.sha1, r.sha256, r.pdq, frozenset(r.votes)) for r in rows}


def test_the_same_items_pack_to_the_same_bytes(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(9)))
    assert pack_series(es.node, series, PT) == pack_series(es.node, series, PT)


def test_a_series_without_items_has_nothing_to_pack(bench: Bench) -> None:
    assert pack_series(bench[ES].node, new_series_id(ES), PT) is None


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=400))
def test_whatever_comes_as_a_chunk_is_items_or_refused(data: bytes) -> None:
    try:
        found = decode(constraints.open_nested(data, Chunk), ES).records()
    except TielineError:
        return
    assert all(one.md5 or one.sha1 or one.sha256 or one.pdq for one in found)


_COLUMN = _chunk(1, 2).columns[0]


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(1, 2, items=0),
        _chunk(1, 2, items=3),
        _chunk(1, 2, items=1),
        _chunk(1, 2, items=limits.ITEMS_PER_CHUNK + 1),
        _chunk(1, 2, columns=[_COLUMN, _COLUMN]),
        _chunk(1, 2, columns=[digests_pb2.DigestColumn(list=_COLUMN.list, items=[0])]),
        _chunk(1, 2, columns=[digests_pb2.DigestColumn(list=_COLUMN.list, items=[0, 0])]),
        _chunk(
            *(1, 2),
            columns=[
                digests_pb2.DigestColumn(
                    list=_COLUMN.list, items=[0, 1], extra_digests=[2], extra_items=[0]
                )
            ],
        ),
        _chunk(
            *(1, 2),
            columns=[digests_pb2.DigestColumn(list=_COLUMN.list, items=[0, 1], extra_digests=[0])],
        ),
        _chunk(1, 2, votes=[digests_pb2.CategoryVote(item=2, agency=ES, scheme="x", code="1")]),
        _chunk(1, 2, votes=[digests_pb2.CategoryVote(item=0, agency=PT, scheme="x", code="1")]),
    ],
    ids=[
        "no items",
        "an item without a digest",
        "an item that is not there",
        "over the cap",
        "a kind twice",
        "a digest without an item",
        "an item with two",
        "a further digest that is not there",
        "half a further pair",
        "a vote for nothing",
        "a vote of somebody else",
    ],
)
def test_a_chunk_that_does_not_fit_together(bench: Bench, chunk: Chunk) -> None:
    with pytest.raises(InvalidInput):
        decode(chunk, ES)
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), chunk, items=2)
    with pytest.raises(TielineError):
        _put(es, PT, packed, 0)
    assert _put(es, PT, packed) == 0
    assert _counts(pt) == (0, 0)


# --- coming in ------------------------------------------------------------------------------------


def _two(series: str) -> Packed:
    """Two chunks: a full one, and a rest of one item."""
    full = limits.ITEMS_PER_CHUNK
    return _packed(series, _chunk(*range(full)), _chunk(full))


def test_chunks_come_in_order_and_go_on_where_they_broke_off(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _two(new_series_id(ES))
    assert _put(es, PT, packed) == 0
    assert _put(es, PT, packed, 1) == 0
    assert _put(es, PT, packed, 0) == 1
    assert _put(es, PT, packed, 0) == 1
    assert _put(es, PT, packed) == 1
    assert _counts(pt) == (0, 0)
    waits = _deliver(es, _referral(es, packed))
    assert (waits.reply, waits.text) == (delivery_pb2.REPLY_RETRY, "1 of 2 chunks have come")
    assert _put(es, PT, packed, 1) == 2
    assert _deliver(es, _referral(es, packed)).reply == delivery_pb2.REPLY_APPLIED
    assert _counts(pt) == (5_001, 5_001)
    assert _staged(pt) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"chunks": 3},
        {"items": 5_002},
        {"series": new_series_id(ES)},
    ],
)
def test_an_attachment_keeps_what_it_was_announced_as(
    bench: Bench, changes: dict[str, Any]
) -> None:
    es, _ = bench[ES], bench[PT]
    packed = _two(new_series_id(ES))
    assert _put(es, PT, packed, 0) == 1
    with pytest.raises(InvalidInput, match="other counts"):
        _put(es, PT, packed, 1, **changes)
    assert _put(es, PT, packed) == 1


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"attachment": "x" * 64}, InvalidInput),
        ({"attachment": "ab"}, InvalidInput),
        ({"chunks": 0}, InvalidInput),
        ({"chunks": 3}, InvalidInput),
        ({"items": 0}, InvalidInput),
        ({"items": 10**7}, TielineError),
        ({"kind": "gift"}, InvalidInput),
        ({"kind": "upload"}, TielineError),
        ({"kind": "broadcast"}, TielineError),
        ({"purpose": "no-such"}, InvalidInput),
        ({"series": "es-gc"}, InvalidInput),
    ],
)
def test_an_announcement_that_does_not_hold(
    bench: Bench, changes: dict[str, Any], error: type[TielineError]
) -> None:
    es, pt = bench[ES], bench[PT]
    with pytest.raises(error):
        _put(es, PT, _two(new_series_id(ES)), 0, **changes)
    assert _staged(pt) == []


def test_more_than_was_announced_does_not_come_in(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    few = Packed(
        Attachment(packed.attachment.id, "", 1, 1, series=packed.attachment.series), packed.chunks
    )
    with pytest.raises(InvalidInput, match="not the 1 announced"):
        _put(es, PT, few, 0)
    honest = _packed(new_series_id(ES), _chunk(3, 4))
    assert _put(es, PT, honest, 0) == 1
    one_more = Packed(honest.attachment, (*honest.chunks, _chunk(5).SerializeToString()))
    with pytest.raises(InvalidInput, match="1 chunks only"):
        _put(es, PT, one_more, 1)
    assert _counts(pt) == (0, 0)


def test_bytes_with_the_look_of_a_picture_are_no_chunk(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    # The opening of a JFIF file, made up: as the chunk itself, and as its digests (threats.md 26).
    head = bytes.fromhex("ffd8ffe000104a46494600010101004800480000ffdb004300") + bytes(range(255))
    as_itself = _packed(new_series_id(ES), head, items=14)
    with pytest.raises(MalformedMessage):
        _put(es, PT, as_itself, 0)
    column = digests_pb2.DigestColumn(
        list=digests_pb2.DigestList(kind=digests_pb2.DIGEST_KIND_SHA1, digests=head),
        items=range(14),
    )
    as_digests = _packed(new_series_id(ES), Chunk(items=14, columns=[column]))
    with pytest.raises(InvalidDigest, match="ascending"):
        _put(es, PT, as_digests, 0)
    assert _counts(pt) == (0, 0)


def test_chunks_that_are_not_those_of_the_name_count_for_nothing(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    series = new_series_id(ES)
    told = _packed(series, _chunk(1, 2))
    other = Packed(told.attachment, (_chunk(3, 4).SerializeToString(),))
    assert _put(es, PT, other, 0) == 1
    assert len(_staged(pt)) == 1
    answer = _deliver(es, _referral(es, told))
    assert (answer.reply, answer.reason) == (delivery_pb2.REPLY_REFUSED, "INVALID_INPUT")
    assert _staged(pt) == []
    assert _counts(pt) == (0, 0)
    assert pt.store.read(lambda tx: tx.series.find()) == []


@pytest.mark.parametrize("changes", [{"items": 3}, {"chunks": 2}])
def test_a_message_with_other_counts_than_its_chunks(bench: Bench, changes: dict[str, int]) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    _put(es, PT, packed, 0)
    assert _deliver(es, _referral(es, packed, **changes)).reply == delivery_pb2.REPLY_REFUSED
    assert (_staged(pt), _counts(pt)) == ([], (0, 0))


def test_a_message_about_another_series_does_not_take_the_items(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    _put(es, PT, packed, 0)
    payload = _referral(es, packed)
    payload.referral.series.id = new_series_id(ES)
    assert _deliver(es, payload).reply == delivery_pb2.REPLY_REFUSED
    assert (_staged(pt), _counts(pt)) == ([], (0, 0))


def test_another_members_chunks_are_not_mine(bench: Bench) -> None:
    es, pt, ice = bench[ES], bench[PT], bench[ICE]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    _put(es, PT, packed, 0)
    # ICE names the same attachment: it stands at the beginning, and ES's stays as it was.
    assert _put(ice, PT, packed) == 0
    assert _put(es, PT, packed) == 1
    assert len(_staged(pt)) == 2


def test_a_refused_message_erases_what_it_staged(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    _put(es, PT, packed, 0)
    payload = _referral(es, packed)
    payload.referral.country = "pt"
    assert _deliver(es, payload).reply == delivery_pb2.REPLY_REFUSED
    assert _staged(pt) == []
    # Sent anew with sense, it arrives.
    payload.referral.country = "PT"
    payload.ClearField("id")
    assert _put(es, PT, packed, 0) == 1
    assert _deliver(es, payload).reply == delivery_pb2.REPLY_APPLIED
    assert _counts(pt) == (2, 2)


def test_items_staged_as_a_deposit_do_not_become_answers_by_a_referral(bench: Bench) -> None:
    """A referral's items answer no peer, whatever its sender called them in PutChunk."""
    hub, es, _ = bench[HUB], bench[ES], bench[INTERPOL]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    assert _put(es, INTERPOL, packed, 0, kind="upload") == 1
    upload = Payload(upload=payload_pb2.Upload(id=new_id(), items=packed.reference()))
    upload.upload.series.CopyFrom(_referral(es, packed).referral.series)
    assert _deliver(es, upload, INTERPOL).reply == delivery_pb2.REPLY_APPLIED
    _, overlaps = hub.ask([record(1)], INTERPOL)
    assert len(overlaps[INTERPOL]) == 1
    pt = bench[PT]
    again = _packed(new_series_id(ES), _chunk(3, 4))
    assert _put(es, PT, again, 0) == 1
    assert _deliver(es, _referral(es, again)).reply == delivery_pb2.REPLY_APPLIED
    assert _counts(pt) == (2, 2)
    _, overlaps = hub.ask([record(3)], PT)
    assert overlaps == {}


def test_staged_items_that_nobody_claims_are_erased_in_time(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    packed = _packed(new_series_id(ES), _chunk(1, 2))
    _put(es, PT, packed, 0)
    bench.now += limits.STAGED_LIFE
    assert drop_stale(pt.node) == 0
    bench.now += limits.CLOCK_TOLERANCE
    assert drop_stale(pt.node) == 1
    assert _staged(pt) == []
    assert _put(es, PT, packed) == 0


def test_a_peer_may_have_only_so_many_attachments_open(bench: Bench) -> None:
    es, _ = bench[ES], bench[PT]
    series = new_series_id(ES)
    for number in range(limits.ATTACHMENTS_OPEN_PER_PEER):
        _put(es, PT, _packed(series, _chunk(number)))
    with pytest.raises(TielineError) as refusal:
        _put(es, PT, _packed(series, _chunk(10**6)))
    assert refusal.value.reason == "LIMIT_EXCEEDED"
    # Others are not affected.
    assert _put(bench[ICE], PT, _packed(new_series_id(ICE), _chunk(1)), 0) == 1


# --- deposits -------------------------------------------------------------------------------------


def _upload(node: Running, series: str) -> operator_pb2.UploadView:
    request = operator_pb2.UploadSeriesRequest(
        series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    return Uploading(node.node).upload(ANA, request)[0]


def _step(node: Running, upload: str, state: str, reference: str = "") -> operator_pb2.UploadView:
    request = operator_pb2.StepUploadRequest(id=upload, state=state, reference=reference)
    return Uploading(node.node).step(ANA, request)


def test_a_deposit_is_numbered_and_additions_come_under_the_same_number(bench: Bench) -> None:
    es, interpol = bench[ES], bench[INTERPOL]
    series = es.series(records(range(5)))
    first = _upload(es, series)
    bench.flow()
    assert _upload(es, series).unchanged
    _step(interpol, first.id, "media_requested")
    numbered = _step(interpol, first.id, "numbered")
    assert numbered.reference == "INTERPOL-2026-000001"
    bench.flow()
    (mine,) = Uploading(es.node).find()
    assert (mine.state, mine.reference) == ("numbered", numbered.reference)
    es.series(records(range(3, 9)))
    second = _upload(es, series)
    assert (second.items, second.unchanged) == (4, False)
    bench.flow()
    states = {one.id: (one.state, one.reference) for one in Uploading(es.node).find()}
    assert states[second.id] == ("numbered", numbered.reference)
    assert interpol.store.read(lambda tx: tx.items.count_of_series(series)) == 9
    other = _upload(es, es.series(records(range(20, 22)), name="Verde"))
    bench.flow()
    assert _step(interpol, other.id, "numbered").reference == "INTERPOL-2026-000002"


@pytest.mark.parametrize(
    ("state", "reference", "words"),
    [
        ("announced", "", "cannot become"),
        ("media_requested", "", "cannot become"),
        ("lost", "", "no state"),
    ],
)
def test_a_deposits_step_that_cannot_be_taken(
    bench: Bench, state: str, reference: str, words: str
) -> None:
    es, interpol = bench[ES], bench[INTERPOL]
    upload = _upload(es, es.series(records(range(2))))
    bench.flow()
    _step(interpol, upload.id, "media_received", "BOX 7")
    with pytest.raises(TielineError, match=words):
        _step(interpol, upload.id, state, reference)


def test_only_a_repository_takes_and_moves_deposits(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(2)))
    upload = _upload(es, series)
    with pytest.raises(TielineError, match="only the repository"):
        _step(es, upload.id, "numbered")
    request = operator_pb2.UploadSeriesRequest(
        series=[series], repository=PT, purpose=PURPOSE, case_ref=CASE
    )
    with pytest.raises(InvalidInput, match="no repository"):
        Uploading(es.node).upload(ANA, request)


def test_one_series_that_cannot_go_keeps_the_others_back(bench: Bench) -> None:
    es = bench[ES]
    series = es.series(records(range(2)))
    request = operator_pb2.UploadSeriesRequest(
        series=[series, new_series_id(ES)], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
    )
    with pytest.raises(TielineError, match="no series"):
        Uploading(es.node).upload(ANA, request)
    assert es.queued(INTERPOL) == []
