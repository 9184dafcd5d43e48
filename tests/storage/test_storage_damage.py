"""A damaged database is recognised: at start, looked through behind it, or where it is met."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tieline_client.errors import StorageCorrupt
from tieline_server.domain.ports import Store
from tieline_server.storage import sqlite
from tieline_server.storage.engine import open_store
from tieline_server.storage.schema import metadata

from tests.storage.building import load, now, opened, record
from tests.storage.test_storage_transactions import entry

PAGE = 4096
TREE_PAGES = {2, 5, 10, 13}
"""First byte of a b-tree page: index or table, inner or leaf (sqlite.org/fileformat2.html, 1.6)."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed database with rows in many tables, of about 120 pages."""
    path = tmp_path_factory.mktemp("damage") / "database.sqlite3"
    with opened(f"sqlite:///{path}") as store:
        load(store, [record(n, md5=f"m{n}", sha1=f"s{n}") for n in range(1, 800)])
        for number in range(300):
            store.write(lambda tx, n=number: tx.meta.set(f"n{n}", "v" * 200))  # type: ignore[misc]
            store.write(lambda tx, n=number: tx.audit.append(entry(f"n{n}")))  # type: ignore[misc]
    assert not path.with_name(f"{path.name}-wal").exists()
    return path


def damaged(whole: Path, folder: Path, at: int, data: bytes) -> Path:
    path = folder / "database.sqlite3"
    shutil.copy(whole, path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
    return path


def pages(path: Path) -> list[bytes]:
    data = path.read_bytes()
    return [data[at : at + PAGE] for at in range(0, len(data), PAGE)]


def read_all(store: Store) -> None:
    """Read every row of every table, as far as it comes."""
    for table in metadata.tables:
        statement = f'SELECT * FROM "{table}"'
        store.read(lambda tx, s=statement: run(tx, s))  # type: ignore[misc]


def run(tx: object, statement: str) -> list[object]:
    session = tx.meta._session  # type: ignore[attr-defined]
    return list(session.connection.exec_driver_sql(statement).all())


def test_a_broken_head_of_any_page_is_recognised_at_start(whole: Path, tmp_path: Path) -> None:
    unnoticed = []
    trees = [n for n, page in enumerate(pages(whole)) if page[100 if n == 0 else 0] in TREE_PAGES]
    assert len(trees) > 80
    for number in trees:
        at = number * PAGE + (100 if number == 0 else 0)
        path = damaged(whole, tmp_path, at, b"\xa5" * 8)
        try:
            open_store(f"sqlite:///{path}", clock=now).close()
        except StorageCorrupt as error:
            assert "put back the last backup" in error.message
        else:
            unnoticed.append(number)
    assert unnoticed == []


def test_a_flipped_bit_anywhere_is_recognised_or_changes_one_value(
    whole: Path, tmp_path: Path
) -> None:
    """SQLite has no checksums: a flip inside a value shows where something else vouches for it.

    What must never happen is anything else: another error, or an answer after damage was seen.
    """
    chance = random.Random(7)
    size = whole.stat().st_size
    recognised = 0
    for _ in range(150):
        at = chance.randrange(size)
        old = whole.read_bytes()[at]
        path = damaged(whole, tmp_path, at, bytes([old ^ (1 << chance.randrange(8))]))
        try:
            with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
                read_all(store)
                store.write(lambda tx: tx.audit.append(entry("after")))
        except StorageCorrupt:
            recognised += 1
    assert recognised >= 5  # measured: 10 of 150; the rest lies in values and in free room


def test_a_large_database_is_looked_through_behind_the_start(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUICK_CHECK_BYTES", 0)
    with closing(sqlite3.connect(whole)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'items'"
        ).fetchone()
    path = damaged(whole, tmp_path, (root - 1) * PAGE, b"\xa5" * 64)
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        assert store.read(lambda tx: tx.meta.get("n1")) == "v" * 200
        assert [store.damaged, look(store)] == [False, True]
        refused_all(store)


def test_a_sound_large_database_stays_open_and_closing_ends_the_look(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "QUICK_CHECK_BYTES", 0)
    path = damaged(whole, tmp_path, 0, b"")
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        assert not look(store)
        assert store.read(lambda tx: tx.meta.get("n1")) == "v" * 200
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        store.look_through()
    assert not store.damaged
    assert not store._looking.is_alive()  # type: ignore[attr-defined]


def test_closing_interrupts_a_look_that_pauses_nowhere(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite before 3.42 looks at a table of gigabytes in one step, which no pause comes into."""
    monkeypatch.setattr(sqlite, "QUICK_CHECK_BYTES", 0)
    began = threading.Event()

    def without_end(
        path: Path, stop: threading.Event, *, begun: Callable[[sqlite3.Connection], object]
    ) -> None:
        with closing(sqlite3.connect(path)) as database:
            begun(database)
            began.set()
            with contextlib.suppress(sqlite3.OperationalError):
                database.execute(
                    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                    " SELECT count(*) FROM n"
                ).fetchone()

    monkeypatch.setattr(sqlite, "look_through", without_end)
    path = damaged(whole, tmp_path, 0, b"")
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        store.look_through()
        assert began.wait(120)
    assert not store.damaged
    assert not store._looking.is_alive()  # type: ignore[attr-defined]


@pytest.mark.parametrize("meets", ["read", "write"])
def test_damage_that_is_met_closes_the_store_for_good(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, meets: str
) -> None:
    monkeypatch.setattr(sqlite, "QUICK_CHECK_BYTES", 0)
    with closing(sqlite3.connect(whole)) as database:
        (root,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'audit_leaves'"
        ).fetchone()
    path = damaged(whole, tmp_path, (root - 1) * PAGE, b"\xa5" * 64)
    with closing(open_store(f"sqlite:///{path}", clock=now)) as store:
        assert store.read(lambda tx: tx.meta.get("n1")) == "v" * 200
        with pytest.raises(StorageCorrupt):
            if meets == "read":
                store.read(lambda tx: tx.audit.records(0, 1000))
            else:
                store.write(lambda tx: tx.audit.records(0, 1000))
        refused_all(store)


def look(store: Store) -> bool:
    """Look through to the end; whether damage was found."""
    store.look_through()
    store._looking.join()  # type: ignore[attr-defined]
    return store.damaged


def refused_all(store: Store) -> None:
    """Even what is not damaged is neither read nor written."""
    for _ in range(2):
        with pytest.raises(StorageCorrupt, match="put back the last backup"):
            store.read(lambda tx: tx.meta.get("n1"))
        with pytest.raises(StorageCorrupt):
            store.recall("n1", lambda tx: tx.meta.get("n1"))
        with pytest.raises(StorageCorrupt):
            store.write(lambda tx: tx.meta.set("n1", "w"))
