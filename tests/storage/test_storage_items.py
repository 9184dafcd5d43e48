"""Imports and items, as ports.py promises them, on both databases."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
from tieline_client.columns import of_records
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput, LimitExceeded, NotFound, WrongState
from tieline_client.formats.record import Record, Vote
from tieline_client.identifiers import new_series_id
from tieline_client.limits import RECORDS_PER_STAGE_TRANSACTION
from tieline_server.domain.ports import StageCounts, Store
from tieline_server.storage.errors import AlreadyStored

from tests.storage.building import (
    HANDLING,
    answered,
    begin,
    complete,
    discard,
    head,
    load,
    md5,
    pdq,
    record,
    series,
    sha1,
    sha256,
    stage,
    visible,
)

MD5, SHA1, SHA256, PDQ = DigestKind
SERIES = new_series_id("pt-pj")
OTHER = new_series_id("pt-pj")
A = Vote("vics", "1")
B = Vote("icse", "baseline")


def held(
    store: Store, items: list[int], *, answerable_only: bool = False
) -> list[tuple[int, str, bool]]:
    views = store.read(lambda tx: tx.items.holdings(items, answerable_only=answerable_only))
    return [(v.item, v.series, v.md5_conflict) for v in views]


def test_a_fresh_import_becomes_items_with_all_their_digests(store: Store) -> None:
    key = begin(store, handling=HANDLING)
    records = [record(1, md5="a", sha1="a", sha256="a", pdq="a", votes=[A]), record(2, md5="b")]
    assert stage(store, key, records, SERIES) == StageCounts(new=2, known=0, conflicts=0)
    assert complete(store, key) == 1
    assert list(visible(store, MD5).values()) == [md5("a"), md5("b")]
    assert list(visible(store, SHA1).values()) == [sha1("a")]
    assert list(visible(store, SHA256).values()) == [sha256("a")]
    assert list(visible(store, PDQ).values()) == [pdq("a")]
    first, second = visible(store, MD5)
    assert second > first > 0
    views = store.read(lambda tx: tx.items.holdings([second, first, 99], answerable_only=True))
    assert [(v.item, v.series, v.import_id) for v in views] == [
        (first, SERIES, key),
        (second, SERIES, key),
    ]
    assert all(v.handling == HANDLING and not v.md5_conflict for v in views)


def test_pages_hold_numpy_rows_of_the_kinds_width(store: Store) -> None:
    load(store, [record(n, sha1=str(n)) for n in range(5)])
    page = store.read(lambda tx: tx.items.digests(SHA1, 0, 3))
    assert page.kind is SHA1
    assert page.ids.dtype == np.int64
    assert page.rows.shape == (3, 20)
    assert page.rows.dtype == np.uint8
    rest = store.read(lambda tx: tx.items.digests(SHA1, int(page.ids[-1]), 3))
    assert len(rest.ids) == 2
    assert store.read(lambda tx: tx.items.digests(MD5, 0, 3)).rows.shape == (0, 16)


@pytest.mark.parametrize("page_size", [1, 2, 3, 4, 9])
def test_no_page_passes_over_an_item_when_several_imports_fill_in_another(
    store: Store, page_size: int
) -> None:
    load(store, [record(n, md5=name) for n, name in enumerate("abc")])
    keys = [begin(store) for _ in range(3)]
    for key in keys:  # none knows yet what the others fill in
        stage(store, key, [record(1, md5="a", sha1="a", pdq=key)])
    stage(store, keys[0], [record(2, md5="b", sha1="b")])
    stage(store, keys[1], [record(3, md5="c", sha1="c")])
    load(store, [record(4, sha1="d")])
    for key in keys:
        complete(store, key)
    wanted = [sha1(name) for name in "abcd"]
    assert list(visible(store, SHA1, page_size).values()) == wanted
    assert visible(store, SHA1, page_size) == answered(store, SHA1, wanted)
    assert list(visible(store, PDQ, page_size).values()) == [pdq(keys[0])]


def test_staged_is_invisible_everywhere_until_complete(store: Store) -> None:
    store.write(lambda tx: tx.series.add(series(id=SERIES)))
    load(store, [record(md5="a"), record(2, md5="c")], OTHER)
    before = store.read(lambda tx: (tx.items.stats(), tx.items.generation()))
    key = begin(store)
    stage(store, key, [record(md5="a", sha1="a", pdq="a", votes=[A]), record(2, md5="b")], SERIES)
    stage(store, key, [record(3, md5="c", sha1="d"), record(4, md5="c", sha1="e")], SERIES)
    after = store.read(lambda tx: (tx.items.stats(), tx.items.generation()))
    assert after == before
    assert set(visible(store, MD5).values()) == {md5("a"), md5("c")}
    assert visible(store, SHA1) == visible(store, PDQ) == {}
    assert answered(store, SHA1, [sha1("a"), sha1("d")]) == {}
    assert list(answered(store, MD5, [md5("a"), md5("b")]).values()) == [md5("a")]
    assert [h[1:] for h in held(store, list(range(10)))] == [(OTHER, False)] * 2
    assert store.read(lambda tx: tx.items.of_series(SERIES, after=0, limit=10)) == []
    assert store.read(lambda tx: tx.items.count_of_series(SERIES)) == 0
    row = store.read(lambda tx: tx.items.of_series(OTHER, after=0, limit=10))[0]
    assert (row.sha1, row.votes) == (None, ())
    assert store.read(lambda tx: tx.imports.incomplete()) == [key]
    complete(store, key)
    assert len(visible(store, SHA1)) == 3
    row = store.read(lambda tx: tx.items.of_series(OTHER, after=0, limit=10))[0]
    assert (row.sha1, row.votes) == (sha1("a"), (("pt-pj", A),))
    assert store.read(lambda tx: tx.imports.incomplete()) == []


@pytest.mark.parametrize("limit", [1, 2, 1000])
def test_discard_leaves_nothing(store: Store, limit: int) -> None:
    load(store, [record(md5="a"), record(2, sha1="z")], OTHER)
    before = store.read(lambda tx: tx.items.stats())
    digests = {kind: visible(store, kind) for kind in DigestKind}
    key = begin(store)
    stage(store, key, [record(md5="a", sha1="a", votes=[A]), record(2, md5="b", votes=[B])], SERIES)
    stage(store, key, [record(3, md5="a", sha1="z"), record(4, sha256="q", pdq="q")])
    discard(store, key, limit)
    assert store.read(lambda tx: tx.items.stats()) == before
    assert {kind: visible(store, kind) for kind in DigestKind} == digests
    assert store.read(lambda tx: tx.imports.incomplete()) == []
    assert store.write(lambda tx: tx.imports.discard(key, 1))
    again = begin(store)
    counts = stage(store, again, [record(md5="b"), record(2, sha1="a"), record(3, pdq="q")])
    assert counts == StageCounts(new=3, known=0, conflicts=0)


def test_a_complete_import_is_closed(store: Store) -> None:
    key = load(store, [record(md5="a")])
    for work in (
        lambda tx: tx.imports.discard(key, 10),
        lambda tx: tx.imports.complete(key),
        lambda tx: tx.imports.stage(key, [record(md5="b")], [None], "pt-pj"),
        lambda tx: tx.imports.stage_exclusions(key, [record(md5="b")]),
        lambda tx: tx.imports.amend(key, "C-2", HANDLING),
    ):
        with pytest.raises(WrongState):
            store.write(work)
    with pytest.raises(NotFound):
        stage(store, "nowhere", [record(md5="b")])
    with pytest.raises(AlreadyStored):
        store.write(lambda tx: tx.imports.begin(dataclasses.replace(head(), id=key)))


def test_the_same_content_again_changes_nothing(store: Store) -> None:
    records = [record(1, md5="a", sha1="a", votes=[A]), record(2, pdq="p"), record(3, sha256="s")]
    first = load(store, records, SERIES, fingerprint="same")
    assert store.read(lambda tx: tx.imports.completed("same")) == first
    assert store.read(lambda tx: tx.imports.completed("other")) is None
    before = store.read(lambda tx: tx.items.stats())
    key = begin(store)
    assert stage(store, key, records, SERIES) == StageCounts(new=0, known=3, conflicts=0)
    generation = complete(store, key)
    after = store.read(lambda tx: tx.items.stats())
    assert after == dataclasses.replace(before, generation=generation)


@pytest.mark.parametrize(
    "change", [{"case": "C-2"}, {"answerable": False}], ids=["case", "answerable"]
)
def test_another_case_is_another_holding(store: Store, change: dict[str, object]) -> None:
    load(store, [record(md5="a")], SERIES)
    load(store, [record(md5="a")], SERIES, **change)
    item = next(iter(visible(store, MD5)))
    assert len(held(store, [item])) == 2
    assert answered(store, MD5, [md5("a")]) == {item: md5("a")}
    answerable = held(store, [item], answerable_only=True)
    assert len(answerable) == (1 if change == {"answerable": False} else 2)


def test_one_item_in_two_series_is_two_holdings(store: Store) -> None:
    key = begin(store)
    given = [SERIES, OTHER, None, SERIES]
    records = [record(n, md5="a") for n in range(4)]
    counts = store.write(lambda tx: tx.imports.stage(key, records, given, "pt-pj"))
    assert counts == StageCounts(new=1, known=3, conflicts=0)
    complete(store, key)
    item = next(iter(visible(store, MD5)))
    assert sorted(h[1] for h in held(store, [item])) == sorted(["", SERIES, OTHER])


def test_digest_types_that_meet_in_one_batch_are_one_item(store: Store) -> None:
    key = begin(store)
    records = [
        record(1, md5="a", media_type="image/png"),
        record(2, sha1="a", votes=[A]),
        record(3, sha256="a", pdq="a"),
        record(4, md5="a", sha1="a", votes=[B]),
        record(5, sha1="a", sha256="a"),
    ]
    assert stage(store, key, records, SERIES) == StageCounts(new=1, known=4, conflicts=0)
    complete(store, key)
    (row,) = store.read(lambda tx: tx.items.of_series(SERIES, after=0, limit=9))
    assert (row.md5, row.sha1, row.sha256, row.pdq) == (md5("a"), sha1("a"), sha256("a"), pdq("a"))
    assert row.media_type == "image/png"
    assert row.votes == (("pt-pj", B), ("pt-pj", A))


def test_digests_that_an_item_lacked_are_filled_in(store: Store) -> None:
    load(store, [record(md5="a")], SERIES)
    load(store, [record(md5="a", sha1="a", pdq="a", media_type="image/png")], SERIES)
    item = next(iter(visible(store, MD5)))
    assert visible(store, SHA1) == answered(store, SHA1, [sha1("a")]) == {item: sha1("a")}
    assert visible(store, PDQ) == answered(store, PDQ, [pdq("a")]) == {item: pdq("a")}
    (row,) = store.read(lambda tx: tx.items.of_series(SERIES, after=0, limit=9))
    assert (row.sha1, row.media_type) == (sha1("a"), "image/png")
    assert store.read(lambda tx: tx.items.stats()).by_kind == {
        "md5": 1,
        "sha1": 1,
        "sha256": 0,
        "pdq": 1,
    }
    load(store, [record(sha1="a", sha256="a")])
    assert answered(store, SHA256, [sha256("a")]) == {item: sha256("a")}
    assert answered(store, MD5, [md5("a")]) == {item: md5("a")}


def test_an_md5_with_two_sha1s_stays_two_flagged_items(store: Store) -> None:
    load(store, [record(md5="m")], SERIES)
    load(store, [record(md5="m", sha1="a")], SERIES)
    item = next(iter(visible(store, MD5)))
    assert held(store, [item]) == [(item, SERIES, False)]
    key = begin(store)
    counts = stage(store, key, [record(md5="m", sha1="b"), record(2, md5="m")], SERIES)
    assert counts == StageCounts(new=1, known=1, conflicts=1)
    assert held(store, [item]) == [(item, SERIES, False)]
    complete(store, key)
    other = max(visible(store, MD5))
    assert visible(store, SHA1) == {item: sha1("a"), other: sha1("b")}
    assert held(store, [item, other]) == [(item, SERIES, True), (other, SERIES, True)]
    assert held(store, [other]) == [(other, SERIES, True)]
    again = begin(store)
    assert stage(store, again, [record(md5="m", sha1="b")], SERIES).conflicts == 1


def test_two_sha256s_under_one_md5_conflict_too(store: Store) -> None:
    load(store, [record(1, md5="m", sha256="a"), record(2, md5="m", sha256="b")])
    ids = list(visible(store, MD5))
    assert [h[2] for h in held(store, ids)] == [True, True]


def test_what_could_belong_to_either_of_two_is_not_guessed(store: Store) -> None:
    load(store, [record(1, md5="m", sha1="a"), record(2, md5="m", sha1="b")], SERIES)
    key = begin(store)
    counts = stage(store, key, [record(1, md5="m", sha256="c"), record(2, md5="m")], SERIES)
    assert (counts.new, counts.known) == (1, 1)
    complete(store, key)
    assert len(visible(store, SHA256)) == 1
    assert not visible(store, SHA256).keys() & visible(store, SHA1).keys()


def test_an_equal_pdq_alone_makes_nothing_one_item(store: Store) -> None:
    load(store, [record(1, sha1="a", pdq="p")], SERIES)
    key = begin(store)
    records = [record(1, sha1="b", pdq="p"), record(2, pdq="p"), record(3, pdq="p")]
    assert stage(store, key, records, SERIES) == StageCounts(new=2, known=1, conflicts=0)
    complete(store, key)
    assert list(visible(store, PDQ).values()) == [pdq("p")] * 3


def test_photodna_is_compared_for_equality_among_its_like(store: Store) -> None:
    load(store, [Record(1, photodna=b"\x07" * 144)], SERIES)
    key = begin(store)
    records = [Record(1, photodna=b"\x07" * 144), Record(2, photodna=b"\x08" * 144)]
    assert stage(store, key, records, SERIES) == StageCounts(new=1, known=1, conflicts=0)


def test_items_of_a_series_since_a_generation(store: Store) -> None:
    load(store, [record(md5="a"), record(2, md5="b")], SERIES)
    upto = store.read(lambda tx: tx.items.generation())
    load(store, [record(md5="c"), record(2, md5="a")], SERIES, case="C-2")
    load(store, [record(md5="x")], OTHER)

    def rows(after: int, since: int) -> list[bytes | None]:
        found = store.read(lambda tx: tx.items.of_series(SERIES, after=after, limit=2, since=since))
        return [row.md5 for row in found]

    assert rows(0, 0) == [md5("a"), md5("b")]
    assert rows(2, 0) == [md5("c")]
    assert rows(0, upto) == [md5("c")]
    assert store.read(lambda tx: tx.items.count_of_series(SERIES)) == 3
    assert store.read(lambda tx: tx.items.count_of_series(SERIES, upto)) == 1
    assert store.read(lambda tx: tx.items.count_of_series("pt-pj/none")) == 0


def test_erasing_a_series_takes_its_items_unless_others_hold_them(store: Store) -> None:
    load(store, [record(1, md5="a", votes=[A]), record(2, md5="b", sha1="b")], SERIES)
    load(store, [record(1, md5="b"), record(2, md5="c")], OTHER)
    ids = {value: key for key, value in visible(store, MD5).items()}
    assert store.write(lambda tx: tx.items.erase_series(SERIES)) == 1
    assert set(visible(store, MD5).values()) == {md5("b"), md5("c")}
    assert visible(store, SHA1) == {ids[md5("b")]: sha1("b")}
    assert set(answered(store, MD5, map(md5, "abc")).values()) == {md5("b"), md5("c")}
    assert store.read(lambda tx: (tx.items.generation(), tx.items.erasures())) == (3, 1)
    assert store.write(lambda tx: tx.items.erase_series(SERIES)) == 0
    assert store.read(lambda tx: tx.items.generation()) == 3
    load(store, [record(md5="a")], SERIES)
    assert max(visible(store, MD5)) > max(ids.values())


def test_erasing_hides_what_only_a_staged_import_still_holds(store: Store) -> None:
    load(store, [record(md5="a", media_type="image/png")], SERIES)
    load(store, [record(md5="a", sha1="a")], SERIES)
    item = next(iter(visible(store, MD5)))
    key = begin(store)
    stage(store, key, [record(md5="a")], OTHER)
    assert store.write(lambda tx: tx.items.erase_series(SERIES)) == 0
    assert visible(store, MD5) == visible(store, SHA1) == {}
    assert answered(store, MD5, [md5("a")]) == answered(store, SHA1, [sha1("a")]) == {}
    assert store.read(lambda tx: tx.items.stats()).items == 0
    complete(store, key)
    assert answered(store, SHA1, [sha1("a")]) == {item: sha1("a")}
    (row,) = store.read(lambda tx: tx.items.of_series(OTHER, after=0, limit=9))
    assert (row.md5, row.media_type) == (md5("a"), "image/png")


def test_erasing_items_takes_them_from_every_series(store: Store) -> None:
    load(store, [record(1, md5="a", votes=[A]), record(2, md5="b", sha1="b")], SERIES)
    load(store, [record(1, md5="a"), record(2, md5="c")], OTHER)
    ids = {value: key for key, value in visible(store, MD5).items()}
    gone = [ids[md5("a")], ids[md5("b")], 10**9]
    assert store.write(lambda tx: tx.items.erase_items(gone)) == 2
    assert list(visible(store, MD5).values()) == [md5("c")]
    assert set(answered(store, MD5, map(md5, "abc"))) == {ids[md5("c")]}
    assert answered(store, SHA1, [sha1("b")]) == {}
    assert store.read(lambda tx: tx.items.stats()).holdings == 1
    assert store.write(lambda tx: tx.items.erase_items(gone)) == 0


def test_items_that_another_import_staged_first_are_counted(store: Store) -> None:
    first = begin(store)
    stage(store, first, [record(n, md5=str(n), sha1=str(n)) for n in range(5)], SERIES)
    load(store, [record(1, md5="1"), record(2, sha1="2", sha256="2"), record(3, md5="z")], OTHER)
    stats = store.read(lambda tx: tx.items.stats())
    assert (stats.items, stats.holdings) == (3, 3)
    store.write(lambda tx: tx.items.erase_series(OTHER))
    assert store.read(lambda tx: tx.items.stats()).items == 0
    complete(store, first)
    assert store.read(lambda tx: tx.items.stats()).items == 5


def _stage_exclusions(store: Store, key: str, records: list[Record]) -> StageCounts:
    return store.write(lambda tx: tx.imports.stage_exclusions(key, of_records(records)))


def _excluded(store: Store, asked: list[tuple[DigestKind, bytes]]) -> set[tuple[DigestKind, bytes]]:
    """Return those of the asked digests that are on a list which counts."""
    good = set()
    for kind, value in asked:
        row = np.frombuffer(value, dtype=np.uint8).reshape(1, -1)
        if store.read(lambda tx, k=kind, r=row: len(tx.imports.excluded(k, r))):  # type: ignore[misc]
            good.add((kind, value))
    return good


def test_exclusions_count_once_their_list_is_complete(store: Store) -> None:
    key = begin(store, exclusions=True)
    records = [record(1, md5="a", sha1="a"), record(2, sha1="a"), record(3, sha1="b")]
    counts = _stage_exclusions(store, key, records)
    assert counts == StageCounts(new=2, known=1, conflicts=0)
    assert _stage_exclusions(store, key, records[1:]).new == 0
    asked = [(MD5, md5("a")), (SHA1, sha1("b")), (SHA256, sha256("c")), (MD5, md5("b"))]
    assert _excluded(store, asked) == set()
    assert not store.read(lambda tx: tx.imports.has_exclusions())
    complete(store, key)
    assert store.read(lambda tx: tx.imports.has_exclusions())
    assert _excluded(store, asked) == set(asked[:2])
    assert store.read(lambda tx: tx.items.stats()).exclusions == 3
    again = begin(store, exclusions=True)
    assert _stage_exclusions(store, again, records).new == 0
    _stage_exclusions(store, again, [record(md5="z")])
    discard(store, again, 1)
    assert store.read(lambda tx: tx.items.stats()).exclusions == 3
    third = begin(store, exclusions=True)
    with pytest.raises(InvalidDigest):
        _stage_exclusions(store, third, [record(pdq="p")])


def test_amended_handling_is_what_the_import_is_held_under(store: Store) -> None:
    key = begin(store)
    stage(store, key, [record(md5="a")])
    store.write(lambda tx: tx.imports.amend(key, "C-9", HANDLING))
    complete(store, key)
    views = store.read(
        lambda tx: tx.items.holdings(list(visible(store, MD5)), answerable_only=True)
    )
    assert [view.handling for view in views] == [HANDLING]


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (Record(7), "record 7 has no digest"),
        (Record(8, md5=b"short"), "record 8: md5 has 5 bytes"),
        (Record(9, pdq=b"\x01" * 31), "record 9: pdq has 31 bytes"),
        (Record(9, photodna=b"\x01" * 143), "record 9: photodna has 143 bytes"),
    ],
)
def test_a_bad_record_takes_its_whole_batch_along(store: Store, bad: Record, why: str) -> None:
    key = begin(store)
    with pytest.raises(InvalidDigest, match=why):
        stage(store, key, [record(md5="a"), bad])
    complete(store, key)
    assert visible(store, MD5) == {}


def test_batches_are_bounded_and_even(store: Store) -> None:
    key = begin(store)
    many = [record(n, md5="a") for n in range(RECORDS_PER_STAGE_TRANSACTION + 1)]
    with pytest.raises(LimitExceeded):
        stage(store, key, many)
    with pytest.raises(InvalidInput):
        store.write(lambda tx: tx.imports.stage(key, many[:2], [None], "pt-pj"))
    assert stage(store, key, []) == StageCounts(0, 0, 0)


def test_numbers_that_cannot_be_are_not_kept_but_do_no_harm(store: Store) -> None:
    one = record(md5="a")
    one.size, one.submissions, one.pdq_quality = 2**70, -3, 1000
    load(store, [one])
    with pytest.raises(InvalidInput):
        load(store, [record(md5="b", media_type="image/\x00png")])


def test_the_cycle_collector_runs_again_after_a_batch(store: Store) -> None:
    key = begin(store)
    stage(store, key, [record(md5="a")])
    with pytest.raises(InvalidDigest):
        stage(store, key, [Record(1)])
    assert gc.isenabled()
