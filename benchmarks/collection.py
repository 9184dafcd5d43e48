"""A whole collection beside a peer's: ``python -m benchmarks.collection --size N --own M``.

The hub holds M items, a peer node N; half of the hub's are the peer's, too. A person at the hub
compares everything with `OperatorClient.compare_collection`. Pair by pair, what is shared and how
large both series are is held against what was planted. The figure is the seconds that it takes.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from pathlib import Path

import numpy as np
from tieline_client.asking import AskOptions
from tieline_client.collection import CollectionAnswer, Event
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient

from benchmarks import data, nodes
from benchmarks.rows import arguments, report, size_name

KIND = DigestKind.SHA1
OWN = 1_000_000
OWN_SERIES = 50
PUT_TOGETHER = 100_000
"""From so many on, putting the hub's own index together would be felt in the figure."""
APART = 60_000_000
"""Items from here on are nobody's but the hub's."""
Pairs = dict[tuple[str, str], tuple[int, int, int]]
"""Name of an own series and of the peer's, "" for none: items of each, and of both; the peer's are
0 where there is no series."""


def main() -> None:
    """Measure, and write the row."""
    parser = arguments(__doc__, size=1_000_000)
    parser.add_argument("--own", type=int, default=OWN, help="items that the hub holds")
    options = parser.parse_args()
    shared = shared_items(options.size, options.own)
    with nodes.holding(options.data, options.size, as_is=options.as_is) as made:
        hub, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with hub.client() as client, holder.client() as other:
            hold_own(client, options.data, options.own, shared)
            if options.own >= PUT_TOGETHER:
                nodes.settle(hub, as_is=options.as_is)
            names = {one.notice.id: one.notice.name for one in other.list_series()}
            expected = planted(options.size, options.own, shared)
            correct, times = True, []
            for _ in range(options.rounds + 1):
                began = time.perf_counter()
                answer = compare(client)
                times.append(time.perf_counter() - began)
                found = pairs_of(answer, names)
                correct = correct and answer.shared == len(shared) and found == expected
    took = statistics.median(times[1:])
    print(
        f"{options.own} items, {len(expected)} pairs of series, {options.own / took:,.0f} items/s"
    )
    report("collection", options.size, took, None, correct)


def shared_items(size: int, own: int) -> data.I64:
    """Return the numbers of the peer's items that the hub holds, too."""
    rng = np.random.default_rng((109, size, own))
    return np.sort(rng.choice(size, own // 2, replace=False))


def own_series(count: int) -> data.I64:
    """Return the own series of each own item, -1 for none."""
    numbers = np.arange(count)
    return np.where(numbers % 3 == 0, -1, numbers % OWN_SERIES)


def hold_own(client: OperatorClient, root: Path, own: int, shared: data.I64) -> None:
    """Import the own items, unless they are held already: first the shared ones, then others."""
    held = client.get_stats().items
    if held == own:
        return
    if held:
        raise SystemExit(f"the hub holds {held} other items; remove its folder in {root}")
    path = root / f"own-{size_name(own)}.csv"
    with path.open("w") as stream:
        stream.write("sha1,series\n")
        series = own_series(own).tolist()
        for start in range(0, own, data.PIECE):
            rows = own_digests(start, min(start + data.PIECE, own), shared)
            for row, number in zip(rows, series[start:], strict=False):
                stream.write(f"{row.tobytes().hex()},{_own_name(number)}\n")
    nodes.fill(client, path)
    path.unlink()


def own_digests(first: int, last: int, shared: data.I64) -> data.U8:
    """Return the digests of own items [first, last)."""
    rows = data.digests(KIND, last - first, APART + first)
    here = shared[first:last]
    pieces = here // data.PIECE
    for piece in np.unique(pieces):
        of_it = np.flatnonzero(pieces == piece)
        held = data.digests(KIND, data.PIECE, int(piece) * data.PIECE)
        rows[of_it] = held[here[of_it] % data.PIECE]
    return rows


def planted(size: int, own: int, shared: data.I64) -> Pairs:
    """Return the pairs that a comparison has to show."""
    mine, theirs = own_series(own), nodes.series_of(np.arange(size))
    own_totals, their_totals = Counter(mine.tolist()), Counter(theirs.tolist())
    both = zip(mine[: len(shared)].tolist(), theirs[shared].tolist(), strict=True)
    return {
        (_own_name(a), nodes.series_name(b)): (own_totals[a], their_totals[b] if b >= 0 else 0, n)
        for (a, b), n in Counter(both).items()
    }


def pairs_of(answer: CollectionAnswer, names: dict[str, str]) -> Pairs:
    """Return the pairs that a comparison showed; ``names`` are the peer's, by id."""
    if answer.status != "answered":
        print(f"{answer.status}: {answer.reason}")
    return {
        (one.own_name, names[one.theirs.id] if one.theirs else ""): (
            one.own_items,
            (one.theirs.items or 0) if one.theirs else 0,
            one.shared,
        )
        for one in answer.pairs
    }


def compare(client: OperatorClient) -> CollectionAnswer:
    """Compare with the peer and return its answer."""
    answers: list[CollectionAnswer] = []

    def on_event(event: Event) -> None:
        if isinstance(event, CollectionAnswer):
            answers.append(event)

    client.compare_collection(
        AskOptions(nodes.PURPOSE, nodes.CASE, peers=nodes.HOLDERS[:1]), on_event
    )
    (answer,) = answers
    return answer


def _own_name(number: int) -> str:
    return f"T{number}" if number >= 0 else ""


if __name__ == "__main__":
    main()
