"""A night's re-run of a million watched hashes: ``python -m benchmarks.watch --size N``.

A node holds N items. The hub watches a million SHA-1, of which a thousand are held and a hundred
will be; the first run asks them whole. Then 10,000 items are imported at the holder, a hundred of
them watched, and the hub runs again: it has to find these hundred and no others, and asks for what
is new alone. A third run asks nothing. Printed are the seconds of each, as a person waits for them,
and those of the re-run times fifty: one peer after another, though peers are asked at once.

It works on a copy of the holder's folder, which is removed at the end.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tieline_client.asked_list import AskedList
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient
from tieline_client.watch_list import WatchOptions

from benchmarks import data, nodes
from benchmarks.rows import OUT, arguments, size_name

KIND = DigestKind.SHA1
WATCHED, HELD, COMING, FRESH = 1_000_000, 1_000, 100, 10_000
PEERS = 50


def main() -> None:
    """Measure, check, and print."""
    options = arguments(__doc__, size=1_000_000).parse_args()
    size = options.size
    with nodes.copied(options.data, size) as made, TemporaryDirectory() as folder:
        hub, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with hub.client() as asker, holder.client() as importer:
            watch = add(asker, size)
            whole, found = timed(asker, watch)
            correct = found == (HELD, False, "answered")
            nodes.fill(importer, nodes.write_csv(Path(folder) / "fresh.csv", size, FRESH))
            again, found = timed(asker, watch)
            correct = correct and found == (COMING, True, "answered")
            nothing, found = timed(asker, watch)
            correct = correct and found == (0, False, "unchanged")
            matched = asker.get_watch(watch).watch.peers[0].matched
            correct = correct and matched == HELD + COMING
    row = {
        "name": f"watch_of_{size_name(size)}",
        "watched": WATCHED,
        "new_items": FRESH,
        "whole_seconds": round(whole, 3),
        "rerun_seconds": round(again, 3),
        "nothing_new_seconds": round(nothing, 3),
        "rerun_seconds_of_50_peers": round(PEERS * again, 1),
        "correct": correct,
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{row['name']}.json").write_text(json.dumps(row, indent=1) + "\n")
    print(json.dumps(row), flush=True)
    if not correct:
        raise SystemExit(f"the answers are wrong: {found}, {matched} matched")


def add(client: OperatorClient, size: int) -> str:
    """Watch a million: some that are held, some that will be, the rest never; return the id."""
    held = data.digests(KIND, size)[:: max(size // HELD, 1)][:HELD]
    coming = data.digests(KIND, FRESH, size)[:: FRESH // COMING]
    never = data.digests(KIND, WATCHED - HELD - COMING, 100 * 1_000_000)
    asked = AskedList.from_digests(KIND, np.concatenate([held, coming, never]))
    until = datetime.now(UTC) + timedelta(days=1)
    began = time.perf_counter()
    stated = WatchOptions(
        purpose=nodes.PURPOSE, case_ref=nodes.CASE, until=until, peers=(nodes.HOLDERS[0],)
    )
    made = client.add_watch(asked, stated)
    print(f"{WATCHED} added in {time.perf_counter() - began:.2f} s", flush=True)
    return made.id


def timed(client: OperatorClient, watch: str) -> tuple[float, tuple[int, bool, str]]:
    """Run; return the seconds, and what matched anew, whether only what is new was asked, how."""
    began = time.perf_counter()
    (run,) = client.run_watches([watch])
    return time.perf_counter() - began, (run.fresh, run.since, run.status)


if __name__ == "__main__":
    main()
