"""Backup and restore of a node whose database is PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tieline_client.errors import ConfigurationError, WrongState
from tieline_client.profile import utc_now
from tieline_server.backup import making, restoring
from tieline_server.config import Home
from tieline_server.storage.engine import open_store

from tests.e2e.federation import Federation
from tests.postgres import PostgresCluster, postgres_cluster

__all__ = ["postgres_cluster"]
SECRET = b"seven violet herons"
DATABASE = "TIELINE_NODE_DATABASE"


@contextlib.contextmanager
def quiet(what: str) -> Iterator[Any]:
    yield lambda _done, _whole: None


@pytest.mark.postgres
def test_a_node_on_postgres_comes_back_in_a_new_database(
    postgres_cluster: PostgresCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres_cluster.url(postgres_cluster.create(empty=True))
    monkeypatch.setenv(DATABASE, url)
    trial = Federation(tmp_path / "trial")
    trial.root.mkdir()
    node = trial.found().add("pt-pj", "national", "PT")
    with contextlib.closing(open_store(url, clock=utc_now)) as store:
        store.write(lambda tx: tx.meta.set("here", "yes"))
        before = store.read(lambda tx: tx.standings.epoch())
    file = tmp_path / "b"
    made = making.make(Home(node.home), file, SECRET, timedelta(days=9), utc_now(), quiet)
    assert made.checked == "loaded into a database of its own"
    assert made.header.database == "postgresql"
    with postgres_cluster.connect() as connection:
        left = connection.execute("SELECT 1 FROM pg_database WHERE datname LIKE 'tieline_check%'")
        assert left.fetchall() == []

    node.home.rename(node.home.with_name("lost"))
    with pytest.raises(WrongState, match="is not empty; create a new one"):
        restoring.restore(node.home, file, SECRET, utc_now(), quiet)
    monkeypatch.setenv(DATABASE, f"sqlite:///{tmp_path}/database.sqlite3")
    with pytest.raises(ConfigurationError, match="set TIELINE_NODE_DATABASE"):
        restoring.restore(node.home, file, SECRET, utc_now(), quiet)
    assert not node.home.exists()

    fresh = postgres_cluster.url(postgres_cluster.create(empty=True))
    monkeypatch.setenv(DATABASE, fresh)
    told = restoring.restore(node.home, file, SECRET, utc_now(), quiet)
    assert told.revived is not None
    assert (node.home / "keys" / "signing.key").is_file()
    assert not (node.home / "database").exists()
    with contextlib.closing(open_store(fresh, clock=utc_now)) as store:
        assert store.read(lambda tx: tx.meta.get("here")) == "yes"
        assert store.read(lambda tx: tx.standings.epoch()) == told.revived.epoch != before
        actions = [r.leaf for r in store.read(lambda tx: tx.audit.records(0, 100))]
    assert b"node.restored" in actions[-1]


@pytest.mark.postgres
def test_a_database_that_no_node_used_is_not_backed_up(
    postgres_cluster: PostgresCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Federation(tmp_path / "trial")
    trial.root.mkdir()
    node = trial.found().add("pt-pj", "national", "PT")
    monkeypatch.setenv(DATABASE, postgres_cluster.url(postgres_cluster.create(empty=True)))
    file = tmp_path / "b"
    with pytest.raises(ConfigurationError, match="has no tables of a node"):
        making.make(Home(node.home), file, SECRET, timedelta(days=9), utc_now(), quiet)
    assert not file.exists()
