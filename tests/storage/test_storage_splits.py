"""Splits of series, and moving what they name: one contract, on either database."""

from __future__ import annotations

from dataclasses import replace

from tieline_client.digests import DigestKind
from tieline_client.identifiers import new_id
from tieline_server.domain.messages import OutMessage, OutState
from tieline_server.domain.ports import Attachment, Store
from tieline_server.domain.referral import Urgency
from tieline_server.domain.splitting import Split, pack_marks

from tests.storage.building import NOON, load, md5, record

OLD, MADE = "pt-pj/old", "pt-pj/made"


def _split() -> Split:
    name = new_id()
    marks = pack_marks(name, [(DigestKind.MD5, md5("a"))])
    return Split(name, OLD, MADE, "ana", NOON, NOON, marks, b"\x01", b"\x02")


def _held(store: Store, series: str) -> list[int]:
    return [one.id for one in store.read(lambda tx: tx.items.of_series(series, after=0, limit=99))]


def test_a_split_comes_back_as_it_was_kept(store: Store) -> None:
    one = _split()
    assert store.write(lambda tx: tx.splits.add(one))
    assert not store.write(lambda tx: tx.splits.add(replace(one, person="rui")))
    assert store.read(lambda tx: tx.splits.of(OLD)) == [one]
    assert store.read(lambda tx: tx.splits.making(MADE)) == [one]
    assert store.read(lambda tx: tx.splits.of(MADE)) == []
    assert store.write(lambda tx: tx.splits.tell(one, "es-gc"))
    assert not store.write(lambda tx: tx.splits.tell(one, "es-gc"))
    assert store.read(lambda tx: tx.splits.told(MADE)) == ["es-gc"]
    assert store.read(lambda tx: tx.splits.told(OLD)) == []
    store.write(lambda tx: tx.erasure.series(MADE))
    (left,) = store.read(lambda tx: tx.splits.of(OLD))
    assert left == replace(one, person="", notice=b"", envelope=b"")


def test_holdings_move_and_are_dropped(store: Store) -> None:
    load(store, [record(1, md5="a"), record(2, md5="b"), record(3, md5="c")], OLD)
    load(store, [record(1, md5="a")], OLD, case="C-2")
    first, second, third = _held(store, OLD)
    before = store.read(lambda tx: (tx.items.stats(), tx.items.erasures()))
    assert store.write(lambda tx: tx.splits.move(OLD, MADE, [first, second])) == 3
    assert store.write(lambda tx: tx.splits.move(OLD, MADE, [first])) == 0
    assert (_held(store, OLD), _held(store, MADE)) == ([third], [first, second])
    after = store.read(lambda tx: (tx.items.stats(), tx.items.erasures()))
    assert after[0].holdings == before[0].holdings and after[0].items == before[0].items
    assert after[1] > before[1], "an answer under way decides anew"
    assert store.write(lambda tx: tx.splits.drop(MADE, [first])) == 2
    assert _held(store, MADE) == [second]
    assert store.read(lambda tx: tx.items.stats()).items == before[0].items - 1


def test_chunks_under_the_old_id_go_once_they_were_sent(store: Store) -> None:
    one = _split()
    store.write(lambda tx: tx.splits.add(one))
    attachment = Attachment("f" * 64, "es-gc", 1, 1, series=OLD)
    store.write(lambda tx: tx.attachments.add_outgoing(attachment, [b"chunk"]))
    message = OutMessage(
        id=new_id(),
        recipient="es-gc",
        lane=Urgency.URGENT,
        kind="referral",
        subject="r",
        envelope=b"e",
        created=NOON,
        attachment=attachment.id,
    )
    store.write(lambda tx: tx.outbox.add(message))
    assert store.write(lambda tx: tx.splits.chunks_left(MADE))
    assert store.read(lambda tx: tx.attachments.chunk(attachment.id, 0)) == b"chunk"
    store.write(lambda tx: tx.outbox.settle("es-gc", message.id, OutState.DELIVERED, NOON))
    assert not store.write(lambda tx: tx.splits.chunks_left(MADE))
    assert store.read(lambda tx: tx.attachments.chunk(attachment.id, 0)) is None


def test_a_word_that_is_still_to_go_is_waited_for(store: Store) -> None:
    store.write(lambda tx: tx.splits.add(_split()))
    assert not store.read(lambda tx: tx.splits.waits(MADE, "es-gc"))
    message = OutMessage(
        id=new_id(),
        recipient="es-gc",
        lane=Urgency.IMMEDIATE,
        kind="series_split",
        subject=MADE,
        envelope=b"e",
        created=NOON,
    )
    store.write(lambda tx: tx.outbox.add(message))
    assert store.read(lambda tx: tx.splits.waits(MADE, "es-gc"))
    store.write(lambda tx: tx.outbox.settle("es-gc", message.id, OutState.PARKED, NOON))
    assert store.read(lambda tx: tx.splits.waits(MADE, "es-gc"))
    store.write(lambda tx: tx.outbox.settle("es-gc", message.id, OutState.DELIVERED, NOON))
    assert not store.read(lambda tx: tx.splits.waits(MADE, "es-gc"))
