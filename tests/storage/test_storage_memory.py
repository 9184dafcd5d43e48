"""What a store remembers of its reads, and who writes for whom."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tieline_client.errors import StorageUnavailable
from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Operator, Record, Store, Tx
from tieline_server.storage.turns import Job, Turns

from tests.storage.building import NOON

SECONDS = 120


def ana(*roles: str) -> Operator:
    return Operator("ana", roles, (1,), NOON)


def roles(tx: Tx) -> tuple[str, ...]:
    found = tx.operators.get("ana")
    return () if found is None else found.roles


def note(store: Store, request: str) -> None:
    def work(tx: Record) -> None:
        tx.queries.reserve(request, "es-gc", b"header", NOON)
        tx.audit.append(AuditEntry("query.answered", NOON, "pt-pj"))

    store.note(work)


def test_what_is_recalled_is_as_it_was_last_written(store: Store) -> None:
    for given in ((), ("analyst",), ("analyst", "admin")):
        if given:
            store.write(lambda tx, given=given: tx.operators.put(ana(*given)))  # type: ignore[misc]
        for number in range(3):
            assert store.recall("ana", roles) == given
            note(store, f"{len(given)}-{number}")
    store.drain()
    assert store.read(lambda tx: tx.audit.size()) == 9


def test_a_failed_write_forgets_too(store: Store) -> None:
    assert store.recall("ana", roles) == ()

    def fails(tx: Tx) -> None:
        tx.operators.put(ana("admin"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(fails)
    assert store.recall("ana", roles) == ()


def test_what_was_read_before_a_write_is_not_remembered_after_it(store: Store) -> None:
    read, written = threading.Event(), threading.Event()

    def slow(tx: Tx) -> tuple[str, ...]:
        before = roles(tx)
        read.set()
        assert written.wait(SECONDS)
        return before

    with ThreadPoolExecutor(1) as pool:
        early = pool.submit(store.recall, "ana", slow)
        assert read.wait(SECONDS)
        store.write(lambda tx: tx.operators.put(ana("admin")))
        written.set()
        assert early.result(SECONDS) == ()
    assert store.recall("ana", roles) == ("admin",)


def test_what_is_noted_is_as_durable_as_what_is_written(store: Store) -> None:
    note(store, "one")
    later = NOON + timedelta(minutes=1)
    assert store.note(lambda tx: tx.queries.reserve("one", "es-gc", b"header", later)) is False
    with pytest.raises(ZeroDivisionError):
        store.note(lambda tx: (tx.queries.reserve("two", "es-gc", b"header", later), 1 / 0))
    assert store.note(lambda tx: tx.queries.reserve("two", "es-gc", b"other", later)) is True


def test_who_comes_while_one_leads_is_taken_along_or_leads_next() -> None:
    """Every job is settled once, in its order, by whoever led its group."""
    order: list[int] = []
    led: list[int] = []
    begun, go = threading.Event(), threading.Event()

    def group(first: Job) -> None:
        led.append(threading.get_ident())
        assert first.work is not None
        first.work(None)
        other = turns.take()  # whoever came meanwhile
        if other is not None:
            assert other.work is not None
            other.work(None)

    def work(number: int) -> None:
        if number == 0:
            begun.set()
            assert go.wait(SECONDS)
        order.append(number)

    turns = Turns(group)
    with ThreadPoolExecutor(8) as pool:
        done = []
        for number in range(6):
            job = Job(lambda _, number=number: work(number))  # type: ignore[misc]
            done.append(pool.submit(turns.run, job))
            if number == 0:
                assert begun.wait(SECONDS)
            while len(turns) < number:
                threading.Event().wait(0.001)
        closing = pool.submit(turns.close)
        go.set()
        assert all(one.result(SECONDS) for one in done)
        closing.result(SECONDS)
    assert order == list(range(6))
    assert len(led) == 3
    assert not turns.run(Job(lambda _: None))


def test_nobody_waits_for_a_leader_that_broke_down() -> None:
    def group(first: Job) -> None:
        raise KeyboardInterrupt

    turns = Turns(group)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            turns.run(Job(lambda _: None))
    turns.close()


def test_nor_does_who_was_taken_along_by_one_that_broke_down() -> None:
    waiting = threading.Event()
    jobs = [Job(lambda _: None) for _ in range(3)]

    def group(first: Job) -> None:
        if first is jobs[0]:
            assert waiting.wait(SECONDS)
            assert turns.take() is jobs[1]
            raise MemoryError

    turns = Turns(group)
    with ThreadPoolExecutor(3) as pool:
        done = []
        for number, job in enumerate(jobs):
            done.append(pool.submit(turns.run, job))
            while len(turns) < number:  # they come in this order
                threading.Event().wait(0.001)
        waiting.set()
        with pytest.raises(MemoryError):
            done[0].result(SECONDS)
        assert all(one.result(SECONDS) for one in done[1:])
    assert isinstance(jobs[1].error, StorageUnavailable)
    assert jobs[2].error is None  # it led the next group
    turns.close()


def test_a_write_inside_a_write_is_an_error(store: Store) -> None:
    if type(store).__name__ == "PostgresStore":
        pytest.skip("transactions run side by side there")
    with pytest.raises(RuntimeError):
        store.write(lambda _: store.write(lambda tx: tx.operators.put(ana("admin"))))
    store.close()
    with pytest.raises(StorageUnavailable):
        store.write(lambda tx: tx.operators.put(ana("admin")))
