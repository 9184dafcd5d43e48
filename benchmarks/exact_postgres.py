"""The exact lookup's peer: PostgreSQL, a throw-away cluster at settings that suit the question.

The digests stand in a unique B-tree that includes the row number, vacuumed, so that lookups are
index-only scans; asked are sorted chunks with `= ANY`, prepared, in binary.
"""

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

import numpy as np
import psycopg

SETTINGS = {
    "shared_buffers": "6GB",
    "work_mem": "256MB",
    "maintenance_work_mem": "2GB",
    "max_wal_size": "8GB",
    "jit": "off",
    "synchronous_commit": "off",
    "fsync": "off",
    "max_parallel_maintenance_workers": "2",
    "listen_addresses": "",
}
_ASK = "SELECT digest, id FROM held WHERE digest = ANY(%b)"


def binaries() -> Path | None:
    """Return the folder of the newest server binaries, or None."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        return None
    return max(found, key=lambda path: int(path.parents[1].name)).parent


@contextmanager
def cluster(folder: Path) -> Iterator[psycopg.Connection[tuple[bytes, int]]]:
    """Run a server and yield a connection to it."""
    root = Path(tempfile.mkdtemp(prefix="pg", dir=folder))
    where = binaries()
    assert where is not None
    common: dict[str, object] = {"cwd": root}
    if os.geteuid() == 0:  # the server refuses to run as root
        known = {entry.pw_name: entry for entry in pwd.getpwall()}
        account = known.get("postgres") or known["nobody"]
        os.chown(root, account.pw_uid, account.pw_gid)
        common |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    make = [where / "initdb", "-D", root / "data", "-U", "bench", "-A", "trust", "--no-sync"]
    subprocess.run(make, check=True, capture_output=True, **common)  # type: ignore[call-overload]
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    server = subprocess.Popen(
        [where / "postgres", "-D", root / "data", "-k", root, *options],
        stderr=subprocess.DEVNULL,
        **common,  # type: ignore[call-overload]
    )
    try:
        with _connect(root) as connection:
            yield connection
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()
        shutil.rmtree(root, ignore_errors=True)


def _connect(root: Path) -> psycopg.Connection[tuple[bytes, int]]:
    deadline = time.monotonic() + 60
    while True:
        try:
            return psycopg.connect(host=str(root), dbname="postgres", user="bench", autocommit=True)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def load(connection: psycopg.Connection[tuple[bytes, int]], digests: np.ndarray) -> float:
    """Copy digests (n, 20) in, numbered from 0, and index them; return the seconds it took."""
    began = time.perf_counter()
    connection.execute("CREATE UNLOGGED TABLE held (digest bytea NOT NULL, id bigint NOT NULL)")
    header = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
    record = np.dtype(
        [("fields", ">i2"), ("l1", ">i4"), ("digest", "u1", 20), ("l2", ">i4"), ("id", ">i8")]
    )
    with connection.cursor() as cursor, cursor.copy("COPY held FROM STDIN (FORMAT binary)") as copy:
        copy.write(header)
        for start in range(0, len(digests), 1_000_000):
            piece = digests[start : start + 1_000_000]
            rows = np.empty(len(piece), dtype=record)
            rows["fields"], rows["l1"], rows["l2"] = 2, 20, 8
            rows["digest"], rows["id"] = piece, np.arange(start, start + len(piece))
            copy.write(rows.tobytes())
        copy.write(b"\xff\xff")
    connection.execute("CREATE UNIQUE INDEX ON held (digest) INCLUDE (id)")
    connection.execute("VACUUM ANALYZE held")
    return time.perf_counter() - began


def ask(
    connection: psycopg.Connection[tuple[bytes, int]], digests: list[bytes], chunk: int
) -> list[tuple[bytes, int]]:
    """Return the (digest, id) held, asking ``chunk`` sorted digests at a time."""
    found: list[tuple[bytes, int]] = []
    with connection.cursor(binary=True) as cursor:
        for start in range(0, len(digests), chunk):
            cursor.execute(_ASK, (digests[start : start + chunk],), prepare=True)
            found += cursor.fetchall()
    return found
