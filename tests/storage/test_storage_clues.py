"""Clues and tips: one contract, on either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tieline_client.errors import NotFound
from tieline_client.identifiers import new_id
from tieline_server.domain.clue import Clue, Fate, Support, Tip, TipCounts, TipState
from tieline_server.domain.ports import Store

from tests.storage.building import NOON, series


def _clue(store: Store, of: str = "pt-pj/s", **changes: Any) -> Clue:
    clue = replace(Clue(new_id(), of, "object", "a bag", "pt-pj", "ana", NOON), **changes)
    store.write(lambda tx: tx.clues.add(clue))
    return clue


def _tip(clue: Clue, text: str = "seen", **changes: Any) -> Tip:
    return replace(Tip(new_id(), clue.id, text, "", "", NOON, "pt-pj"), **changes)


def _judge(store: Store, tip: Tip, state: TipState, pro: str = "", contra: str = "") -> None:
    store.write(
        lambda tx: tx.clues.judge(
            tip.id, state, supports=pro, eliminates=contra, person="ana", at=NOON, reason="r"
        )
    )


def test_a_clue_comes_back_as_it_was_kept_by_either_id(store: Store) -> None:
    clue = _clue(store)
    other = _clue(store, created=NOON + timedelta(1))
    assert store.read(lambda tx: tx.clues.get(clue.id)) == clue
    assert store.read(lambda tx: tx.clues.get("")) is None
    store.write(
        lambda tx: tx.clues.set_published(
            *(clue.id,),
            public="ab",
            text="bag",
            person="rui",
            purpose="p",
            case_ref="C",
            at=NOON,
        )
    )
    shown = store.read(lambda tx: tx.clues.get("ab"))
    assert shown is not None and shown.is_public and shown.published_text == "bag"
    assert list(store.read(lambda tx: tx.clues.find(public=True))) == [shown]
    store.write(lambda tx: tx.clues.take_back(clue.id, NOON))
    assert not store.read(lambda tx: tx.clues.find(public=True))
    assert [one.id for one in store.read(lambda tx: tx.clues.find("pt-pj/s"))] == [
        clue.id,
        other.id,
    ]
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.clues.take_back(new_id(), NOON))


def test_the_same_tip_is_kept_once_and_counted(store: Store) -> None:
    clue = _clue(store)
    tip = _tip(clue)
    assert store.write(lambda tx: tx.clues.add_tip(tip)) is Fate.ADDED
    again = replace(tip, id=new_id(), text="SEEN ")
    assert store.write(lambda tx: tx.clues.add_tip(again)) is Fate.KNOWN
    assert store.write(lambda tx: tx.clues.add_tip(replace(again, contact="x"))) is Fate.ADDED
    assert store.read(lambda tx: tx.clues.tip(tip.id)) == tip
    found = store.read(lambda tx: tx.clues.get(clue.id))
    assert found is not None and found.known == 1


def test_a_source_is_counted_by_its_days(store: Store) -> None:
    clue = _clue(store)
    for number, day in enumerate((0, 0, 1)):
        tip = _tip(clue, f"n{number}", source="s", received=NOON + timedelta(days=day))
        store.write(lambda tx, one=tip: tx.clues.add_tip(one))  # type: ignore[misc]
    counts = [
        store.read(lambda tx, d=day: tx.clues.of_day("s", d))  # type: ignore[misc]
        for day in ("2026-03-01", "2026-03-02", "2026-03-03")
    ]
    assert counts == [2, 1, 0]


def test_pages_counts_relays_and_support(store: Store) -> None:
    clue, elsewhere = _clue(store), _clue(store, "pt-pj/other")
    tips = [_tip(clue, f"n{number}") for number in range(5)]
    foreign = _tip(elsewhere)
    for tip in (*tips, foreign):
        store.write(lambda tx, one=tip: tx.clues.add_tip(one))  # type: ignore[misc]
    _judge(store, tips[0], TipState.VERIFIED, "PT")
    _judge(store, tips[1], TipState.VERIFIED, "PT")
    _judge(store, tips[2], TipState.VERIFIED, contra="PT")
    _judge(store, tips[3], TipState.DISMISSED)
    _judge(store, foreign, TipState.VERIFIED, "ES")
    assert store.write(lambda tx: tx.clues.relayed(tips[0].id, "es-gc", NOON))
    assert not store.write(lambda tx: tx.clues.relayed(tips[0].id, "es-gc", NOON))
    store.write(lambda tx: tx.clues.relayed(tips[0].id, "fr-of", NOON))
    assert store.read(lambda tx: tx.clues.relays(tips[0].id)) == ["es-gc", "fr-of"]
    assert store.read(lambda tx: tx.clues.counts([clue.id, "x"])) == {
        clue.id: TipCounts(5, 1, 3, 1, 1),
        "x": TipCounts(),
    }
    assert store.read(lambda tx: tx.clues.support("pt-pj/s")) == {"PT": Support(2, 1)}
    page = store.read(lambda tx: tx.clues.tips(clue.id, limit=3))
    rest = store.read(lambda tx: tx.clues.tips(clue.id, after=page[-1].id, limit=3))
    assert [one.id for one in (*page, *rest)] == sorted(one.id for one in tips)
    fresh = store.read(lambda tx: tx.clues.tips(clue.id, TipState.NEW))
    assert [one.id for one in fresh] == [tips[4].id]


def test_nothing_of_it_is_left_of_a_series_that_is_erased(store: Store) -> None:
    one = series()
    store.write(lambda tx: tx.series.add(one))
    gone, stays = _clue(store, one.id), _clue(store, "pt-pj/other")
    for clue in (gone, stays):
        tip = _tip(clue)
        store.write(lambda tx, new=tip: tx.clues.add_tip(new))  # type: ignore[misc]
        store.write(lambda tx, new=tip: tx.clues.relayed(new.id, "es-gc", NOON))  # type: ignore[misc]
    store.write(lambda tx: tx.erasure.series(one.id))
    assert [clue.id for clue in store.read(lambda tx: tx.clues.find())] == [stays.id]
    (left,) = store.read(lambda tx: tx.clues.tips())
    assert left.clue == stays.id and store.read(lambda tx: tx.clues.relays(left.id))
