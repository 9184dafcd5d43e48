"""Imports: what becomes a holding, what is counted, and that a part of a file is nothing."""

from __future__ import annotations

import json

import pytest
from tieline.v1 import operator_pb2, series_pb2
from tieline_client import limits
from tieline_client.columns import of_records
from tieline_client.errors import InvalidInput
from tieline_client.formats.record import Record, Vote
from tieline_client.screening import belongs, without_junk
from tieline_server.domain.ports import Tx
from tieline_server.services import importing
from tieline_server.services.importing import Import, discard, leftovers
from tieline_server.services.series_work import SeriesWork

from tests.services.bench import ABUSE, ANA, CASE, ES, PT, Bench, finish, record, records

OTHER = Vote("vics-us", "3")
LISTED = frozenset({ABUSE})


@pytest.mark.parametrize(
    ("votes", "stated", "entire", "expected"),
    [
        ((ABUSE,), None, False, True),
        ((OTHER,), None, False, False),
        ((OTHER, ABUSE), None, False, True),
        ((Vote("vics-uk", "1"),), None, False, False),
        ((), None, False, False),
        ((), OTHER, False, True),
        ((OTHER,), OTHER, False, True),
        ((Vote("vics-us", "0"),), OTHER, False, False),
        ((), None, True, True),
    ],
)
def test_only_listed_categories_belong(
    votes: tuple[Vote, ...], stated: Vote | None, entire: bool, expected: bool
) -> None:
    assert belongs(record(1, votes=votes, entire=entire), LISTED, stated) is expected


def test_content_free_digests_are_set_aside_and_the_rest_of_the_record_stays() -> None:
    empty = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    kept, dropped = without_junk(record(1, md5=empty, pdq=bytes(32), pdq_quality=10))
    assert (kept.md5, kept.pdq, dropped) == (None, None, 2)
    assert kept.sha1 == record(1).sha1


@pytest.mark.parametrize(("quality", "kept"), [(49, False), (50, True), (None, True)])
def test_a_pdq_of_poor_quality_is_set_aside(quality: int | None, kept: bool) -> None:
    one = record(1, kinds="sha1 pdq", pdq_quality=quality)
    assert (without_junk(one)[0].pdq is not None) is kept


def test_an_import_counts_and_is_logged_with_who_and_why(bench: Bench) -> None:
    node = bench[PT]
    mixed = [
        *records(range(5)),
        record(5, votes=(OTHER,)),
        record(6, votes=()),
        record(7, kinds=""),
    ]
    report = node.load(mixed, series="Azul")
    assert (report.records, report.items_new, report.excluded) == (8, 5, 2)
    assert [(one.record, one.reason) for one in report.rejected] == [
        (7, "it has no digest that can be matched")
    ]
    assert node.store.read(lambda tx: tx.items.stats()).items == 5
    (entry,) = node.audit("import")
    assert (entry["person"], entry["case"], entry["agency"]) == ("ana", CASE, PT)
    assert entry["detail"]["excluded"] == 2  # type: ignore[index]


def test_a_record_of_content_free_digests_alone_is_rejected_with_that_reason(bench: Bench) -> None:
    """As it comes record by record; test_import_columns.py has that columns say the same."""
    empty = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    report = bench[PT].load([record(1), record(9, kinds="", md5=empty)])
    assert (report.records, report.items_new, report.excluded, report.set_aside) == (2, 1, 0, 1)
    ((number, reason),) = [(one.record, one.reason) for one in report.rejected]
    assert number == 9
    assert "says nothing of content" in reason


@pytest.mark.parametrize("columnar", [False, True])
def test_rejected_records_are_all_counted_though_not_all_listed(
    bench: Bench, columnar: bool
) -> None:
    empty = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
    sent = [record(1), *(record(at, kinds="", md5=empty) for at in range(2, 1206))]
    header = operator_pb2.ImportHeader(source="file", case_ref=CASE, file_digest=b"\x02" * 32)
    work = Import(bench[PT].node, ANA, header)
    for batch in (sent[:600], sent[600:]):
        if columnar:
            work.add_columns(of_records(batch))
        else:
            work.add(batch)
    report = work.finish(operator_pb2.ImportFinish(records=len(sent)))
    assert (report.rejected_count, len(report.rejected)) == (1204, limits.REJECTED_LISTED)
    again = Import(bench[PT].node, ANA, header).repeated
    assert again is not None
    assert again.rejected_count == 1204


