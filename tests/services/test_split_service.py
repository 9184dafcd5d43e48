"""Splitting series: each item under its own series everywhere, whatever came first."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from itertools import permutations

import pytest
from tieline.v1 import operator_pb2, payload_pb2, series_pb2, series_work_pb2
from tieline_client import WIRE_MINOR
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, NotFound, TielineError, WrongState
from tieline_client.formats.record import Record
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.payloads import timestamp
from tieline_client.split_list import read_items
from tieline_server.domain.splitting import pack_marks
from tieline_server.services.inbox import Mailbox
from tieline_server.services.merging import Merging
from tieline_server.services.notices import assessment_in
from tieline_server.services.purging import Purging
from tieline_server.services.referring import Referring
from tieline_server.services.retracting import Retracting
from tieline_server.services.series_work import SeriesWork
from tieline_server.services.splitting import Splitting
from tieline_server.services.tombstones import reapply
from tieline_server.services.uploading import Uploading

from tests.services.bench import (
    ANA,
    CASE,
    ES,
    FR,
    INTERPOL,
    PT,
    PURPOSE,
    Bench,
    Running,
    record,
    records,
)
from tests.services.test_standing_service import contact


def split(
    node: Running, series: str, items: Iterable[Record], name: str = "Outra"
) -> operator_pb2.SplitSeriesResponse:
    request = series_work_pb2.SplitSeriesRequest(series=series, name=name, text="another child")
    request.items.extend(read_items(items).chunks())
    return Splitting(node.node).split(ANA, request)


def _get(node: Running, series: str) -> operator_pb2.SeriesView:
    return SeriesWork(node.node).get(series)


def _items(node: Running, series: str) -> set[int]:
    """The numbers of the records that a node holds in a series."""
    known = {one.md5: one.number for one in records(range(60))}
    held = node.store.read(lambda tx: tx.items.of_series(series, after=0, limit=1_000))
    return {known[item.md5] for item in held}


def _retract(node: Running, series: str, **fields: object) -> None:
    request = operator_pb2.RetractSeriesRequest(
        series=series,
        **({"kind": "withdraw", "reason": "court"} | fields),  # type: ignore[arg-type]
    )
    Retracting(node.node).retract(ANA, request)


def _purged(bench: Bench, *agencies: str) -> None:
    """Deliver, erase, and deliver the receipts."""
    bench.flow()
    for agency in agencies:
        assert Purging(bench[agency].node).run()
    bench.flow()


def _pass_on(node: Running, to: str) -> None:
    request = operator_pb2.StepReferralRequest(
        id=node.inbox()[0].id, state="passed_on", passed_to=to
    )
    Referring(node.node).step(ANA, request)


def _assess(node: Running, series: str, country: str) -> None:
    request = operator_pb2.AssessSeriesRequest(
        series=series, country=country, confidence=2, grounds="plates"
    )
    SeriesWork(node.node).assess(ANA, request)


def _raw(node: Running, needles: Iterable[bytes]) -> list[str]:
    """The files of a node's database that hold any of these bytes."""
    files = sorted(node.path.parent.glob(f"{node.path.name}*"))
    return [one.name for one in files if any(each in one.read_bytes() for each in needles)]


def _run_sql(node: Running, statement: str) -> None:
    with closing(sqlite3.connect(node.path)) as connection:
        connection.execute(statement)
        connection.commit()


def _all(node: Running) -> dict[str, operator_pb2.SeriesView]:
    return {one.notice.id: one for one in SeriesWork(node.node).find("", 0).series}


def test_the_items_and_the_own_judgements_are_the_new_series(bench: Bench) -> None:
    es = bench[ES]
    old = es.series(records(range(6)), "Azul")
    _assess(es, old, "PT")
    es.refer(old)
    done = split(es, "Azul", records(range(2)))
    made = done.series.notice.id
    assert (done.moved, list(done.told)) == (2, [PT])
    assert (_items(es, old), _items(es, made)) == ({2, 3, 4, 5}, {0, 1})
    view = _get(es, "Outra")
    assert (view.notice.id, view.split_from, view.notice.items) == (made, old, 2)
    assert list(_get(es, old).split_into) == [made]
    # nobody was told of the new one, and the same country is likely
    assert (view.notice.status, list(view.untold_countries)) == ("localised", ["PT"])
    (copied,) = view.notice.assessments
    (first,) = _get(es, old).notice.assessments
    assert (copied.agency, copied.grounds, copied.series) == (ES, "plates", made)
    assert copied.id != first.id
    # referrals stay with the old one
    (referral,) = Mailbox(es.node).clock(old)
    assert referral.series == old and not Mailbox(es.node).clock(made)
    for series in (old, made):
        (line,) = [one for one in _get(es, series).history if one.kind == "split"]
        assert (line.before, line.after, line.text) == (old, made, "another child")
    (logged,) = es.audit("series.split")
    assert logged["subjects"] == [old, made]
    assert logged["detail"]["items"] == 2  # type: ignore[index]


