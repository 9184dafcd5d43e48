"""Budgets in storage: never over, by however many at once; and what stays of a day."""

from __future__ import annotations

import multiprocessing
import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from tieline_client.errors import BudgetExceeded
from tieline_server.domain.budget import ALL, Budgets, Spent
from tieline_server.domain.ports import Record, Store
from tieline_server.services.budgeting import Budgeting
from tieline_server.storage.engine import open_store

from tests.postgres import PostgresCluster
from tests.storage.building import now

DAY, PEER, WHY = "2026-03-01", "es-gc", "deconfliction"
SECONDS = 120


def _reserve(
    store: Store, units: int, budget: int, *, cap: int = 10**9, purpose: str = WHY
) -> Spent | None:
    def work(tx: Record) -> Spent | None:
        return tx.budgets.reserve(DAY, PEER, purpose, units, budget=budget, cap=cap)

    return store.note(work)


def _spent(store: Store, day: str = DAY) -> dict[str, int]:
    return {one.purpose: one.units for one in store.read(lambda tx: tx.budgets.spent(day, PEER))}


def test_a_reservation_is_in_both_rows_or_in_neither(store: Store) -> None:
    assert _reserve(store, 6, 10) == Spent(PEER, ALL, 6)
    assert _reserve(store, 5, 10) is None
    assert _reserve(store, 4, 10, cap=9) is None
    assert _reserve(store, 4, 10, purpose="other") == Spent(PEER, ALL, 10)
    assert _reserve(store, 1, 10) is None
    assert _spent(store) == {ALL: 10, WHY: 6, "other": 4}


def test_the_first_of_a_day_may_be_too_much_already(store: Store) -> None:
    assert _reserve(store, 11, 10) is None
    assert _reserve(store, 10, 10) is not None


def test_what_is_given_back_can_be_reserved_again(store: Store) -> None:
    _reserve(store, 10, 10)
    store.note(lambda tx: tx.budgets.give_back(DAY, PEER, WHY, 4))
    assert _spent(store) == {ALL: 6, WHY: 6}
    assert _reserve(store, 5, 10) is None
    assert _reserve(store, 4, 10) is not None
    store.note(lambda tx: tx.budgets.give_back("2026-02-28", PEER, WHY, 4))
    assert _spent(store) == {ALL: 10, WHY: 10}


def test_days_are_apart_and_old_ones_are_dropped(store: Store) -> None:
    _reserve(store, 1, 10)
    store.note(lambda tx: tx.budgets.reserve("2026-03-02", PEER, WHY, 9, budget=9, cap=9))
    assert _spent(store) == {ALL: 1, WHY: 1}
    store.note(lambda tx: tx.budgets.forget("2026-03-02"))
    assert _spent(store) == {}
    assert _spent(store, "2026-03-02") == {ALL: 9, WHY: 9}


def test_what_questions_held_and_found_is_counted_beside(store: Store) -> None:
    _reserve(store, 5, 10)
    store.note(lambda tx: tx.budgets.tally(DAY, PEER, 5, 1))
    assert store.note(lambda tx: tx.budgets.tally(DAY, PEER, 3, 2)) == Spent(PEER, ALL, 5, 8, 3)


def test_what_an_admin_set_is_replaced_and_dropped(store: Store) -> None:
    store.write(lambda tx: tx.budgets.state(PEER, "", 5))
    store.write(lambda tx: tx.budgets.state(PEER, "", 6))
    store.write(lambda tx: tx.budgets.state("fr-pn", WHY, 0))
    assert store.read(lambda tx: tx.budgets.stated()) == {(PEER, ""): 6, ("fr-pn", WHY): 0}
    assert store.read(lambda tx: tx.budgets.stated(PEER)) == {(PEER, ""): 6}
    store.write(lambda tx: tx.budgets.state(PEER, "", None))
    assert store.read(lambda tx: tx.budgets.stated(PEER)) == {}


def test_ids_are_known_spoilt_and_forgotten(store: Store) -> None:
    digest = bytes(32)
    assert store.read(lambda tx: tx.queries.header_digest(PEER, "r")) is None
    store.note(lambda tx: tx.queries.reserve("r", PEER, digest, now()))
    assert store.read(lambda tx: tx.queries.header_digest(PEER, "r")) == digest
    store.note(lambda tx: tx.queries.spoil(PEER, "r", now()))
    assert store.read(lambda tx: tx.queries.header_digest(PEER, "r")) == b""
    store.note(lambda tx: tx.queries.forget(PEER, "r"))
    assert store.read(lambda tx: tx.queries.header_digest(PEER, "r")) is None


