"""Group commit: durable writes a second by 64 callers, grouped and one by one.

Run: ``python -m benchmarks.group_commit [--callers 64] [--seconds 5] [--rounds 3]``. Each write is
one row and one audit entry on SQLite (WAL, synchronous=FULL) in a folder on the disk that the
temporary directory stands on. Writes build/bench/group_commit.json and prints the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Tx
from tieline_server.storage.sqlite import GROUP_WORKS, SqliteStore

OUT = Path("build/bench/group_commit.json")


def now() -> datetime:
    return datetime.now(UTC)


def rate(callers: int, seconds: float, group_works: int) -> float:
    """Return acknowledged writes a second."""
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
        return counted / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = [
        (rate(given.callers, given.seconds, GROUP_WORKS), rate(given.callers, given.seconds, 1))
        for _ in range(given.rounds)
    ]
    result = {
        "callers": given.callers,
        "grouped_per_second": statistics.median(grouped for grouped, _ in rounds),
        "single_per_second": statistics.median(single for _, single in rounds),
        "ratio": statistics.median(grouped / single for grouped, single in rounds),
        "rounds": rounds,
    }
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(
        f"{given.callers} callers: {result['grouped_per_second']:.0f} grouped, "
        f"{result['single_per_second']:.0f} one by one; ratio {result['ratio']:.1f}; {OUT}\n"
    )


if __name__ == "__main__":
    main()