def test_what_others_judged_stays_with_the_old_one(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(6)), "Azul")
    es.refer(old, agency=PT)
    bench.flow()
    judged = series_pb2.Assessment(
        id=new_id(), series=old, agency=PT, person="rui", country="FR", confidence=2, grounds="x"
    )
    judged.made_time.CopyFrom(timestamp(bench.now))
    es.store.write(lambda tx: tx.series.add_assessment(assessment_in(judged)))
    made = split(es, old, records(range(2))).series
    assert not made.notice.assessments
    assert [one.agency for one in _get(es, old).notice.assessments] == [PT]
    assert pt.agency == PT


def test_hits_name_the_series_that_an_item_is_of(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(4)))
    made = split(es, old, records(range(2))).series.notice.id
    es.store.index.refresh(wait=True)
    ends, overlaps = pt.ask(records(range(4)), ES, purpose="deconfliction")
    assert ends[ES].status == "answered" and len(overlaps[ES]) == 4
    held = es.store.read(lambda tx: tx.items.holdings(range(1, 50), answerable_only=True))
    assert {one.series for one in held} == {old, made}


ACTS = ("split", "pass on", "refer again")


@pytest.mark.parametrize("order", list(permutations(ACTS)), ids=", ".join)
def test_every_order_ends_with_each_item_in_its_series(
    bench: Bench, order: tuple[str, ...]
) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(6)), "Azul")
    es.refer(old, agency=PT)
    bench.flow()
    made = ""
    for act in order:
        if act == "split":
            made = split(es, old, records(range(2))).series.notice.id
        elif act == "pass on":
            _pass_on(pt, FR)
        else:
            es.refer(old, agency=FR)
        if act == order[1]:
            bench.flow()
    bench.flow()
    for node in (es, pt, fr):
        assert _items(node, old) == {2, 3, 4, 5}, node.agency
        assert _items(node, made) <= {0, 1}, node.agency
    assert _items(pt, made) == {0, 1}
    # nobody keeps one, nobody loses one: the old series goes, what is not of it stays
    _retract(es, old)
    _purged(bench, PT, FR)
    assert _items(pt, made) == {0, 1} and not _items(pt, old) and not _items(fr, old)
    _retract(es, made)
    _purged(bench, PT, FR)
    digests = [one.md5 for one in records(range(6)) if one.md5]
    for node in (pt, fr):
        assert _raw(node, digests) == [], node.agency
    told = {one.agency: one for one in _get(es, made).retraction.recipients}
    assert told[PT].erased
    assert all(one.state == "confirmed" for one in told.values())


def test_withdrawing_the_new_series_leaves_the_old_one(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    bench.flow()
    _pass_on(pt, FR)
    bench.flow()
    made = split(es, old, records(range(2))).series.notice.id
    bench.flow()
    _retract(es, made)
    _purged(bench, PT, FR)
    gone = [one.sha256 for one in records(range(2)) if one.sha256]
    gone += [one.md5 for one in records(range(2)) if one.md5]
    for node in (pt, fr):
        assert _items(node, old) == {2, 3, 4, 5}
        assert node.store.read(lambda tx: tx.series.get(made)) is None
        assert _raw(node, gone) == [], node.agency
    told = {one.agency: one.via for one in _get(es, made).retraction.recipients}
    assert told == {PT: "", FR: PT}


def test_what_comes_late_of_a_withdrawn_split_is_not_kept_under_the_old_id(bench: Bench) -> None:
    """The referral was packed before the split and reaches its recipient after the withdrawal."""
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(6)))
    bench.offline.add(PT)
    es.refer(old, agency=PT)
    made = split(es, old, records(range(2))).series.notice.id
    _retract(es, made)
    bench.offline.clear()
    _purged(bench, PT)
    assert _items(pt, old) == {2, 3, 4, 5}
    assert _raw(pt, [one.md5 for one in records(range(2)) if one.md5]) == []