def test_the_same_file_twice_changes_nothing(bench: Bench) -> None:
    node = bench[PT]
    first = node.load(records(range(5)), series="Azul", file_digest=b"\x01" * 32)
    before = node.store.read(lambda tx: tx.items.stats())
    again = node.load(records(range(5)), series="Azul", file_digest=b"\x01" * 32)
    assert (again.items_new, again.items_known, again.import_id) == (0, 5, first.import_id)
    assert again.series == first.series
    assert node.store.read(lambda tx: tx.items.stats()) == before
    assert (first.repeated, again.repeated) == (False, True)
    assert node.audit("import.repeated")[-1]["subjects"] == [first.import_id]


def test_a_file_counts_again_once_something_of_it_was_erased(bench: Bench) -> None:
    node = bench[PT]
    first = node.load(records(range(5)), series="Azul", file_digest=b"\x01" * 32)
    node.store.write(lambda tx: tx.items.erase_series(first.series[0]))
    again = node.load(records(range(5)), series="Azul", file_digest=b"\x01" * 32)
    assert (again.items_new, again.items_known, again.repeated) == (5, 0, False)
    assert again.import_id != first.import_id
    assert node.store.read(lambda tx: tx.items.stats()).holdings == 5
    third = node.load(records(range(5)), series="Azul", file_digest=b"\x01" * 32)
    assert (third.repeated, third.import_id) == (True, again.import_id)


def test_a_file_counts_again_whose_categories_were_not_stored_with_its_import(
    bench: Bench,
) -> None:
    """As nodes kept reports before a vote was stored for every import that states it."""
    node, given = bench[PT], {"series": "Two", "file_digest": b"\x01" * 32}
    first = node.load(records(range(5)), **given)

    def forget(tx: Tx) -> None:
        row = tx.imports.row(first.import_id)
        assert row is not None
        key = f"import/{row.fingerprint}"
        known = json.loads(tx.meta.get(key) or "")
        del known["votes"]
        tx.meta.set(key, json.dumps(known))

    node.store.write(forget)
    again = node.load(records(range(5)), **given)
    assert (again.items_new, again.items_known, again.repeated) == (0, 5, False)
    assert node.load(records(range(5)), **given).repeated


def test_the_same_file_twice_at_the_same_time_counts_once(bench: Bench) -> None:
    node = bench[PT]
    header = operator_pb2.ImportHeader(series="Azul", file_digest=b"\x01" * 32)
    one, other = (Import(node.node, ANA, header) for _ in range(2))
    for work in (one, other):
        work.add(records(range(5)))
    first, second = finish(one, 5), finish(other, 5)
    assert (second.import_id, second.items_known) == (first.import_id, 5)
    assert second.series == first.series
    assert node.audit("import.repeated")[-1]["subjects"] == [first.import_id, *first.series]
    assert node.store.read(lambda tx: tx.items.stats()).holdings == 5


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("held", [False, True])
def test_an_import_that_keeps_nothing_names_nothing_that_is_not_there(
    bench: Bench, columns: bool, held: bool
) -> None:
    node = bench[PT]
    if held:
        node.series(records(range(9, 10)))  # a series of this name is there
    before = node.store.read(lambda tx: tx.items.stats())
    outside = [record(number, votes=(OTHER,)) for number in range(3)]
    work = Import(node.node, ANA, operator_pb2.ImportHeader(series="Azul", source="file"))
    if columns:
        work.add_columns(of_records(outside))
    else:
        work.add(outside)
    report = finish(work, 3)
    assert (report.records, report.excluded, report.import_id) == (3, 3, "")
    assert (report.repeated, list(report.series)) == (False, [])
    assert node.store.read(lambda tx: tx.items.stats()) == before
    (entry,) = node.audit("import.empty")
    assert (entry["person"], entry.get("subjects", [])) == ("ana", [])
    counted = {name: entry["detail"][name] for name in ("records", "items_new", "excluded")}  # type: ignore[index]
    assert counted == {"records": 3, "items_new": 0, "excluded": 3}
    assert node.audit("import.repeated") == []


def test_an_import_that_ends_early_leaves_nothing(bench: Bench) -> None:
    node = bench[PT]
    work = Import(node.node, ANA, operator_pb2.ImportHeader(series="Azul"))
    work.add(records(range(50)))
    work.abandon()
    stats = node.store.read(lambda tx: tx.items.stats())
    assert (stats.items, stats.holdings, stats.series, stats.generation) == (0, 0, 0, 0)
    assert node.audit("import") == []


