"""Transactions, the audit log and many writers at once, on both databases."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, StorageUnavailable, WrongState
from tieline_server.domain import merkle
from tieline_server.domain.audit import AuditEntry, AuditRecord
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.referral import ReferralState

from tests.storage.building import NOON, answered, each, load, md5, record, series
from tests.storage.test_storage_exchange import message, referral, step


def entry(action: str = "import", **more: object) -> AuditEntry:
    return AuditEntry(action, NOON, "pt-pj", "ana", **more)  # type: ignore[arg-type]


def log(store: Store) -> list[AuditRecord]:
    store.drain()
    return store.read(lambda tx: tx.audit.records(0, 10_000))


def verify(store: Store) -> Sequence[AuditRecord]:
    """Recompute the log from its leaves and compare with what is stored."""
    records = log(store)
    assert [one.position for one in records] == list(range(len(records)))
    nodes: dict[tuple[int, int], bytes] = {}
    for one in records:
        assert one.leaf_hash == merkle.leaf_hash(one.leaf)
        for node in merkle.append(
            one.position, [one.leaf_hash], lambda level, number: nodes[(level, number)]
        ):
            nodes[(node.level, node.number)] = node.hash
    size, root = store.read(lambda tx: (tx.audit.size(), tx.audit.root()))
    assert size == len(records)
    assert root == merkle.root(size, lambda level, number: nodes[(level, number)])
    return records


def test_the_log_grows_by_what_is_committed(store: Store) -> None:
    assert store.read(lambda tx: (tx.audit.size(), tx.audit.root())) == (0, merkle.EMPTY_ROOT)
    for number in range(9):
        store.write(
            lambda tx, n=number: [tx.audit.append(entry(f"a{n}")) for _ in range(n)]  # type: ignore[misc]
        )
        verify(store)
    records = verify(store)
    assert len(records) == 36
    assert [f'"action":"a{n}"'.encode() in records[-1].leaf for n in (7, 8)] == [False, True]
    assert len({one.leaf for one in records}) == 36
    assert store.read(lambda tx: tx.audit.records(34, 9)) == records[34:]


def test_a_failed_work_leaves_neither_effect_nor_entry(store: Store) -> None:
    def fail(tx: Tx) -> None:
        tx.audit.append(entry("never"))
        tx.meta.set("key", "value")
        raise WrongState("no")

    with pytest.raises(WrongState, match="no"):
        store.write(fail)
    store.write(lambda tx: tx.audit.append(entry("kept")))
    assert store.read(lambda tx: tx.meta.get("key")) is None
    assert [b"kept" in one.leaf for one in verify(store)] == [True]


def test_an_error_that_is_no_tieline_error_reaches_its_caller(store: Store) -> None:
    with pytest.raises(ZeroDivisionError):
        store.write(lambda tx: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        store.read(lambda tx: 1 // 0)
    assert store.write(lambda tx: 7) == 7
    assert store.read(lambda tx: "x") == "x"


def test_an_entry_that_cannot_be_written_stops_its_effect(store: Store) -> None:
    def work(tx: Tx) -> None:
        tx.meta.set("key", "value")
        tx.audit.append(AuditEntry("x", NOON.replace(tzinfo=None), "pt-pj"))

    with pytest.raises(InvalidInput):
        store.write(work)
    assert store.read(lambda tx: tx.meta.get("key")) is None


def test_a_read_is_a_snapshot(store: Store) -> None:
    store.write(lambda tx: tx.meta.set("key", "old"))

    def look(tx: Tx) -> tuple[str | None, str | None]:
        before = tx.meta.get("key")
        thread = threading.Thread(target=lambda: store.write(lambda tx: tx.meta.set("key", "new")))
        thread.start()
        thread.join()
        return before, tx.meta.get("key")

    assert store.read(look) == ("old", "old")
    assert store.read(lambda tx: tx.meta.get("key")) == "new"


def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StorageUnavailable):
        store.read(lambda tx: tx.meta.set("key", "value"))
    assert store.write(lambda tx: tx.meta.get("key")) is None


def test_sixteen_writers_lose_nothing(store: Store) -> None:
    one = referral()
    store.write(lambda tx: tx.referrals.add(one))
    states = list(ReferralState)

    def work(number: int) -> tuple[int, int]:
        def write(tx: Tx) -> tuple[int, int]:
            tx.audit.append(entry(f"w{number}"))
            tx.referrals.add_step(step(one, states[number % 8], number))
            value = int(tx.meta.get("sum") or "0")
            tx.meta.set("sum", str(value + number))
            queued = tx.outbox.add(message())
            return queued.sequence, tx.uploads.next_number()

        return store.write(write)

    store.write(lambda tx: tx.meta.set("sum", "0"))
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(work, range(96)))
    assert sorted(sequence for sequence, _ in results) == list(range(1, 97))
    assert sorted(number for _, number in results) == list(range(1, 97))
    assert store.read(lambda tx: tx.meta.get("sum")) == str(sum(range(96)))
    kept = store.read(lambda tx: tx.referrals.get(one.id))
    assert kept is not None
    assert kept.state is ReferralState.WITHDRAWN
    assert len(store.read(lambda tx: tx.referrals.steps(one.id))) == 96
    assert len(verify(store)) == 96


def test_imports_at_once_agree_on_what_one_item_is(store: Store) -> None:
    def run(number: int) -> None:
        names = [f"{number % 4}/{n}" for n in range(50)]
        both = [record(sha1=name, md5=name) for name in names]
        load(store, both if number < 4 else [record(sha1=name) for name in names])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    stats = store.read(lambda tx: tx.items.stats())
    assert (stats.items, stats.by_kind["sha1"], stats.by_kind["md5"]) == (200, 200, 200)
    assert stats.generation == 8
    found = answered(store, DigestKind.MD5, {md5(f"{a}/{n}") for a in range(4) for n in range(50)})
    assert len(found) == 200


def test_both_arrive_at_once_and_one_is_told_so(store: Store) -> None:
    """Two handlers look for the same id, find none, and add it: the second must see the first."""
    barrier = threading.Barrier(2, timeout=120)
    first_try = threading.local()

    def work(tx: Tx) -> str:
        known = tx.series.get(one.id)
        if not hasattr(first_try, "done"):
            first_try.done = True
            barrier.wait()
        if known is not None:
            return "known"
        tx.series.add(one)
        return "added"

    one = series()
    if type(store).__name__ == "SqliteStore":
        barrier = threading.Barrier(1)  # there the second cannot even look before the first is done
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda _: store.write(work), range(2)))
    assert sorted(told) == ["added", "known"]


def test_a_closed_store_refuses(store: Store) -> None:
    store.write(lambda tx: tx.audit.append(entry()))
    store.close()
    store.close()
    with pytest.raises(StorageUnavailable):
        store.write(lambda tx: tx.meta.set("key", "value"))


def test_time_orders_by_time(store: Store) -> None:
    late, early = referral(created=NOON), referral(created=NOON - timedelta(microseconds=1))
    each(store, (late, early), lambda tx, one: tx.referrals.add(one))
    assert store.read(lambda tx: tx.referrals.find()) == [early, late]
