"""Group commit: durable writes a second by 64 callers, grouped and one by one.

``python -m benchmarks.group_commit [--seconds 5] [--rounds 3]``. Each write is one row and one
audit entry on SQLite (WAL, synchronous=FULL) in a folder on the disk that the temporary directory
stands on; afterwards every acknowledged write must be there.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Tx
from tieline_server.storage.sqlite import GROUP_WORKS, SqliteStore

from benchmarks.rows import arguments, report

CALLERS = 64


def now() -> datetime:
    return datetime.now(UTC)


def rate(callers: int, seconds: float, group_works: int) -> float:
    """Return acknowledged writes a second; exit when one is lost."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(
            SqliteStore(Path(folder) / "d.sqlite3", clock=now, group_works=group_works)
        ) as store,
    ):
        done = [0] * callers
        stop = threading.Event()
        begun = threading.Barrier(callers + 1)

        def run(caller: int) -> None:
            key = f"caller-{caller}"

            def work(tx: Tx) -> None:
                tx.meta.set(key, str(done[caller]))
                tx.audit.append(AuditEntry("bench", now(), "pt-pj"))

            begun.wait()
            while not stop.is_set():
                store.write(work)
                done[caller] += 1

        threads = [threading.Thread(target=run, args=(caller,)) for caller in range(callers)]
        for thread in threads:
            thread.start()
        begun.wait()
        began = time.perf_counter()
        stop.wait(seconds)
        counted, took = sum(done), time.perf_counter() - began
        stop.set()
        for thread in threads:
            thread.join()
        kept = store.read(lambda tx: [tx.meta.get(f"caller-{caller}") for caller in range(callers)])
        if kept != [str(last - 1) for last in done]:
            raise SystemExit("an acknowledged write is lost")
        return counted / took


def main() -> None:
    """Measure in turn, and write the row."""
    parser = arguments(__doc__, size=0, rounds=3)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    rounds = [
        (rate(CALLERS, options.seconds, GROUP_WORKS), rate(CALLERS, options.seconds, 1))
        for _ in range(options.rounds)
    ]
    ours, peer = (statistics.median(column) for column in zip(*rounds, strict=True))
    report("group_commit", 0, ours, peer, True)


if __name__ == "__main__":
    main()
