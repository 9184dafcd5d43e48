"""Requests that a person decides: one contract, on either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tieline.v1 import requests_pb2
from tieline_client.identifiers import new_id
from tieline_server.domain.policy import Disclosure
from tieline_server.domain.ports import Store
from tieline_server.domain.request import (
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
    Use,
)

from tests.storage.building import NOON, load, record, series

MONTH = timedelta(days=30)
ASKER = ("es-gc", "victim-identification", "C-1")


def made(**changes: Any) -> Request:
    request = Request(
        id=new_id(),
        kind=RequestKind.RELEASE,
        side=Side.IN,
        peer=ASKER[0],
        person="ana",
        purpose=ASKER[1],
        case_ref=ASKER[2],
        created=NOON,
        expires=NOON + MONTH,
        level=Disclosure.REFERENCE,
        items=3,
    )
    return replace(request, **changes)


def held(store: Store) -> tuple[str, int]:
    """A series that items are held in; its id, and its number in holdings."""
    one = series()
    store.write(lambda tx: tx.series.add(one))
    load(store, [record(1, sha1="a")], one.id)
    return one.id, store.read(lambda tx: tx.requests.numbers([one.id]))[one.id]


def test_a_request_comes_back_as_it_was_kept(store: Store) -> None:
    one = made(
        kind=RequestKind.PERMISSION,
        use=Use.PASS_ON,
        agencies=("fr-of", "de-bka"),
        text="why",
        terms={"a": "b"},
        decided_by="rui",
        decided=NOON,
        state=RequestState.APPROVED,
        envelope=b"\x01",
    )
    rows = [RequestedSeries("pt-pj/x", 3), RequestedSeries("", 1)]
    assert store.write(lambda tx: tx.requests.add(one, rows))
    assert not store.write(lambda tx: tx.requests.add(one))
    assert store.read(lambda tx: tx.requests.get(one.id)) == one
    assert store.read(lambda tx: tx.requests.series_of(one.id)) == rows
    found = store.read(lambda tx: tx.requests.find(series="pt-pj/x", sides=(Side.IN,)))
    assert found == [one]
    assert store.read(lambda tx: tx.requests.find(states=(RequestState.PENDING,))) == []
    store.write(lambda tx: tx.requests.mark(one.id, ["pt-pj/x"], SeriesState.RELEASED))
    states = [row.state for row in store.read(lambda tx: tx.requests.series_of(one.id))]
    assert states == [SeriesState.RELEASED, SeriesState.WAITING]


def test_what_waits_for_one_case_is_one_request(store: Store) -> None:
    name, number = held(store)
    first = made()
    assert store.note(lambda tx: tx.requests.wait(first, {number: 2, 0: 1})) == first.id
    again = made(items=9)
    assert store.note(lambda tx: tx.requests.wait(again, {number: 8})) == first.id
    kept = store.read(lambda tx: tx.requests.get(first.id))
    assert kept is not None and kept.items == 9
    rows = {row.series: row.items for row in store.read(lambda tx: tx.requests.series_of(first.id))}
    assert rows == {name: 8, "": 1}
    for other in (made(case_ref="C-2"), made(level=Disclosure.DETAIL), made(peer="fr-of")):
        assert store.note(lambda tx, o=other: tx.requests.wait(o, {0: 1})) == other.id  # type: ignore[misc]


def test_a_peers_refusal_is_known_while_it_holds(store: Store) -> None:
    refused = {"side": Side.OUT, "state": RequestState.REFUSED}
    older, last = made(**refused), made(**refused, created=NOON + timedelta(days=1))
    for one in (
        *(last, older, made(state=RequestState.REFUSED), made(side=Side.OUT)),
        made(**refused, kind=RequestKind.PERMISSION, created=NOON + MONTH),
    ):
        store.write(lambda tx, o=one: tx.requests.add(o))  # type: ignore[misc]

    def known(*about: Any) -> Request | None:
        return store.read(lambda tx: tx.requests.refusal(*about))

    assert known(*ASKER, NOON) == last
    assert known(*ASKER, NOON + MONTH) is None
    assert known("fr-of", *ASKER[1:], NOON) is known(*ASKER[:2], "C-2", NOON) is None


def test_a_decision_holds_for_its_asker_until_its_day(store: Store) -> None:
    name, number = held(store)
    one = made(state=RequestState.APPROVED)
    rows = [
        RequestedSeries(name, 1, SeriesState.RELEASED),
        RequestedSeries("", 1, SeriesState.REFUSED),
    ]
    store.write(lambda tx: tx.requests.add(one, rows))

    def levels(*about: Any) -> dict[int, Disclosure]:
        found = store.read(lambda tx: tx.requests.grants(*about))
        return {series_no: grant.level for series_no, grant in found.items()}

    assert levels(*ASKER, NOON) == {number: Disclosure.REFERENCE, 0: Disclosure.NOTHING}
    assert levels("fr-of", *ASKER[1:], NOON) == {}
    assert levels(*ASKER[:2], "C-2", NOON) == {}
    assert levels(*ASKER, NOON + MONTH) == {}
    assert store.read(lambda tx: tx.requests.released_to(name)) == ["es-gc"]


def test_a_use_is_permitted_for_a_purpose_until_its_day(store: Store) -> None:
    name, number = held(store)
    one = made(kind=RequestKind.PERMISSION, use=Use.USE, state=RequestState.APPROVED)
    store.write(lambda tx: tx.requests.add(one, [RequestedSeries(name, 0)]))
    used = store.read(lambda tx: tx.requests.used(*ASKER[:2], NOON))
    assert used == {number: NOON + MONTH}
    assert store.read(lambda tx: tx.requests.used("es-gc", "prosecution", NOON)) == {}
    assert store.read(lambda tx: tx.requests.used(*ASKER[:2], NOON + MONTH)) == {}


def test_what_has_no_effect_any_more_is_erased_and_who_was_told_is_known(store: Store) -> None:
    name, _ = held(store)
    pending, told = made(), made(state=RequestState.APPROVED)
    store.write(lambda tx: tx.requests.add(pending, [RequestedSeries(name, 1)]))
    released = [RequestedSeries(name, 1, SeriesState.RELEASED)]
    store.write(lambda tx: tx.requests.add(told, released))
    assert store.write(lambda tx: tx.requests.sweep(NOON, 100)) == 0
    assert store.write(lambda tx: tx.requests.sweep(NOON + MONTH, 100)) == 1
    assert store.read(lambda tx: tx.requests.get(pending.id)) is None
    assert store.read(lambda tx: tx.requests.released_to(name)) == ["es-gc"]


def test_what_was_released_is_erased_on_its_retention_date(store: Store) -> None:
    body = requests_pb2.Release()
    body.series.handling.retain_until = NOON.date().isoformat()
    got = made(side=Side.OUT, state=RequestState.APPROVED)
    row = RequestedSeries("pt-pj/x", 1, SeriesState.RELEASED, body.SerializeToString())
    store.write(lambda tx: tx.requests.add(got, [row]))
    assert store.write(lambda tx: tx.requests.sweep(NOON - timedelta(days=1), 100)) == 0
    store.write(lambda tx: tx.requests.sweep(NOON, 100))
    assert store.read(lambda tx: tx.requests.series_of(got.id)) == []


def test_erasing_a_series_takes_it_out_of_requests(store: Store) -> None:
    one = made(kind=RequestKind.PERMISSION, use=Use.UPLOAD, text="words about it", envelope=b"\x01")
    store.write(lambda tx: tx.requests.add(one, [RequestedSeries("pt-pj/x", 0)]))
    store.write(lambda tx: tx.erasure.series("pt-pj/x"))
    kept = store.read(lambda tx: tx.requests.get(one.id))
    assert kept is not None and (kept.text, kept.envelope) == ("", b"")
    assert store.read(lambda tx: tx.requests.series_of(one.id)) == []
