"""One bench for each test: nodes come to be as they are named."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[2] / "build" / "kernels"))

from tieline_server.storage.engine import open_store

from tests.services.bench import START, Bench, make_bench


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables without rows."""
    path = tmp_path_factory.mktemp("empty") / "database.sqlite3"
    open_store(f"sqlite:///{path}", clock=lambda: START).close()
    return path


@pytest.fixture
def bench(tmp_path: Path, empty_database: Path) -> Iterator[Bench]:
    with make_bench(tmp_path, empty_database) as made:
        yield made