@pytest.mark.parametrize("how", ["withdraw", "narrow"])
def test_who_is_told_late_hears_nothing_of_a_half_that_it_may_not_have(
    bench: Bench, how: str
) -> None:
    """Neither its notice, with case and contact, nor as somebody who was told of it."""
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(6)), "Azul")
    es.refer(old, agency=PT)
    bench.flow()
    made = split(es, old, records(range(2))).series.notice.id
    _retract(es, made, **({"kind": how, "limited": True, "only": [PT]} if how == "narrow" else {}))
    _purged(bench, PT)
    es.refer(old, agency=FR)
    outbox = Mailbox(es.node).outbox(operator_pb2.ListOutboxRequest())
    sent = [one for one in outbox.entries if one.recipient == FR]
    assert [one.kind for one in sent] == ["referral"]
    _purged(bench, PT, FR)
    assert [one.agency for one in _get(es, made).retraction.recipients] == [PT]
    assert set(_all(fr)) == {old} and _items(fr, old) == {2, 3, 4, 5}
    assert _items(pt, made) == ({0, 1} if how == "narrow" else set())


def test_what_comes_another_way_of_a_withdrawn_half_is_followed_by_its_word(bench: Bench) -> None:
    """Passed on before the split, it reaches somebody whom the owner told of the rest alone."""
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    bench.flow()
    bench.offline.add(FR)
    _pass_on(pt, FR)
    made = split(es, old, records(range(2))).series.notice.id
    _retract(es, made)
    es.refer(old, agency=FR)
    bench.flow()
    bench.offline.clear()
    _purged(bench, FR, PT)
    _purged(bench, FR, PT)
    assert _items(fr, old) == {2, 3, 4, 5}
    for node in (pt, fr):
        assert _raw(node, [one.md5 for one in records(range(2)) if one.md5]) == [], node.agency
    assert {one.agency: one.via for one in _get(es, made).retraction.recipients} == {PT: "", FR: PT}


def test_a_receipt_waits_for_what_is_still_to_go(bench: Bench) -> None:
    """Who passed the old series on before the split holds its items for that until they went."""
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    bench.flow()
    bench.offline.add(FR)
    _pass_on(pt, FR)
    made = split(es, old, records(range(2))).series.notice.id
    _retract(es, made)
    bench.flow()
    assert not Purging(pt.node).run()
    (waits,) = pt.store.read(lambda tx: tx.retractions.open_purges())
    assert "has gone" in waits.reason
    bench.flow()
    assert [one.state for one in _get(es, made).retraction.recipients if one.agency == PT] == [
        "delivered"
    ]
    bench.offline.clear()
    _purged(bench, FR, PT)
    for node in (pt, fr):
        assert _items(node, old) == {2, 3, 4, 5}
        assert _raw(node, [one.md5 for one in records(range(2)) if one.md5]) == []
    assert all(one.state == "confirmed" for one in _get(es, made).retraction.recipients)


def test_a_split_of_a_split_and_of_a_merged_part(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    part = es.series(records(range(4, 8)), "Verde")
    es.refer(part, agency=PT)
    bench.flow()
    old = es.series(records(range(4)), "Azul")
    merged = series_work_pb2.MergeSeriesRequest(series=old, merged=part)
    Merging(es.node).merge(ANA, merged)
    es.refer(old, agency=PT)
    bench.flow()
    first = split(es, "Azul", records([0, 1, 4, 5]), "Um").series.notice.id
    second = split(es, "Um", records([1, 5]), "Dois").series.notice.id
    bench.flow()
    assert _items(es, old) == {2, 3, 6, 7}
    assert (_items(es, first), _items(es, second)) == ({0, 4}, {1, 5})
    assert (_items(pt, first), _items(pt, second)) == ({0, 4}, {1, 5})
    assert _items(pt, old) | _items(pt, part) == {2, 3, 6, 7}


def test_what_is_imported_again_under_the_old_name_goes_where_it_was_split_to(
    bench: Bench,
) -> None:
    es = bench[ES]
    old = es.series(records(range(4)), "Azul")
    made = split(es, old, records(range(2))).series.notice.id
    es.load(records(range(5)), series="Azul", case_ref="2026-99")
    assert (_items(es, old), _items(es, made)) == ({2, 3, 4}, {0, 1})


def test_a_deposit_is_split_where_it_is(bench: Bench) -> None:
    es, icse = bench[ES], bench[INTERPOL]
    old = es.series(records(range(4)), "Azul")

    def deposit(series: str) -> operator_pb2.UploadView:
        request = operator_pb2.UploadSeriesRequest(
            series=[series], repository=INTERPOL, purpose=PURPOSE, case_ref=CASE
        )
        (view,) = Uploading(es.node).upload(ANA, request)
        bench.flow()
        return view

    deposit(old)
    made = split(es, old, records(range(2))).series.notice.id
    bench.flow()
    assert (_items(icse, old), _items(icse, made)) == ({2, 3}, {0, 1})
    assert deposit(made).items == 2
    assert _items(icse, made) == {0, 1}
    view = _all(icse)[made]
    assert view.split_from == old and view.origin == "upload"


def test_a_narrowed_series_splits_into_a_narrowed_one(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(4)))
    for agency in (PT, FR):
        es.refer(old, agency=agency)
    bench.flow()
    _retract(es, old, kind="narrow", limited=True, only=[PT], reason="x")
    _purged(bench, FR)
    done = split(es, old, records(range(2)))
    made = done.series.notice.id
    assert list(done.told) == [PT]
    bench.flow()
    assert _items(pt, made) == {0, 1}
    assert fr.store.read(lambda tx: tx.series.get(made)) is None
    assert _get(es, made).retraction.only == [PT]