def test_a_wrong_count_at_the_end_keeps_nothing(bench: Bench) -> None:
    node = bench[PT]
    work = Import(node.node, ANA, operator_pb2.ImportHeader(series="Azul"))
    work.add(records(range(5)))
    with pytest.raises(InvalidInput, match="6 records were announced, 5 came"):
        finish(work, 6)
    work.abandon()
    assert node.store.read(lambda tx: tx.items.stats()).items == 0


def test_what_a_crash_left_is_erased_at_the_next_start(bench: Bench) -> None:
    node = bench[PT]
    node.load(records(range(3)))
    work = Import(node.node, ANA, operator_pb2.ImportHeader())
    work.add(records(range(2, 20)))
    assert leftovers(node.store, frozenset({work.head.id})) == []
    left = leftovers(node.store, frozenset())
    assert left == [work.head.id]
    discard(node.store, left[0])
    assert leftovers(node.store, frozenset()) == []
    assert node.store.read(lambda tx: tx.items.stats()).items == 3


def test_staged_items_are_no_answer(bench: Bench) -> None:
    holder, asker = bench[PT], bench[ES]
    work = Import(holder.node, ANA, operator_pb2.ImportHeader())
    work.add(records(range(5)))
    ends, overlaps = asker.ask(records(range(5)), PT)
    assert ends[PT].status == "answered"
    assert overlaps == {}
    finish(work, 5)
    _, overlaps = asker.ask(records(range(5)), PT)
    assert len(overlaps[PT]) == 5


def test_known_good_items_are_neither_held_nor_asked_about(bench: Bench) -> None:
    node = bench[PT]
    node.load(records(range(3)), exclusions=True)
    report = node.load(records(range(5)))
    assert (report.items_new, report.excluded) == (2, 3)


def test_a_retention_date_in_the_past_is_refused(bench: Bench) -> None:
    handling = series_pb2.Handling(retain_until="2026-03-01")
    with pytest.raises(InvalidInput, match="--retain-until"):
        bench[PT].load(records(range(2)), handling=handling)


def test_records_name_their_series_and_their_references_travel_to_it(bench: Bench) -> None:
    node = bench[PT]
    rows = [
        record(1, series="Azul", references=(("icse", "S-1"),)),
        record(2, series="Verde"),
        record(3, series=" Azul ", references=(("icse", "S-2"), ("icse", "S-1"))),
    ]
    report = node.load(rows)
    assert len(report.series) == 2
    azul = node.store.read(lambda tx: tx.series.by_name("Azul"))
    assert azul is not None
    assert {one.value for one in azul.references} == {"S-1", "S-2"}
    assert (azul.owner, azul.contact.name) == (PT, f"desk {PT}")
    # What a later file says under the same name joins the same series.
    assert node.load([record(4, series="Azul")]).series == [azul.id]


@pytest.mark.parametrize("columns", [False, True])
def test_imports_at_once_that_name_a_new_series_make_one(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, columns: bool
) -> None:
    monkeypatch.setattr(importing, "_JOINED_ROWS", 2)
    node = bench[PT]

    def begun(number: int, rows: list[Record]) -> Import:
        header = operator_pb2.ImportHeader(file_digest=bytes([number]) * 32, case_ref=CASE)
        work = Import(node.node, ANA, header)
        if columns:
            work.add_columns(of_records(rows))
        else:
            work.add(rows)
        return work

    both = record(4, series="Azul")
    one = begun(1, [*records([1, 2, 3], series="Azul"), both])
    other = begun(2, [*records([10, 11, 12, 13], series="Azul"), both, record(5, series="Verde")])
    assert other.repeated is None
    first, second = finish(one, 4), finish(other, 6)
    azul, verde = (node.store.read(lambda tx, n=n: tx.series.by_name(n)) for n in ("Azul", "Verde"))  # type: ignore[misc]
    assert azul is not None and verde is not None
    assert list(first.series) == [azul.id]
    assert list(second.series) == sorted([azul.id, verde.id])
    assert len(node.store.read(lambda tx: tx.series.find())) == 2
    assert node.store.read(lambda tx: tx.items.count_of_series(azul.id)) == 8
    assert node.store.read(lambda tx: tx.items.count_of_series(verde.id)) == 1
    assert set(node.audit("import")[-1]["subjects"]) == {second.import_id, azul.id, verde.id}  # type: ignore[call-overload]
    series = SeriesWork(node.node).get("Azul")
    assert series.notice.id == azul.id


def test_half_a_category_is_refused(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="category"):
        bench[PT].load(records(range(2)), category_scheme="vics-us")
