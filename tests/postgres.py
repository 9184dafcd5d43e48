"""A throw-away PostgreSQL cluster and fresh databases in it, as pytest fixtures.

Use: ``from tests.postgres import postgres_cluster, postgres_url`` in a conftest. Where the server's
binaries are missing the tests are skipped, except under CI=true, where that is a failure.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from tieline_server.storage.engine import open_store
from tieline_server.storage.schema import metadata

START_SECONDS = 300.0
_USER = "tieline"


@dataclass
class PostgresCluster:
    """A running server on a unix socket; ``template`` has the migrations applied."""

    socket: Path
    template: str = ""
    shared: str = ""
    names: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{_USER}@/{database}?host={self.socket}"

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(host=str(self.socket), dbname=database, user=_USER, autocommit=True)

    def create(self, *, empty: bool = False) -> str:
        """Create a database and return its name."""
        name = f"t{next(self.names)}"
        template = "template0" if empty or not self.template else self.template
        with self.connect() as connection:
            connection.execute(
                psycopg.sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Identifier(template)
                )
            )
        return name

    def empty(self) -> str:
        """Return the one database that tests use in turn, with every row gone; quicker than new."""
        if not self.shared:
            self.shared = self.create()
        with self.connect() as connection:
            connection.execute(  # and wait until they are gone
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [self.shared],
            )
        with self.connect(self.shared) as connection, connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")  # no foreign keys
            for table in metadata.tables:
                connection.execute(
                    psycopg.sql.SQL("DELETE FROM {}").format(psycopg.sql.Identifier(table))
                )
        return self.shared


def find_binaries() -> Path | None:
    """Return the folder of the newest server binaries: Debian's first, then pg_config's."""
    found = [p.parent for p in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda folder: int(folder.parent.name))
    if shutil.which("pg_config"):
        told = subprocess.run(
            ["pg_config", "--bindir"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if (Path(told) / "postgres").exists():
            return Path(told)
    return None


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PostgresCluster]:
    binaries = find_binaries()
    if binaries is None:
        why = "PostgreSQL's server binaries are missing (Debian: postgresql)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    root = Path(tempfile.mkdtemp(prefix="tlpg", dir="/tmp"))
    account = _account()
    if account is not None:
        os.chown(root, account.pw_uid, account.pw_gid)
    common: dict[str, object] = {"cwd": root, "env": {"PATH": str(binaries), "LC_ALL": "C.UTF-8"}}
    if account is not None:
        common |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    initdb = [binaries / "initdb", "-D", root / "data", "-U", _USER, "-A", "trust", "--no-sync"]
    server: subprocess.Popen[bytes] | None = None
    try:
        subprocess.run(
            [*initdb, "-E", "UTF8", "--no-locale"],
            check=True,
            capture_output=True,
            **common,  # type: ignore[call-overload]
        )
        log = (root / "log").open("wb")
        server = subprocess.Popen(
            [
                *(binaries / "postgres", "-D", root / "data", "-k", root),
                *("-c", "listen_addresses=", "-c", "fsync=on", "-c", "max_connections=200"),
            ],
            stdout=log,
            stderr=log,
            **common,  # type: ignore[call-overload]
        )
        cluster = PostgresCluster(root)
        _wait(cluster, server, root / "log")
        template = cluster.create(empty=True)
        open_store(cluster.url(template), clock=lambda: datetime.now(UTC)).close()
        cluster.template = template
        yield cluster
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)  # no checkpoint: nothing of it is kept
            server.wait(timeout=START_SECONDS)
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_cluster: PostgresCluster) -> str:
    """Return the URL of an empty, migrated database."""
    return postgres_cluster.url(postgres_cluster.empty())


def _account() -> pwd.struct_passwd | None:
    """Return whom to run the server as: it refuses to run as root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _wait(cluster: PostgresCluster, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            cluster.connect().close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"PostgreSQL did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        else:
            return
