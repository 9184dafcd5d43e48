"""Retractions, receipts and erasures: one contract, on either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tieline_client.errors import NotFound
from tieline_client.identifiers import new_id
from tieline_server.domain.ports import Purge, Store
from tieline_server.domain.retraction import PurgeCause, PurgeState, Retraction, RetractionKind

from tests.storage.building import HANDLING, NOON, load, record, series


def _retraction(series_id: str, **changes: object) -> Retraction:
    fields: dict[str, object] = {
        "handling": HANDLING,
        "limited": True,
        "only": frozenset({"es-gc"}),
    }
    made = Retraction(new_id(), series_id, RetractionKind.NARROW, NOON, "ana", "why")
    return replace(made, **fields | changes)  # type: ignore[arg-type]


def test_a_retraction_comes_back_as_it_was_kept(store: Store) -> None:
    one = _retraction("pt-pj/x", envelope=b"\x01")
    plain = _retraction("pt-pj/x", handling=None, limited=False, only=frozenset())
    assert store.write(lambda tx: tx.retractions.add(one))
    assert not store.write(lambda tx: tx.retractions.add(one))
    store.write(lambda tx: tx.retractions.add(plain))
    assert store.read(lambda tx: tx.retractions.get(one.id, one.series)) == one
    assert store.read(lambda tx: tx.retractions.of_series("pt-pj/x")) == [one, plain]
    assert store.read(lambda tx: tx.retractions.of_series("pt-pj/y")) == []


def test_who_was_told_confirms_once(store: Store) -> None:
    one = _retraction("pt-pj/x")
    store.write(lambda tx: tx.retractions.add(one))
    store.write(lambda tx: tx.retractions.tell(one, "es-gc", message="m"))
    store.write(lambda tx: tx.retractions.tell(one, "es-gc", via="fr-of"))
    assert store.write(lambda tx: tx.retractions.confirm(one, "es-gc", NOON, erased=True))
    later = NOON + timedelta(days=1)
    assert not store.write(lambda tx: tx.retractions.confirm(one, "es-gc", later, erased=False))
    (known,) = store.read(lambda tx: tx.retractions.recipients(one))
    assert (known.via, known.confirmed, known.erased, known.sent) == ("", NOON, True, None)
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.retractions.confirm(one, "us-ice", NOON, erased=True))


def test_sources_wait_until_they_are_answered(store: Store) -> None:
    one = _retraction("pt-pj/x")
    store.write(lambda tx: tx.retractions.add(one))
    for agency in ("pt-pj", "europol-ec3"):
        store.write(lambda tx, a=agency: tx.retractions.add_source(one, a))  # type: ignore[misc]
    store.write(lambda tx: tx.retractions.answered(one, "pt-pj", NOON))
    waiting = store.read(lambda tx: tx.retractions.sources(one, waiting=True))
    assert waiting == ["europol-ec3"]
    store.write(lambda tx: tx.retractions.add_source(one, "pt-pj"))  # told again: answered again
    assert len(store.read(lambda tx: tx.retractions.sources(one, waiting=True))) == 2


def test_an_erasure_goes_through_its_states(store: Store) -> None:
    purge = Purge(new_id(), PurgeCause.RETRACTION, "pt-pj/x", NOON)
    store.write(lambda tx: tx.retractions.begin_purge(purge))
    store.write(lambda tx: tx.retractions.advance([purge], PurgeState.ERASED, holdings=3))
    store.write(lambda tx: tx.retractions.purge_waits(purge, "a reader"))
    (known,) = store.read(lambda tx: tx.retractions.open_purges())
    assert (known.state, known.holdings, known.reason) == (PurgeState.ERASED, 3, "a reader")
    store.write(lambda tx: tx.retractions.advance([purge], PurgeState.DONE, ended=NOON))
    assert store.read(lambda tx: tx.retractions.open_purges()) == []


def test_erasing_takes_what_no_other_holding_keeps(store: Store) -> None:
    one = series()
    store.write(lambda tx: tx.series.add(one))
    load(store, [record(sha1="a"), record(sha1="b")], one.id)
    load(store, [record(sha1="b")], case="C-2")
    done = store.write(lambda tx: tx.erasure.holdings(one.id, 100))
    assert (done.holdings, done.items, done.more) == (2, 1, False)
    store.write(lambda tx: tx.erasure.series(one.id))
    assert store.read(lambda tx: tx.series.get(one.id)) is None
    assert store.read(lambda tx: tx.items.stats()).items == 1
    past = HANDLING.retain_until + timedelta(days=10_000)
    ((number, _),) = list(store.read(lambda tx: tx.erasure.imports_past(past, 10)))
    assert store.write(lambda tx: tx.erasure.import_holdings(number, 100)).items == 1
    assert store.read(lambda tx: tx.items.stats()).items == 0
    assert store.scrub()