def test_a_peer_of_before_keeps_both_until_it_reads_splits(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    pt.wire = "v1.4"
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    contact(es, PT)
    bench.flow()
    made = split(es, old, records(range(2))).series.notice.id
    _retract(es, made)
    bench.flow()
    # it would say that nothing is left of a series that it does not know, and holds the items
    waiting = Mailbox(es.node).outbox(operator_pb2.ListOutboxRequest(state="parked")).entries
    assert {one.kind for one in waiting} == {"series_split", "retraction"}
    assert any("reads no series_split before v1.5" in one.reason for one in waiting)
    (told,) = _get(es, made).retraction.recipients
    assert (told.state, "parked" in told.reason) == ("queued", True)
    pt.wire = f"v1.{WIRE_MINOR}"
    contact(es, PT)
    _purged(bench, PT)
    assert _items(pt, old) == {2, 3, 4, 5}
    assert _raw(pt, [one.md5 for one in records(range(2)) if one.md5]) == []
    (told,) = _get(es, made).retraction.recipients
    assert told.state == "confirmed"


def test_withdrawing_the_old_series_takes_all_from_a_peer_of_before(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    pt.wire = "v1.4"
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    contact(es, PT)
    bench.flow()
    split(es, old, records(range(2)))
    _retract(es, old)
    _purged(bench, PT)
    assert _raw(pt, [one.md5 for one in records(range(6)) if one.md5]) == []


def test_a_backup_from_before_the_split_does_not_bring_items_back(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    bench.flow()
    before, made_at = bench.image(PT), bench.now
    first = split(es, old, records(range(3)), "Um").series.notice.id
    made = split(es, first, records(range(2)), "Dois").series.notice.id
    bench.flow()
    _retract(es, made)
    _purged(bench, PT)
    pt = bench.set_back(PT, before)
    assert _items(pt, old) == {0, 1, 2, 3, 4, 5}
    reapply(pt.store, pt.node.ledger, made_at)
    assert _items(pt, old) == {2, 3, 4, 5}
    assert Purging(pt.node).run()
    assert _raw(pt, [one.md5 for one in records(range(2)) if one.md5]) == []


def test_a_restored_owner_has_its_splits_back(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(6)))
    es.refer(old, agency=PT)
    bench.flow()
    before = bench.image(ES)
    made = split(es, old, records(range(2))).series.notice.id
    bench.flow()
    bench.set_back(ES, before)
    es = bench.resync(ES)
    contact(es, PT)
    bench.flow()
    assert (_items(es, old), _items(es, made)) == ({2, 3, 4, 5}, {0, 1})
    _retract(es, made)
    _purged(bench, PT)
    assert _raw(pt, [one.md5 for one in records(range(2)) if one.md5]) == []


def test_what_is_not_split(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    old = es.series(records(range(4)), "Azul")
    es.refer(old, agency=PT)
    bench.flow()
    with pytest.raises(InvalidInput, match=r"2 of 3 listed items are not in .*record 2, 3"):
        split(es, old, records([0, 20, 21]))
    with pytest.raises(InvalidInput, match="all 4 items"):
        split(es, old, records(range(4)))
    with pytest.raises(InvalidInput, match="names no item"):
        split(es, old, [])
    with pytest.raises(InvalidInput, match="choose another name"):
        split(es, old, records([0]), "Azul")
    with pytest.raises(InvalidInput, match="needs a name"):
        split(es, old, records([0]), " ")
    with pytest.raises(NotFound):
        split(es, "Roxo", records([0]))
    with pytest.raises(InvalidInput, match="only its owner"):
        split(pt, old, records([0]))
    _retract(es, old)
    with pytest.raises(WrongState, match="withdrawn"):
        split(es, old, records([0]))
    assert es.audit("series.split") == [] and not es.store.read(lambda tx: tx.splits.of(old))
    assert list(_all(es)) == [old]


def test_an_md5_that_two_items_share_names_neither(bench: Bench) -> None:
    es, pt = bench[ES], bench[PT]
    twin = record(1)
    twin.sha1, twin.sha256 = record(41).sha1, record(41).sha256
    old = es.series([record(0), record(1), twin, record(2)])
    es.refer(old, agency=PT)
    bench.flow()
    with pytest.raises(InvalidInput, match="1 of 1 listed items share"):
        split(es, old, [record(1, kinds="md5")])
    made = split(es, old, [record(1)]).series.notice.id
    bench.flow()
    for node in (es, pt):
        held = node.store.read(lambda tx: tx.items.of_series(made, after=0, limit=9))
        assert [one.sha1 for one in held] == [record(1).sha1], node.agency


def test_a_failure_at_the_commit_leaves_nothing(bench: Bench) -> None:
    es = bench[ES]
    old = es.series(records(range(4)), "Azul")
    es.refer(old, agency=PT)
    _run_sql(
        es,
        "CREATE TRIGGER full BEFORE INSERT ON series_split_told "
        "BEGIN SELECT RAISE(FAIL, 'disk full'); END",
    )
    with pytest.raises(TielineError):
        split(es, old, records(range(2)))
    assert _items(es, old) == {0, 1, 2, 3}
    assert list(_all(es)) == [old]
    assert not es.store.read(lambda tx: tx.splits.of(old)) and es.audit("series.split") == []
    _run_sql(es, "DROP TRIGGER full")
    assert split(es, old, records(range(2))).moved == 2


def test_only_the_owner_says_what_is_split(bench: Bench) -> None:
    es, pt, fr = bench[ES], bench[PT], bench[FR]
    old = es.series(records(range(3)))
    es.refer(old, agency=PT)
    bench.flow()

    def said(by: Running, made: str, kind: DigestKind = DigestKind.SHA256) -> str:
        body = payload_pb2.SeriesSplit(id=new_id(), series=old)
        body.made.CopyFrom(_get(es, old).notice)
        body.made.id, body.made.name = made, ""
        body.split_time.CopyFrom(timestamp(bench.now))
        md5 = record(0).md5
        assert md5 is not None
        body.marks.kind = int(kind)  # type: ignore[assignment]
        body.marks.digests = pack_marks(body.id, [(DigestKind.MD5, md5)])
        sealed = by.seal(payload_pb2.Payload(series_split=body), PT)
        return str(by.deliver(sealed, PT, lane=1).reason)

    assert said(fr, new_series_id(ES)) == "SIGNATURE_REFUSED"
    assert said(fr, new_series_id(FR)) == "INVALID_INPUT"
    assert said(es, old) == "INVALID_INPUT"
    assert said(es, new_series_id(ES), DigestKind.PDQ) == "INVALID_INPUT"
    assert _items(pt, old) == {0, 1, 2}
    assert said(es, new_series_id(ES)) == ""
    assert _items(pt, old) == {1, 2}


def test_what_is_split_off_and_merged_back_was_judged_once(bench: Bench) -> None:
    pt, fr = bench[PT], bench[FR]
    series = pt.series(records(range(6)))
    _assess(pt, series, "ES")
    made = split(pt, series, records(range(3))).series.notice.id
    _assess(pt, made, "FR")
    request = series_work_pb2.MergeSeriesRequest(series=series, merged=made)
    Merging(pt.node).merge(ANA, request)
    pt.refer(series, country="FR")
    bench.flow()
    for node in (pt, fr):
        countries = [one.country for one in _get(node, series).notice.assessments]
        assert countries == ["ES", "FR"]
