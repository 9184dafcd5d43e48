"""Operations: one contract, on either database."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest
from tieline_client.errors import NotFound
from tieline_client.identifiers import new_id, new_series_id
from tieline_server.domain.clue import Clue, Tip, TipState
from tieline_server.domain.operation import Evaluation, Operation, Progress
from tieline_server.domain.ports import Store
from tieline_server.domain.referral import (
    Direction,
    Outcome,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.series_life import EventKind, SeriesEvent
from tieline_server.domain.upload import Upload, UploadState, UploadStep

from tests.storage.building import NOON, load, record

DAY = timedelta(days=1)
A, B = sorted(new_series_id("pt-pj") for _ in range(2))
THEIRS, OTHERS = new_series_id("es-pn"), new_series_id("fr-pn")


def _operation(store: Store, name: str = "T", **changes: Any) -> Operation:
    made = Operation(
        new_id(), name, date(2026, 3, 1), date(2026, 3, 9), ("es-pn", "fr-pn"), "rui", "C", NOON
    )
    made = replace(made, **changes)
    store.write(lambda tx: tx.operations.add(made))
    return made


def _event(series: str, after: str, at: Any) -> SeriesEvent:
    return SeriesEvent(new_id(), series, EventKind.STATUS, "pt-pj", "ana", at, "new", after)


def _referral(store: Store, series: str, direction: Direction, **states: Any) -> None:
    """Add a referral with steps at these times; an outcome with two counts."""
    id_ = new_id()
    referral = Referral(
        *(id_, id_, series, direction, "pt-pj", "es-pn", "ES", Urgency.URGENT),
        *("p", "C", "ana", NOON),
    )
    store.write(lambda tx: tx.referrals.add(referral))
    for state, at in states.items():
        outcome = Outcome(2, 1, 0, 0) if state == "outcome" else None
        step = ReferralStep(
            new_id(), id_, ReferralState(state), "es-pn", "eva", at, outcome=outcome
        )
        store.write(lambda tx, one=step: tx.referrals.add_step(one))  # type: ignore[misc]


def test_an_operation_comes_back_by_id_and_name(store: Store) -> None:
    first = _operation(store)
    second = _operation(store, "U", created=NOON + DAY, participants=())
    for key in (first.id, "T"):
        assert store.read(lambda tx, k=key: tx.operations.get(k)) == first  # type: ignore[misc]
    assert store.read(lambda tx: tx.operations.get("V")) is None
    assert store.read(lambda tx: list(tx.operations.find())) == [second, first]
    # A name that is another's id names the one whose id it is.
    _operation(store, first.id, created=NOON - DAY)
    assert store.read(lambda tx: tx.operations.get(first.id)) == first


def test_series_and_tasks_are_kept_once(store: Store) -> None:
    one = _operation(store).id

    def add(series: str) -> bool:
        return store.write(lambda tx: tx.operations.add_series(one, series, "ana", NOON))

    assert [add(B), add(A), add(B)] == [True, True, False]
    assert list(store.read(lambda tx: tx.operations.series(one))) == [A, B]
    task = Evaluation(one, A, "es-pn", "eva", NOON, "ana")
    assert store.write(lambda tx: tx.operations.assign(task))
    assert not store.write(lambda tx: tx.operations.assign(replace(task, assigned=NOON + DAY)))
    anybody = replace(task, person="", assigned=NOON + DAY)
    assert store.write(lambda tx: tx.operations.assign(anybody))
    done = replace(task, done=NOON + DAY, done_by="ana", text="a sign")
    store.write(lambda tx: tx.operations.finish(done))
    assert list(store.read(lambda tx: tx.operations.evaluations(one))) == [done, anybody]
    with pytest.raises(NotFound):
        store.write(lambda tx: tx.operations.finish(replace(done, agency="fr-pn")))


def test_progress_is_read_off_the_work_since_a_day(store: Store) -> None:
    one = _operation(store).id
    early, late = NOON - DAY, NOON + DAY
    for event in (
        *(_event(A, "triaged", early), _event(A, "under_evaluation", NOON)),
        *(_event(A, "localised", late), _event(A, "localised", NOON), _event(B, "closed", NOON)),
    ):
        store.write(lambda tx, e=event: tx.history.add(e))  # type: ignore[misc]
    _referral(store, A, Direction.OUT, delivered=late, acknowledged=late, outcome=late)
    _referral(store, A, Direction.OUT, delivered=NOON)
    # What others told us is no telling of ours, but an outcome is one.
    _referral(store, B, Direction.IN, delivered=NOON, acknowledged=NOON, outcome=early)
    _referral(store, B, Direction.IN, outcome=late)
    upload = Upload(
        *("u", A, Direction.OUT, "pt-pj", "interpol", "p", "C", "ana", NOON, 3),
    )
    store.write(lambda tx: tx.uploads.add(upload))
    for state, at in ((UploadState.MEDIA_REQUESTED, NOON), (UploadState.NUMBERED, late)):
        step = UploadStep(new_id(), "u", state, "interpol", "ida", at, "R-1")
        store.write(lambda tx, s=step: tx.uploads.add_step(s))  # type: ignore[misc]
    task = Evaluation(one, A, "es-pn", "", early, "ana", done=late, done_by="ana")
    store.write(lambda tx: tx.operations.assign(task))
    _tips(store, A, verified=1, waiting=2)
    found = store.read(lambda tx: tx.operations.progress([A, B, THEIRS], NOON))
    assert found[A] == Progress(
        A,
        triaged=NOON,
        evaluated=late,
        localised=NOON,
        told=NOON,
        acknowledged=late,
        uploaded=late,
        outcome=late,
        identified=2,
        tentative=1,
        tips=3,
        verified=1,
    )
    assert found[B] == Progress(B, outcome=late, identified=2, tentative=1)
    assert found[THEIRS] == Progress(THEIRS)


def _verify(store: Store, tip: str, at: Any) -> None:
    said = {"supports": "PT", "eliminates": "", "person": "ana", "at": at, "reason": ""}
    store.write(lambda tx: tx.clues.judge(tip, TipState.VERIFIED, **said))


def _tips(store: Store, series: str, *, verified: int, waiting: int, at: Any = NOON) -> None:
    clue = Clue(new_id(), series, "object", "a bag", "pt-pj", "ana", at)
    store.write(lambda tx: tx.clues.add(clue))
    for number in range(verified + waiting):
        tip = Tip(new_id(), clue.id, f"seen {number}", "", "", at, "pt-pj")
        store.write(lambda tx, t=tip: tx.clues.add_tip(t))  # type: ignore[misc]
        if number < verified:
            _verify(store, tip.id, at)


def test_clues_are_new_until_the_series_is_evaluated(store: Store) -> None:
    one = _operation(store).id
    _tips(store, A, verified=2, waiting=5)
    _tips(store, B, verified=0, waiting=1)

    def new() -> dict[str, int]:
        return dict(store.read(lambda tx: tx.operations.new_clues([A, B, THEIRS])))

    assert new() == {A: 3, B: 1}
    task = Evaluation(one, A, "es-pn", "", NOON, "ana")
    store.write(lambda tx: tx.operations.assign(task))
    assert new()[A] == 3, "who is only assigned has not looked yet"
    store.write(lambda tx: tx.operations.finish(replace(task, done=NOON + DAY, done_by="ana")))
    assert new() == {B: 1}
    _tips(store, A, verified=1, waiting=0, at=NOON + 2 * DAY)
    assert new() == {A: 2, B: 1}


def test_overlaps_are_with_series_of_others(store: Store) -> None:
    load(store, [record(1, sha1="x"), record(2, sha1="y")], A)
    load(store, [record(1, sha1="x")], B)
    load(store, [record(1, sha1="z")], OTHERS)
    found = store.read(lambda tx: tx.operations.overlaps([A, B]))
    assert found == {A: set(), B: set()}, "an own series is nobody else's"
    load(store, [record(1, sha1="y")], THEIRS)
    found = store.read(lambda tx: tx.operations.overlaps([A, B]))
    assert found == {A: {"es-pn"}, B: set()}


def test_an_erased_series_is_in_no_operation(store: Store) -> None:
    one = _operation(store).id
    for series in (A, B):
        store.write(lambda tx, s=series: tx.operations.add_series(one, s, "ana", NOON))  # type: ignore[misc]
        task = Evaluation(one, series, "es-pn", "eva", NOON, "ana", NOON, "ana", "a sign")
        store.write(lambda tx, t=task: tx.operations.assign(t))  # type: ignore[misc]
    store.write(lambda tx: tx.erasure.series(A))
    assert list(store.read(lambda tx: tx.operations.series(one))) == [B]
    left = store.read(lambda tx: tx.operations.evaluations(one))
    assert [task.series for task in left] == [B]
