"""The peer of lookups and of imports: PostgreSQL, a throw-away cluster at settings that suit it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg

from benchmarks.data import PIECE, U8

Connection = psycopg.Connection[tuple[Any, ...]]

_COMMON = {
    "listen_addresses": "",
    "jit": "off",
    "work_mem": "256MB",
    "maintenance_work_mem": "2GB",
    "max_parallel_maintenance_workers": "2",
    "max_wal_size": "16GB",
    "autovacuum": "off",
}
FOR_LOOKUPS = _COMMON | {
    "shared_buffers": "6GB",
    "effective_cache_size": "12GB",
    "random_page_cost": "1.1",
    "fsync": "off",
}
"""All is in memory, and nothing is written once it is loaded."""
FOR_IMPORTS = _COMMON | {
    "shared_buffers": "2GB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "checkpoint_timeout": "30min",
}
"""A table made in the transaction that fills it is not written to the log; fsync is on."""

START_SECONDS = 300.0
_ASK = "SELECT digest, id FROM held WHERE digest = ANY(%b)"


def binaries() -> Path | None:
    """Return the folder of the newest server binaries, or None."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        return None
    return max(found, key=lambda path: int(path.parents[1].name)).parent


@contextmanager
def cluster(settings: dict[str, str]) -> Iterator[Connection]:
    """Run a server in a folder of its own and yield a connection to it."""
    where = binaries()
    assert where is not None
    root = Path(tempfile.mkdtemp(prefix="bench-pg-"))
    common: dict[str, Any] = {"cwd": root}
    if os.geteuid() == 0:  # the server refuses to run as root
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        account = known.get("postgres") or known["nobody"]
        os.chown(root, account.pw_uid, account.pw_gid)
        common |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    server = None
    try:
        make: list[str | Path] = [
            where / "initdb",
            "-D",
            root / "data",
            "-U",
            "bench",
            "-A",
            "trust",
        ]
        locale = ["-E", "UTF8", "--no-locale"]
        subprocess.run([*make, *locale], check=True, capture_output=True, **common)
        words = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        server = subprocess.Popen(
            [where / "postgres", "-D", root / "data", "-k", root, *words],
            stderr=subprocess.DEVNULL,
            **common,
        )
        with _connect(root) as connection:
            yield connection
    finally:
        if server is not None:
            server.send_signal(signal.SIGQUIT)
            server.wait()
        shutil.rmtree(root, ignore_errors=True)


def _connect(root: Path) -> Connection:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return psycopg.connect(host=str(root), dbname="postgres", user="bench", autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def load(connection: Connection, digests: U8) -> float:
    """Copy digests (n, 20) in, numbered from 0, and index them; return the seconds it took.

    The index includes the number, and the table is vacuumed, so that lookups need the index alone.
    """
    began = time.perf_counter()
    connection.execute("CREATE UNLOGGED TABLE held (digest bytea NOT NULL, id bigint NOT NULL)")
    record = np.dtype(
        [("fields", ">i2"), ("l1", ">i4"), ("digest", "u1", 20), ("l2", ">i4"), ("id", ">i8")]
    )
    with connection.cursor() as cursor, cursor.copy("COPY held FROM STDIN (FORMAT binary)") as copy:
        copy.write(b"PGCOPY\n\xff\r\n\x00" + bytes(8))
        for start in range(0, len(digests), PIECE):
            piece = digests[start : start + PIECE]
            rows = np.empty(len(piece), dtype=record)
            rows["fields"], rows["l1"], rows["l2"] = 2, 20, 8
            rows["digest"], rows["id"] = piece, np.arange(start, start + len(piece))
            copy.write(rows.tobytes())
        copy.write(b"\xff\xff")
    connection.execute("CREATE UNIQUE INDEX ON held (digest) INCLUDE (id)")
    connection.execute("VACUUM ANALYZE held")
    return time.perf_counter() - began


def plan(connection: Connection, digests: U8) -> str:
    """Return how the server looks up 1,000 digests."""
    sample = [row.tobytes() for row in digests[:1_000]]
    lines = connection.execute("EXPLAIN " + _ASK, [sample]).fetchall()
    return str(lines[0][0]).split("  ")[0]


def ask(connection: Connection, digests: list[bytes], chunk: int) -> list[tuple[Any, ...]]:
    """Return the (digest, id) held, asking ``chunk`` sorted digests at a time."""
    found: list[tuple[Any, ...]] = []
    with connection.cursor(binary=True) as cursor:
        for start in range(0, len(digests), chunk):
            cursor.execute(_ASK, (digests[start : start + chunk],), prepare=True)
            found += cursor.fetchall()
    return found
