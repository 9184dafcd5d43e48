"""A night's re-run of a million watched hashes: ``python -m benchmarks.watch --size N``.

A node holds N items. The hub watches a million SHA-1, of which a thousand are held and a hundred
will be; the first run asks them whole. Then 10,000 items are imported at the holder, a hundred of
them watched, and the hub runs again: it has to find these hundred and no others, and asks for what
is new alone. A third run asks nothing. The row is the re-run of one peer whose index changed, in
seconds, as a person waits for it. Beside it the other runs are printed, and the processor time
that the re-run takes of the asker: fifty such peers cost it no more than fifty times that, and
those of which nothing is new cost it nothing.

It works on a copy of the holder's folder, which is removed at the end.
"""

from __future__ import annotations

import statistics
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
from benchmarks.rows import arguments, report

KIND = DigestKind.SHA1
WATCHED, HELD, COMING, FRESH = 1_000_000, 1_000, 100, 10_000


def main() -> None:
    """Measure, check, and print."""
    parser = arguments(__doc__, size=1_000_000, rounds=3)
    parser.add_argument("--watched", type=int, default=WATCHED, help="hashes of the standing query")
    options = parser.parse_args()
    size = options.size
    agains, costs = [], []
    with (
        nodes.copied(options.data, size, as_is=options.as_is) as made,
        TemporaryDirectory() as folder,
    ):
        hub, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with hub.client() as asker, holder.client() as importer:
            watch = add(asker, size, options.watched, options.rounds)
            whole, found = timed(asker, watch)
            correct = found == (HELD, False, "answered")
            for number in range(options.rounds):
                path = Path(folder) / f"fresh-{number}.csv"
                nodes.fill(importer, nodes.write_csv(path, size + number * FRESH, FRESH))
                before = nodes.cpu_seconds(hub)
                again, found = timed(asker, watch)
                costs.append(nodes.cpu_seconds(hub) - before)
                agains.append(again)
                correct = correct and found == (COMING, True, "answered")
            nothing, found = timed(asker, watch)
            correct = correct and found == (0, False, "unchanged")
            (peer,) = asker.get_watch(watch).watch.peers
            correct = correct and peer.matched == HELD + COMING * options.rounds
    print(
        f"asked whole in {whole:.2f} s, again in {', '.join(f'{one:.2f}' for one in agains)} s "
        f"({statistics.median(costs):.2f} s of the asker's processor), "
        f"{nothing:.2f} s where nothing is new"
    )
    report("watch", size, statistics.median(agains), None, correct)


def add(client: OperatorClient, size: int, watched: int, rounds: int) -> str:
    """Watch some that are held, some that will be, and the rest never; return the id."""
    held = data.digests(KIND, size)[:: max(size // HELD, 1)][:HELD]
    coming = data.digests(KIND, FRESH * rounds, size)[:: FRESH // COMING]
    never = data.digests(KIND, watched - len(held) - len(coming), 100 * 1_000_000)
    asked = AskedList.from_digests(KIND, np.concatenate([held, coming, never]))
    until = datetime.now(UTC) + timedelta(days=1)
    began = time.perf_counter()
    stated = WatchOptions(
        purpose=nodes.PURPOSE, case_ref=nodes.CASE, until=until, peers=(nodes.HOLDERS[0],)
    )
    made = client.add_watch(asked, stated)
    print(f"{watched} added in {time.perf_counter() - began:.2f} s", flush=True)
    return made.id


def timed(client: OperatorClient, watch: str) -> tuple[float, tuple[int, bool, str]]:
    """Run; return the seconds, and what matched anew, whether only what is new was asked, how."""
    began = time.perf_counter()
    (run,) = client.run_watches([watch])
    return time.perf_counter() - began, (run.fresh, run.since, run.status)


if __name__ == "__main__":
    main()
