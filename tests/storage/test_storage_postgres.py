"""What only PostgreSQL does: the sequencer, retries, lost servers, several processes on one log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import psycopg
import pytest
from sqlalchemy import make_url
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable
from tieline_server.domain.ports import Store, Tx
from tieline_server.storage.engine import open_store
from tieline_server.storage.postgres import PostgresStore
from tieline_server.storage.sequencer import LAG_SECONDS, SEQUENCER_LOCK

from tests.postgres import PostgresCluster
from tests.storage.building import begin, complete, each, now, opened, record, stage, visible
from tests.storage.test_storage_transactions import entry, verify

pytestmark = pytest.mark.postgres
WAIT_SECONDS = 120.0


@pytest.fixture
def database(postgres_cluster: PostgresCluster) -> str:
    return postgres_cluster.create()


@pytest.fixture
def holder(
    postgres_cluster: PostgresCluster, database: str
) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Return another process's connection that holds the sequencer's lease and does nothing."""
    with closing(postgres_cluster.connect(database)) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [SEQUENCER_LOCK])
        yield connection


def until(happens: Callable[[], bool], *, pause: float = 0.01) -> None:
    """Wait until ``happens()`` is true; fail after WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not happens():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(pause)


def appended(store: Store, name: str) -> bool:
    """Append an entry; whether it was taken."""
    try:
        store.write(lambda tx: tx.audit.append(entry(name)))
    except StorageUnavailable:
        return False
    return True


def test_entries_get_their_positions_before_the_node_would_be_closed(
    postgres_cluster: PostgresCluster, database: str
) -> None:
    with closing(open_store(postgres_cluster.url(database), clock=now)) as store:
        began = time.monotonic()
        store.write(lambda tx: tx.audit.append(entry("x")))
        until(lambda: store.read(lambda tx: tx.audit.size()) == 1)
        assert time.monotonic() - began < LAG_SECONDS


def test_a_stuck_sequencer_closes_the_node_and_opens_it_again(
    postgres_cluster: PostgresCluster,
    database: str,
    holder: psycopg.Connection[tuple[object, ...]],
) -> None:
    url = make_url(postgres_cluster.url(database))
    with closing(PostgresStore(url, clock=now, lag_seconds=0.5)) as store:
        # A machine that takes longer than that for the first look refuses until then.
        until(lambda: appended(store, "waits"), pause=0.05)

        def refused() -> bool:
            try:
                store.write(lambda tx: tx.meta.set("key", "value"))
            except StorageUnavailable as error:
                return "audit log" in str(error)
            return False

        until(refused, pause=0.05)
        assert store.read(lambda tx: tx.audit.size()) == 0
        holder.execute("SELECT pg_advisory_unlock(%s)", [SEQUENCER_LOCK])
        until(lambda: not refused(), pause=0.05)
        assert b"waits" in verify(store)[0].leaf


def test_a_sequencer_that_is_slower_than_the_writers_closes_the_node(
    postgres_cluster: PostgresCluster,
    database: str,
    holder: psycopg.Connection[tuple[object, ...]],
) -> None:
    """The head moves all the time, by a holder of the lease that takes one where three come."""
    url = make_url(postgres_cluster.url(database))
    behind = ""
    with closing(PostgresStore(url, clock=now, lag_seconds=1.0)) as store:
        deadline = time.monotonic() + WAIT_SECONDS
        while not behind:
            assert time.monotonic() < deadline, "the node stayed open"
            try:
                for number in range(3):
                    store.write(lambda tx, n=number: tx.audit.append(entry(f"w{n}")))  # type: ignore[misc]
            except StorageUnavailable as error:
                behind = error.message
            holder.execute(
                "DELETE FROM audit_pending WHERE no = (SELECT min(no) FROM audit_pending)"
            )
            if holder.execute("SELECT count(*) FROM audit_pending").fetchone() == (0,):
                behind = ""  # it was the first look, which a slow machine takes late
            time.sleep(0.02)
        assert "audit log" in behind and "behind" in behind
        holder.execute("SELECT pg_advisory_unlock(%s)", [SEQUENCER_LOCK])
        until(lambda: store.read(lambda tx: tx.audit.size()) > 0, pause=0.05)
        store.drain()
        until(lambda: appended(store, "after"), pause=0.05)


def test_what_waits_is_placed_by_the_next_process(
    postgres_cluster: PostgresCluster,
    database: str,
    holder: psycopg.Connection[tuple[object, ...]],
) -> None:
    url = postgres_cluster.url(database)
    with closing(open_store(url, clock=now)) as store:
        for number in range(3):
            store.write(lambda tx, n=number: tx.audit.append(entry(f"a{n}")))  # type: ignore[misc]
        assert store.read(lambda tx: tx.audit.size()) == 0
        holder.close()
        store.close()
    with closing(open_store(url, clock=now)) as store:
        assert len(verify(store)) == 3


def test_several_processes_share_one_log(postgres_cluster: PostgresCluster, database: str) -> None:
    with ExitStack() as stack:
        stores = [
            stack.enter_context(closing(open_store(postgres_cluster.url(database), clock=now)))
            for _ in range(3)
        ]
        with ThreadPoolExecutor(12) as pool:
            list(
                pool.map(
                    lambda n: stores[n % 3].write(lambda tx: tx.audit.append(entry(f"e{n}"))),
                    range(150),
                )
            )
        records = verify(stores[0])
        assert len(records) == len({one.leaf for one in records}) == 150
        assert stores[1].read(lambda tx: tx.audit.root()) == stores[2].read(
            lambda tx: tx.audit.root()
        )


def test_a_deadlock_is_run_again(postgres_cluster: PostgresCluster, database: str) -> None:
    """Two works lock two rows in opposite order: both end well."""
    with closing(open_store(postgres_cluster.url(database), clock=now)) as store:
        each(store, "ab", lambda tx, key: tx.meta.set(key, "0"))
        barrier = threading.Barrier(2, timeout=WAIT_SECONDS)
        runs: list[str] = []

        def work(order: str) -> str:
            first = True

            def write(tx: Tx) -> str:
                nonlocal first
                runs.append(order)
                tx.meta.get(order[0])
                if first:
                    first = False
                    barrier.wait()
                value = int(tx.meta.get(order[1]) or "0") + 1
                tx.meta.set(order[1], str(value))
                return order

            return store.write(write)

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(work, ["ab", "ba"])) == ["ab", "ba"]
        assert len(runs) == 3
        assert store.read(lambda tx: (tx.meta.get("a"), tx.meta.get("b"))) == ("1", "1")


def test_a_lost_connection_is_told_and_the_next_call_works(
    postgres_cluster: PostgresCluster, database: str
) -> None:
    with closing(open_store(postgres_cluster.url(database), clock=now)) as store:

        def kill(tx: Tx) -> None:
            tx.meta.set("key", "value")
            with postgres_cluster.connect() as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                    [database],
                )
            tx.meta.set("key", "other")

        with pytest.raises(StorageUnavailable):
            store.write(kill)
        assert store.read(lambda tx: tx.meta.get("key")) is None
        store.write(lambda tx: tx.audit.append(entry("after")))
        assert len(verify(store)) == 1


def test_staging_waits_for_no_reader_and_no_other_writer(
    postgres_cluster: PostgresCluster, database: str
) -> None:
    """While a batch is being staged, messages go out: only resolution is one at a time."""
    with opened(postgres_cluster.url(database)) as store:
        key = begin(store)

        def staging(tx: Tx) -> int:
            tx.imports.stage(key, [record(md5="a")], [None], "pt-pj")
            store.write(lambda inner: inner.meta.set("meanwhile", "yes"))
            return tx.items.generation()

        assert store.write(staging) == 0
        assert store.read(lambda tx: tx.meta.get("meanwhile")) == "yes"
        stage(store, key, [record(md5="a", sha1="a")])
        complete(store, key)
        assert len(visible(store, DigestKind.SHA1)) == 1
