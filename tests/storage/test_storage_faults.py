"""Threats 1, 3 and 4 at the store: killed processes, full disks, a log that cannot be written."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tieline_client.errors import InvalidInput, StorageUnavailable, TielineError
from tieline_server.domain.messages import OutState
from tieline_server.domain.ports import Store, Tx
from tieline_server.storage.engine import open_store
from tieline_server.storage.sqlite import SqliteStore

from tests.storage.building import discard, now, opened
from tests.storage.test_storage_transactions import entry, verify

ROOT = Path(__file__).parents[2]


def check_whole(store: Store, acknowledged: Iterable[str]) -> None:
    """Every acknowledged write is there whole, and every write that is there is whole."""
    actions = [json.loads(one.leaf)["action"] for one in verify(store)]
    messages = store.read(lambda tx: tx.outbox.find(state=OutState.QUEUED, limit=100_000))
    subjects = [one.subject for one in messages if one.subject != "s"]
    assert sorted(actions) == sorted(subjects)
    assert len(actions) == len(set(actions))
    assert set(acknowledged) <= set(actions)
    for name in actions:
        assert store.read(lambda tx, n=name: tx.meta.get(n)) == "done"  # type: ignore[misc]


@pytest.mark.parametrize("seed", range(3))
def test_what_was_acknowledged_survives_a_kill(store_url: str, seed: int) -> None:
    """The process is killed after a random number of acknowledgements, three times over."""
    rng = random.Random(seed)
    acknowledged: list[str] = []
    for _ in range(3 if store_url.startswith("sqlite") else 1):
        acknowledged = run_and_kill(store_url, rng.randrange(1, 120))
        with opened(store_url) as store:
            check_whole(store, acknowledged)
            for key in store.read(lambda tx: tx.imports.incomplete()):
                discard(store, key)
            stats = store.read(lambda tx: tx.items.stats())
            assert stats.items == stats.by_kind["sha1"] == stats.holdings
    assert acknowledged


def run_and_kill(url: str, after: int) -> list[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.storage.writing", "kill", url],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.kill()
    rest = process.stdout.read()
    process.wait()
    if not url.startswith("sqlite"):
        _wait_for_backends(url)
    whole = "".join(lines) + rest
    return whole[: whole.rfind("\n") + 1].split()


def _wait_for_backends(url: str) -> None:
    """Wait until the server has noticed: what it was told to commit it still commits."""
    engine = create_engine(url)
    others = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    deadline = time.monotonic() + 120
    with engine.connect() as connection:
        while connection.execution_options(isolation_level="AUTOCOMMIT").scalar(others):
            assert time.monotonic() < deadline, "the killed process is still at work"
            time.sleep(0.02)
    engine.dispose()


@pytest.mark.parametrize("limit", [400_000, 1_000_000])
def test_a_full_disk_refuses_and_work_resumes(tmp_path: Path, limit: int) -> None:
    url = f"sqlite:///{tmp_path}/database.sqlite3"
    done = subprocess.run(
        [sys.executable, "-m", "tests.storage.writing", "full", url, str(limit)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert len(told["acknowledged"]) > 5
    assert "the database cannot be used now" in told["refused"]
    assert "the database cannot be used now" in told["again"]
    assert told["readable"] == "done"
    with closing(open_store(url, clock=now)) as store:
        check_whole(store, told["acknowledged"])


def test_a_failed_commit_fails_its_whole_group(tmp_path: Path) -> None:
    """A trigger that refuses audit leaves: each caller of the group is told, none has an effect."""
    with closing(open_store(f"sqlite:///{tmp_path}/database.sqlite3", clock=now)) as store:
        assert isinstance(store, SqliteStore)

        def ddl(statement: str) -> None:
            with store._writing.connect() as connection, connection.begin():
                connection.exec_driver_sql(statement)

        ddl("CREATE TRIGGER no BEFORE INSERT ON audit_leaves BEGIN SELECT RAISE(FAIL, 'full'); END")
        results = run_as_group(store, [f"n{n}" for n in range(8)])
        assert all(isinstance(one, StorageUnavailable) for one in results)
        assert store.read(lambda tx: [tx.meta.get(f"n{n}") for n in range(8)]) == [None] * 8
        assert store.write(lambda tx: tx.meta.get("n0")) is None
        ddl("DROP TRIGGER no")
        assert run_as_group(store, ["n1", "n2"]) == [None, None]
        assert len(verify(store)) == 2


def run_as_group(store: Store, names: list[str]) -> list[object]:
    """Queue writes behind one that holds the writer, so that they share a commit."""
    gate, running = threading.Event(), threading.Event()
    results: list[object] = [None] * len(names)

    def hold(_: Tx) -> None:
        running.set()
        assert gate.wait(120)
        raise ZeroDivisionError

    def writer(place: int) -> None:
        def work(tx: Tx) -> None:
            tx.meta.set(names[place], "done")
            tx.audit.append(entry(names[place]))

        try:
            store.write(work)
        except TielineError as error:
            results[place] = error

    def first_of_all() -> None:
        with contextlib.suppress(ZeroDivisionError):
            store.write(hold)

    first = threading.Thread(target=first_of_all)
    first.start()
    assert running.wait(120)
    threads = [threading.Thread(target=writer, args=(n,)) for n in range(len(names))]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in [first, *threads]:
        thread.join()
    return results


def test_one_failing_work_of_a_group_fails_alone(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/database.sqlite3", clock=now)) as store:
        results = run_as_group(store, ["a", "nul \x00", "b"])
        assert [type(one) for one in results] == [type(None), InvalidInput, type(None)]
        assert store.read(lambda tx: (tx.meta.get("a"), tx.meta.get("b"))) == ("done", "done")
        assert len(verify(store)) == 2


def test_a_write_inside_a_write_is_refused_at_once(tmp_path: Path) -> None:
    with closing(open_store(f"sqlite:///{tmp_path}/database.sqlite3", clock=now)) as store:
        with pytest.raises(RuntimeError, match="inside a write"):
            store.write(lambda tx: store.write(lambda inner: 1))
        assert store.write(lambda tx: 1) == 1
