"""A category vote belongs to every import that states it: it leaves with each, and goes with none
but the last."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tieline_client.columns import of_records
from tieline_client.formats.record import Record, Vote
from tieline_client.identifiers import new_series_id
from tieline_server.domain.category_votes import VoteCount
from tieline_server.domain.ports import Store

from tests.storage.building import begin, complete, load, record

ONE, TWO = Vote("vics-us", "1"), Vote("vics-us", "2")
Load = Callable[..., str]


def _load_columns(store: Store, records: list[Record], series: str, **options: object) -> str:
    key = begin(store, **options)
    columns = of_records(records)
    store.write(lambda tx: tx.imports.stage_columns(key, columns, (series,), "pt-pj"))
    complete(store, key)
    return key


@pytest.fixture(params=["records", "columns"])
def put(request: pytest.FixtureRequest) -> Load:
    return load if request.param == "records" else _load_columns


def _items(numbers: range, *votes: Vote, series: str) -> list[Record]:
    return [record(n, sha1=str(n), votes=votes, series=series) for n in numbers]


def _exported(store: Store, series: str) -> list[tuple[Vote, ...]]:
    def read(tx):  # type: ignore[no-untyped-def]
        numbers = [one.no for one in tx.exports.imports_of(series)]
        return [one.record.votes for one in tx.exports.page(series, numbers, after=0, limit=99)]

    return store.read(read)


def _judged(store: Store, series: str) -> dict[str, int]:
    counts: tuple[VoteCount, ...] = store.read(lambda tx: tx.votes.of(series))
    return {one.code: one.items for one in counts}


def _erase(store: Store, import_id: str) -> None:
    def work(tx):  # type: ignore[no-untyped-def]
        row = tx.imports.row(import_id)
        assert row is not None
        return tx.erasure.import_holdings(row.no, 3).more

    while store.write(work):
        pass


def test_items_that_two_series_share_leave_with_their_votes(store: Store, put: Load) -> None:
    one, two = new_series_id("pt-pj"), new_series_id("pt-pj")
    put(store, _items(range(10), ONE, series=one), one)
    put(store, _items(range(5, 15), ONE, series=two), two)
    assert _exported(store, one) == [(ONE,)] * 10
    assert _exported(store, two) == [(ONE,)] * 10
    assert _judged(store, one) == _judged(store, two) == {"1": 10}


def test_items_that_two_cases_share_keep_the_votes_of_the_one_that_stays(
    store: Store, put: Load
) -> None:
    one, two = new_series_id("pt-pj"), new_series_id("pt-pj")
    first = put(store, _items(range(10), ONE, series=one), one, case="R1")
    second = put(store, _items(range(5, 15), ONE, series=two), two, case="R2")
    _erase(store, first)
    assert _judged(store, two) == {"1": 10}
    assert _exported(store, two) == [(ONE,)] * 10
    _erase(store, second)
    assert _judged(store, two) == {}


def test_what_a_later_import_of_the_case_adds_of_items_leaves_too(store: Store, put: Load) -> None:
    """A list without categories first, then the same with one: the case holds the items already."""
    series = new_series_id("pt-pj")
    first = put(store, _items(range(4), series=series), series)
    second = put(store, _items(range(4), ONE, series=series), series)
    put(store, _items(range(4), TWO, series=series), series)
    assert _exported(store, series) == [(ONE, TWO)] * 4
    _erase(store, first)
    assert _judged(store, series) == {"1": 4, "2": 4}
    _erase(store, second)
    assert _judged(store, series) == {"2": 4}


def test_what_an_import_of_the_case_states_is_stored_once(store: Store, put: Load) -> None:
    series = new_series_id("pt-pj")
    put(store, _items(range(4), ONE, TWO, series=series), series)
    before = store.read(lambda tx: tx.items.stats()).holdings
    again = put(store, _items(range(4), TWO, series=series), series)
    assert store.read(lambda tx: tx.items.stats()).holdings == before
    _erase(store, again)
    assert _exported(store, series) == [(ONE, TWO)] * 4


def test_an_item_that_comes_twice_in_an_import_has_the_votes_of_both(
    store: Store, put: Load
) -> None:
    series = new_series_id("pt-pj")
    put(store, _items(range(1), series=series), series)
    twice = [*_items(range(1), ONE, series=series), *_items(range(1), TWO, series=series)]
    put(store, twice, series)
    assert _exported(store, series) == [(ONE, TWO)]


def test_what_is_staged_in_two_batches_is_one_statement(store: Store) -> None:
    series = new_series_id("pt-pj")
    key = begin(store)
    for votes in ((), (ONE,), (ONE,), (TWO,)):
        batch = _items(range(3), *votes, series=series)
        store.write(lambda tx, b=batch: tx.imports.stage(key, b, [series] * 3, "pt-pj"))  # type: ignore[misc]
    complete(store, key)
    assert _exported(store, series) == [(ONE, TWO)] * 3
    assert store.read(lambda tx: tx.items.stats()).holdings == 3


def test_items_that_were_split_off_unseen_take_the_votes_along_that_came_with_them(
    store: Store,
) -> None:
    theirs, ours = new_series_id("es-pn"), new_series_id("pt-pj")
    key = begin(store, case="ES-1")
    came = _items(range(4), ONE, series=theirs)
    store.write(lambda tx: tx.imports.stage(key, came, [theirs] * 4, "es-pn"))
    complete(store, key)
    load(store, _items(range(4), TWO, series=ours), ours)
    assert _judged(store, ours) == {"1": 4, "2": 4}
    held = store.read(lambda tx: tx.items.of_series(theirs, after=0, limit=3))
    store.write(lambda tx: tx.splits.drop(theirs, [one.id for one in held]))
    assert _judged(store, ours) == {"1": 1, "2": 4}
