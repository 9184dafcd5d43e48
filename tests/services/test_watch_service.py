"""Standing queries at the own node: what is kept, how, for how long, and what is refused."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest
from tieline.v1 import digests_pb2, payload_pb2
from tieline.v1 import operator_watches_pb2 as pb
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    InvalidInput,
    LimitExceeded,
    MalformedMessage,
    NotFound,
    StorageUnavailable,
    TielineError,
)
from tieline_client.formats.record import Vote
from tieline_client.identifiers import new_id
from tieline_client.payloads import timestamp
from tieline_server.services import asked_lists, watch_lists
from tieline_server.services.watches import NewWatch, WatchDesk

from tests.services.bench import ANA, CASE, ES, FBI, PT, PURPOSE, Bench, Running, record, records
from tests.services.watching_here import add, by_hand, view, watch


def _header(running: Running, **changes: object) -> pb.WatchHeader:
    fields: dict[str, object] = {
        "purpose": PURPOSE,
        "case_ref": CASE,
        "records": 1,
        "counts": [1],
        "list_digest": hashlib.sha256(bytes(range(16))).digest(),
        "until_time": timestamp(running.bench.now + timedelta(days=3)),
    } | changes
    return pb.WatchHeader(**fields)  # type: ignore[arg-type]


def _column(*digests: bytes, items: tuple[int, ...] = (0,)) -> digests_pb2.DigestColumn:
    batch = DigestBatch.of(DigestKind.MD5, b"".join(digests))
    return digests_pb2.DigestColumn(list=batch.to_wire(), items=items)


def test_the_list_is_kept_encrypted_and_nowhere_else(bench: Bench) -> None:
    pt = bench[PT]
    watched = records(range(1, 4))
    number = watch(pt, watched, name="Azul", priority=7, reference="A-1")
    data = b"".join(path.read_bytes() for path in bench.folder.glob(f"{PT}.sqlite3*"))
    for one in watched:
        assert one.sha1 and one.sha1 not in data and one.sha1.hex().encode() not in data
    asked = pt.store.read(lambda tx: watch_lists.load(pt.node, tx, number))
    assert asked.counts() == [3, 3, 3, 0] and len(asked) == 3
    (entry,) = pt.audit("watch.added")
    assert entry["detail"]["records"] == 3 and "list" not in entry["detail"]  # type: ignore[operator, index]
    header = view(pt, number).watch.header
    assert (header.name, header.priority, header.reference) == ("Azul", 7, "A-1")


def test_a_piece_that_was_altered_or_moved_does_not_open(bench: Bench) -> None:
    pt = bench[PT]
    number = watch(pt, records(range(1, 4)))
    pieces = pt.store.read(lambda tx: tx.watches.pieces(number))
    bad = [pieces[0][:-1] + bytes([pieces[0][-1] ^ 1]), *pieces[1:]]
    for other in (bad, pieces[::-1]):
        with pytest.raises(StorageUnavailable, match="altered"):
            watch_lists.opened(pt.node, number, other)


def test_what_is_not_listed_or_known_good_stays_at_home(bench: Bench) -> None:
    pt = bench[PT]
    pt.load([record(2)], exclusions=True)
    mixed = [record(1), record(2), record(3, votes=(Vote("vics-us", "4"),))]
    said, *_ = add(pt, mixed[:2])
    assert said.known_good.kind and not WatchDesk(pt.node).find()  # type: ignore[attr-defined]
    number = watch(pt, [mixed[0], mixed[2]])
    header = view(pt, number).watch.header
    assert (header.records, header.excluded) == (1, 1)


def test_what_becomes_known_good_later_is_not_asked(bench: Bench) -> None:
    pt = bench[PT]
    bench[ES].series(records([1, 2]))
    number = watch(pt, records([1, 2]), peers=(ES,))
    pt.load([record(2)], exclusions=True)
    assert by_hand(pt)[ES].fresh == 1
    (asked,) = pt.audit("query.asked")
    assert asked["detail"]["records"] == 1 and asked["detail"]["excluded"] == 1  # type: ignore[index]
    assert view(pt, number).watch.peers[0].matched == 1


def test_records_that_repeat_others_are_one_item(bench: Bench) -> None:
    pt = bench[PT]
    twice = [record(1), record(1), record(2)]
    assert view(pt, watch(pt, twice)).watch.header.records == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"case_ref": " "}, "case reference"),
        ({"purpose": "no-such"}, "purpose"),
        ({"records": 0}, "1 to"),
        ({"records": limits.WATCH_RECORDS + 1}, "1 to"),
        ({"priority": 256}, "0 to 255"),
        ({"counts": [2]}, "counts"),
        ({"counts": [0, 0, 0, 1]}, "near"),
        ({"peers": [PT]}, "is this node"),
        ({"peers": ["xx-none"]}, "xx-none"),
    ],
)
def test_what_cannot_be_watched_is_refused(
    bench: Bench, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(TielineError, match=said):
        NewWatch(bench[PT].node, ANA, _header(bench[PT], **changes))
    assert not bench[PT].store.read(lambda tx: tx.watches.coming(bench.now + timedelta(days=9)))


def test_its_day_lies_ahead_and_not_too_far(bench: Bench) -> None:
    pt = bench[PT]
    for days, said in ((0, "future"), (limits.WATCH_LIFE.days + 1, "at most")):
        until = timestamp(bench.now + timedelta(days=days))
        with pytest.raises(InvalidInput, match=said):
            NewWatch(pt.node, ANA, _header(pt, until_time=until))


def test_numbers_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pt = bench[PT]
    monkeypatch.setattr(limits, "WATCHES_MOST", 2)
    monkeypatch.setattr(limits, "WATCHED_RECORDS_MOST", 5)
    first = watch(pt, records([1, 2]))
    with pytest.raises(LimitExceeded, match="would be watched"):
        watch(pt, records([1, 2, 3, 4]))
    watch(pt, records([5]))
    with pytest.raises(LimitExceeded, match="2 standing queries"):
        watch(pt, records([6]))
    WatchDesk(pt.node).remove(ANA, first)
    watch(pt, records([6]))


def test_a_list_that_is_not_the_announced_one_leaves_nothing(bench: Bench) -> None:
    pt, one, two = bench[PT], bytes(range(16)), bytes(range(1, 17))
    for columns, error in (
        ((), InvalidInput),
        ((_column(two),), InvalidInput),
        ((_column(one, two, items=(0, 0)),), InvalidInput),
        ((_column(one, items=(1,)),), InvalidInput),
        ((_column(one, items=()),), MalformedMessage),
    ):
        made = NewWatch(pt.node, ANA, _header(pt))
        with pytest.raises(error):
            for column in columns:
                made.take(column)
            list(made.finish())
        made.abandon()
    assert not WatchDesk(pt.node).find(ended=True)
    assert not pt.store.read(lambda tx: tx.watches.coming(bench.now + timedelta(days=9)))
    assert not pt.audit("watch.added")


def test_what_counts_is_not_abandoned(bench: Bench) -> None:
    """A client that has its answer ends the call: seen between real nodes."""
    pt = bench[PT]
    made = NewWatch(pt.node, ANA, _header(pt))
    made.take(_column(bytes(range(16))))
    (said,) = made.finish()
    made.abandon()
    assert len(pt.store.read(lambda tx: watch_lists.load(pt.node, tx, said.watch.id))) == 1


def test_one_that_never_came_to_its_end_is_dropped(bench: Bench) -> None:
    """The node was killed while the list came in."""
    pt = bench[PT]
    NewWatch(pt.node, ANA, _header(pt)).take(_column(bytes(range(16))))
    assert not WatchDesk(pt.node).find()
    bench.now += limits.WATCH_COMING + timedelta(seconds=1)
    WatchDesk(pt.node).tidy()
    assert not pt.store.read(lambda tx: tx.watches.coming(bench.now + timedelta(days=9)))


def test_what_was_asked_is_read_back_by_the_auditor_after_it_ended(bench: Bench) -> None:
    pt = bench[PT]
    bench[ES].series(records([1]))
    number = watch(pt, records([1, 2]), peers=(ES,))
    by_hand(pt)
    WatchDesk(pt.node).remove(ANA, number)
    (asked,) = pt.audit("query.asked")
    question = str(asked["subjects"][0])  # type: ignore[index]
    assert asked["detail"]["watch"] == number  # type: ignore[index]
    kinds = [batch.kind for batch in asked_lists.read(pt.node, question)]
    assert kinds == [DigestKind.MD5, DigestKind.SHA1, DigestKind.SHA256]


def test_what_matched_is_shown_and_the_look_is_logged(bench: Bench) -> None:
    pt = bench[PT]
    bench[ES].series(records([2]))
    number = watch(pt, records([1, 2]), peers=(ES,))
    by_hand(pt)
    (found,) = view(pt, number, matches=True).matches
    (listed,) = found.lists
    assert found.agency == ES and listed.digests == record(2).sha256
    assert [one["subjects"] for one in pt.audit("watch.consulted")] == [[number]]
    with pytest.raises(NotFound):
        view(pt, new_id())


def test_policy_is_asked_here_before_a_peer_is(bench: Bench) -> None:
    """A member that may not be asked for this purpose gets no digest, and it is said."""
    pt = bench[PT]
    bench[FBI].series(records([1]))
    watch(pt, records([1]), peers=(FBI,), purpose="data-quality")
    (end,) = by_hand(pt).values()
    assert end.status == "refused" and not bench[FBI].audit("query.answered")


def test_a_notice_about_no_answer_is_refused(bench: Bench) -> None:
    pt, es = bench[PT], bench[ES]
    es.series(records([1]))
    for body in (
        {"request": new_id(), "records": 2, "matched": 1},
        {"request": new_id(), "records": 2, "matched": 3},
        {"request": new_id(), "records": 2, "matched": 0},
    ):
        notice = payload_pb2.WatchNotice(id=new_id(), watch=new_id(), **body)  # type: ignore[arg-type]
        sealed = pt.seal(payload_pb2.Payload(watch_notice=notice), ES)
        assert pt.deliver(sealed, ES).reply == 3
    assert not es.audit("watch.told") and not es.store.read(lambda tx: tx.alarms.due(bench.now, 9))