def test_many_at_once_never_reserve_one_unit_too_many(store: Store) -> None:
    budget, sizes = 1_000, [random.Random(5).randint(1, 13) for _ in range(400)]

    def one(numbered: tuple[int, int]) -> int:
        purpose = ("a", "b", "c")[numbered[0] % 3]
        return numbered[1] if _reserve(store, numbered[1], budget, purpose=purpose) else 0

    with ThreadPoolExecutor(16) as threads:
        got = sum(threads.map(one, enumerate(sizes)))
    spent = _spent(store)
    assert spent.pop(ALL) == got == sum(spent.values())
    assert budget - 13 < got <= budget
    assert sum(_reserve(store, 1, budget) is not None for _ in range(14)) == budget - got


# --- several processes on one database ------------------------------------------------------------


def _keeper(store: Store, budget: int) -> Budgeting:
    return Budgeting("pt-pj", store, now, Budgets(budget), lambda: None)


def _take_all(keeper: Budgeting, name: str, sizes: list[int]) -> int:
    """Charge questions of these sizes; return what was let through."""
    got = 0
    for number, units in enumerate(sizes):
        try:
            keeper.charge(PEER, WHY, f"{name}-{number}", bytes(32), units)
        except BudgetExceeded:
            continue
        got += units
    return got


def _in_a_process(url: str, name: str, budget: int, sizes: list[int], pipe: object) -> None:
    with closing(open_store(url, clock=now)) as store:
        keeper = _keeper(store, budget)
        pipe.send("ready")  # type: ignore[attr-defined]
        pipe.recv()  # type: ignore[attr-defined]
        got = _take_all(keeper, name, sizes)
        keeper.close()
        pipe.send(got)  # type: ignore[attr-defined]


@pytest.mark.postgres
def test_processes_share_a_budget_to_the_unit(postgres_cluster: PostgresCluster) -> None:
    """Large enough that blocks are reserved ahead, small enough that it ends."""
    url, budget = postgres_cluster.url(postgres_cluster.create()), 130_000
    open_store(url, clock=now).close()
    start = multiprocessing.get_context("spawn")
    running = []
    for seed in range(3):
        sizes = [random.Random(seed).choice((1, 2, 50, 3_000)) for _ in range(110)] + [1] * 1_500
        mine, theirs = start.Pipe()
        arguments = (url, f"p{seed}", budget, sizes, theirs)
        process = start.Process(target=_in_a_process, args=arguments)
        process.start()
        running.append((process, mine))
    for _, mine in running:
        assert mine.poll(SECONDS) and mine.recv() == "ready"
    for _, mine in running:
        mine.send("go")
    got = 0
    for process, mine in running:
        assert mine.poll(SECONDS)
        got += mine.recv()
        process.join(SECONDS)
    with closing(open_store(url, clock=now)) as store:
        assert _spent(store) == {ALL: got, WHY: got}
        assert got <= budget
        left = _keeper(store, budget)
        assert _take_all(left, "last", [1] * (budget - got + 5)) == budget - got


@pytest.mark.postgres
def test_the_last_units_are_in_reach_though_another_process_holds_a_block(
    postgres_cluster: PostgresCluster,
) -> None:
    url, budget = postgres_cluster.url(postgres_cluster.create()), 200_000
    with ExitStack() as held:
        stores = [held.enter_context(closing(open_store(url, clock=now))) for _ in range(2)]
        one, two = (_keeper(store, budget) for store in stores)
        one.charge(PEER, WHY, "a", bytes(32), 1)
        assert _spent(stores[0])[ALL] == 1_001  # a block ahead counts as spent until it is used
        two.charge(PEER, WHY, "b", bytes(32), budget - 1_001)
        with pytest.raises(BudgetExceeded):
            two.charge(PEER, WHY, "c", bytes(32), 1)
        assert _take_all(one, "rest", [1] * 1_100) == 1_000
        assert _spent(stores[0])[ALL] == budget
