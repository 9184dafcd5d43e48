"""A purge receipt waits for every process of a node that shares the database (PostgreSQL)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tieline_server.matching.matcher import Matcher
from tieline_server.services import processes
from tieline_server.services.processes import LEASE, Processes
from tieline_server.storage.engine import open_store

from tests.postgres import PostgresCluster
from tests.storage.building import load, now, record

pytestmark = pytest.mark.postgres


class Place:
    """One process's part of a node: a store and an index of its own, in files."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.matching = Matcher.open(folder, lambda _: None)
        self.store = open_store(url, clock=now, matching=self.matching)
        self.store.index.start()
        self.processes = Processes(self.store, folder.name, f"host:{folder.name}")
        self.processes.begin()

    def rewrite(self) -> int:
        self.store.index.refresh(wait=True)
        through = self.matching.applied
        self.matching.purge()
        self.processes.rewrote(through)
        return through

    def close(self) -> None:
        self.store.close()
        self.matching.close()


@pytest.fixture
def two(postgres_cluster: PostgresCluster, tmp_path: Path) -> Iterator[tuple[Place, Place]]:
    url = postgres_cluster.url(postgres_cluster.create())
    one, other = Place(url, tmp_path / "one"), Place(url, tmp_path / "other")
    yield one, other
    one.close()
    other.close()


def _erase(place: Place, series: str) -> None:
    place.store.index.refresh(wait=True)
    while place.store.write(lambda tx: tx.erasure.holdings(series, 700)).more:
        pass


def test_one_that_has_not_rewritten_its_index_is_waited_for(two: tuple[Place, Place]) -> None:
    one, other = two
    load(one.store, [record(sha1=f"p{n}") for n in range(50)], "pt-pj/a")
    _erase(one, "pt-pj/a")
    through = one.rewrite()
    assert [process.name for process in one.processes.behind(through)] == ["host:other"]
    other.rewrite()
    assert one.processes.behind(through) == []
    assert other.processes.behind(through) == []


def test_one_that_stopped_is_not_waited_for_and_is_named(two: tuple[Place, Place]) -> None:
    one, other = two
    load(one.store, [record(sha1="x")], "pt-pj/a")
    other.store.index.refresh(wait=True)
    _erase(one, "pt-pj/a")
    other.processes.end()
    through = one.rewrite()
    assert one.processes.behind(through) == []
    (warning,) = one.store.read(lambda tx: list(processes.warnings(tx)))
    assert "host:other" in warning and "HOME/indexes" in warning
    other.processes.begin()  # it starts again, and rewrites before it answers
    assert [process.name for process in one.processes.behind(through)] == ["host:other"]
    other.rewrite()
    assert one.processes.behind(through) == []
    assert not one.store.read(lambda tx: list(processes.warnings(tx)))


def test_one_that_stopped_without_word_is_given_up_after_its_lease(
    two: tuple[Place, Place],
) -> None:
    one, _ = two
    load(one.store, [record(sha1="y")], "pt-pj/a")
    _erase(one, "pt-pj/a")
    through = one.rewrite()
    assert one.processes.behind(through)
    row = one.store.read(lambda tx: tx.meta.get("process:other"))
    assert row is not None
    there = one.store.read(lambda tx: tx.meta.time())
    long_ago = (there - LEASE - timedelta(seconds=1)).isoformat()
    aged = json.dumps(json.loads(row) | {"seen": long_ago})
    one.store.write(lambda tx: tx.meta.set("process:other", aged))
    assert one.processes.behind(through) == []
    assert one.store.read(lambda tx: list(processes.warnings(tx)))
