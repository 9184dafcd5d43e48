"""Every store passes the same tests: the ``store`` fixture runs them on both databases."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tieline_server.domain.ports import Store
from tieline_server.storage.engine import open_store

from tests.postgres import postgres_cluster, postgres_url
from tests.storage.building import now, opened

__all__ = ["postgres_cluster", "postgres_url", "store", "store_url"]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty SQLite store to copy: quicker than migrating for every test."""
    path = tmp_path_factory.mktemp("template") / "database.sqlite3"
    open_store(f"sqlite:///{path}", clock=now).close()
    return path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of an empty store."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated"), tmp_path)
        return f"sqlite:///{tmp_path}/database.sqlite3"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with opened(store_url) as one:
        yield one
