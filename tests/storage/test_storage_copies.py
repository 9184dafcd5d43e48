"""Copies for backups: consistent while others write, checked from the leaves up, loaded whole."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from tieline_client.errors import ConfigurationError, StorageCorrupt, TielineError, WrongState
from tieline_server.domain.ports import Store, Tx
from tieline_server.storage.copies import Facts, copying
from tieline_server.storage.engine import open_store

from tests.postgres import PostgresCluster
from tests.storage.building import now
from tests.storage.test_storage_transactions import entry


def quiet(_done: int, _whole: int) -> None:
    pass


@pytest.fixture
def fresh_url(store_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Return the URL of a place for the same kind of database, with nothing in it."""
    if store_url.startswith("sqlite"):
        (tmp_path / "fresh").mkdir()
        return f"sqlite:///{tmp_path}/fresh/database.sqlite3"
    cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
    return cluster.url(cluster.create(empty=True))


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with closing(open_store(store_url, clock=now)) as one:
        for number in range(37):
            one.write(lambda tx, n=number: put(tx, n))  # type: ignore[misc]
        one.drain()
        yield one


def put(tx: Tx, number: int) -> None:
    tx.meta.set(f"n{number}", "done")
    tx.audit.append(entry(f"n{number}"))


def head(store: Store) -> tuple[int, bytes]:
    return store.read(lambda tx: (tx.audit.size(), tx.audit.root()))


def test_a_copy_is_loaded_as_it_was(
    store: Store, store_url: str, fresh_url: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    facts = copying(store_url).copy(copy, quiet)
    assert (facts.audit_entries, facts.audit_root) == head(store)
    checked = copying(store_url).check(copy, quiet)
    assert checked.facts == facts
    store.write(lambda tx: put(tx, 99))
    copying(fresh_url).load(copy)
    with closing(open_store(fresh_url, clock=now)) as restored:
        assert head(restored) == (facts.audit_entries, facts.audit_root)
        assert restored.read(lambda tx: (tx.meta.get("n36"), tx.meta.get("n99"))) == ("done", None)


def test_a_copy_ends_and_holds_together_while_others_write(
    store: Store, store_url: str, tmp_path: Path
) -> None:
    """Every write is a row and its audit entry: a copy has both or neither."""
    stop, written = threading.Event(), threading.Event()
    errors: list[TielineError] = []

    def write() -> None:
        number = 1_000
        while not stop.is_set():
            try:
                store.write(lambda tx, n=number: put(tx, n))  # type: ignore[misc]
            except TielineError as error:
                errors.append(error)
                return
            number += 1
            written.set()

    writer = threading.Thread(target=write)
    writer.start()
    facts: list[Facts] = []
    try:
        for turn in range(3):
            written.clear()
            assert written.wait(120)
            while facts and head(store)[0] <= facts[-1].audit_entries:  # it has no place yet
                written.clear()
                assert written.wait(120)
            copy = tmp_path / f"copy{turn}"
            facts.append(copying(store_url).copy(copy, quiet))
            checked = copying(store_url).check(copy, quiet)
            assert checked.facts == facts[-1]
    finally:
        stop.set()
        writer.join()
    assert not errors
    sizes = [one.audit_entries for one in facts]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    if store_url.startswith("sqlite"):
        with closing(sqlite3.connect(tmp_path / "copy2")) as database:
            rows = database.execute("SELECT count(*) FROM meta WHERE key LIKE 'n%'").fetchone()[0]
            leaves = database.execute("SELECT count(*) FROM audit_leaves").fetchone()[0]
        assert rows == leaves == sizes[-1]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE audit_leaves SET leaf_hash = (SELECT leaf_hash FROM audit_leaves WHERE position=1)"
        " WHERE position = 5",
        "DELETE FROM audit_leaves WHERE position = 7",
    ],
)
def test_a_log_that_does_not_hold_together_is_not_copied(
    store: Store, store_url: str, tmp_path: Path, damage: str
) -> None:
    engine = create_engine(store_url)
    with engine.begin() as connection:
        connection.execute(text(damage))
    engine.dispose()
    with pytest.raises(StorageCorrupt, match="does not hold together"):
        copying(store_url).copy(tmp_path / "copy", quiet)


def test_nothing_is_loaded_over_a_database(store: Store, store_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copying(store_url).copy(copy, quiet)
    before = head(store)
    with pytest.raises(WrongState):
        copying(store_url).load(copy)
    assert head(store) == before


def test_a_copy_that_was_damaged_says_so(store: Store, store_url: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copying(store_url).copy(copy, quiet)
    data = bytearray(copy.read_bytes())
    data[len(data) // 3 :] = bytes(len(data) - len(data) // 3)
    copy.write_bytes(data)
    with pytest.raises(TielineError):
        copying(store_url).check(copy, quiet)


@pytest.mark.postgres
def test_a_missing_program_says_which(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="pg_dump is not on the PATH"):
        copying(postgres_url).copy(tmp_path / "copy", quiet)
    with pytest.raises(ConfigurationError, match="pg_restore is not on the PATH"):
        copying(postgres_url).load(tmp_path / "copy")


@pytest.mark.postgres
def test_without_the_right_to_make_a_database_a_dump_is_read_only_as_a_list(
    postgres_cluster: PostgresCluster, postgres_url: str, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copying(postgres_url).copy(copy, quiet)
    with postgres_cluster.connect() as connection:
        connection.execute("CREATE ROLE nobody_much LOGIN")
    url = postgres_url.replace("tieline@", "nobody_much@")
    checked = copying(url).check(copy, quiet)
    assert checked.facts is None
    assert "not loaded (permission denied" in checked.how
    with postgres_cluster.connect() as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tieline_c%'")
        assert left.fetchall() == []


@pytest.mark.postgres
def test_a_commit_waits_for_the_disk(postgres_cluster: PostgresCluster, postgres_url: str) -> None:
    """Whatever the database's own default says, sessions that acknowledge wait (threats.md 1)."""
    name = postgres_url.partition("@/")[2].partition("?")[0]
    with postgres_cluster.connect() as connection:
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        with closing(open_store(postgres_url, clock=now)) as store:

            def setting(tx: Tx) -> object:
                connection = tx.meta._session.connection  # type: ignore[attr-defined]
                return connection.scalar(text("SHOW synchronous_commit"))

            assert store.write(setting) == "on"
    finally:
        with postgres_cluster.connect() as connection:
            connection.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
