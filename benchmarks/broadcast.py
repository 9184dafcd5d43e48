"""A hub's broadcasts to N nodes: ``python -m benchmarks.broadcast --size N``.

N nodes and a hub, each a process of its own with its own home, database, identity and port. An
officer of the hub broadcasts SERIES series, each told in some 4 KB, to a group of all: the hub asks
policy for every recipient, signs, queues and logs; each recipient checks signature and policy, and
commits series, broadcast, inbox and log entry before it replies. The clock runs from the officer's
first of COMMANDS commands until the hub has settled every message; every recipient's database is
counted afterwards.
It begins when what the nodes tell one another after their start is over.

The peer is the raw unary echo of as many bytes over the same mutual TLS, as many at once as serve
it best, with one pair of processes and with two; both take turns, and the medians count.
"""

from __future__ import annotations

import contextlib
import sqlite3
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tieline_client.identifiers import new_id
from tieline_client.operator_client import OperatorClient

from benchmarks import nodes
from benchmarks.echo import Echo, echo
from benchmarks.rows import arguments, report
from tests.e2e.federation import Federation, Node, wait_for

GROUP = "all-nodes"
SERIES, COMMANDS = 40, 4
"""Series in one command, and commands that the officer gives one after the other."""
MESSAGE_BYTES = 4096
ECHOES = 800
"""For each round asked for."""
AT_ONCE = (4, 16, 64)
SETTLED_SECONDS = 1_200.0
_TEXT = "A blue door with a brass handle, tiles in a herringbone pattern, a radio in the back. "


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=50, rounds=5).parse_args()
    holders = [f"unit-{number:02}" for number in range(1, options.size + 1)]
    root = options.data / f"broadcast-{options.size}"
    with nodes.federation(root, holders, group=GROUP) as made:
        nodes.rest(made)
        hub, other = made[nodes.HUB], made[holders[0]]
        with (
            hub.client() as client,
            echo(other, hub, made.name) as one,
            echo(hub, other, made.name) as two,
        ):
            rates, echoes, correct = [], [], True
            for counted in range(options.rounds + 1):
                echoes_now = best_echo([one, two], ECHOES * options.rounds)
                rate, right = broadcast(client, made, holders)
                correct = correct and right
                print(f"{rate:.0f} messages/s, {echoes_now:.0f} echoes/s", flush=True)
                if counted:
                    rates.append(rate)
                    echoes.append(echoes_now)
    report("broadcast", options.size, statistics.median(rates), statistics.median(echoes), correct)


def broadcast(
    client: OperatorClient, made: Federation, holders: Sequence[str]
) -> tuple[float, bool]:
    """Broadcast new series to all; return messages a second, and whether each was applied once."""
    hub = made[nodes.HUB]
    series = [[new_series(client) for _ in range(SERIES)] for _ in range(COMMANDS)]
    before = [applied(made[agency]) for agency in holders]
    began = time.perf_counter()
    sent = [
        broadcast
        for some in series
        for broadcast in client.broadcast_series(
            some, GROUP, purpose=nodes.PURPOSE, case_ref=nodes.CASE, question=(_TEXT * 20)[:1000]
        )
    ]
    with contextlib.closing(_database(hub)) as database:
        wait_for("all is delivered", lambda: not _queued(database), SETTLED_SECONDS)
    took = time.perf_counter() - began
    size = statistics.median(_sizes(hub))
    print(f"{len(sent)} broadcasts of {size:.0f} bytes in {took:.2f} s", flush=True)
    after = [applied(made[agency]) for agency in holders]
    wanted = {one.id for one in sent}
    right = len(sent) == SERIES * COMMANDS and all(
        now - then == wanted for then, now in zip(before, after, strict=True)
    )
    return len(sent) * len(holders) / took, right and size >= MESSAGE_BYTES


def new_series(client: OperatorClient) -> str:
    """Make a series whose broadcast has some 4 KB, as an analyst does; return its id."""
    clues = (_TEXT * 30)[:2000]
    made = client.create_series(f"bench {new_id()}", case_ref=nodes.CASE, clues=clues)
    client.assess_series(made.notice.id, "PT", 2, (_TEXT * 20)[:700])
    return made.notice.id


def applied(node: Node) -> set[str]:
    """Return the broadcasts that a node has applied, by its inbox and by their effect."""
    inbox = node.rows("SELECT subject FROM inbox WHERE kind = 'broadcast' AND reply = 1")
    effects = node.rows("SELECT id FROM broadcasts WHERE direction = 'in' AND state = 'delivered'")
    told = [row[0] for row in inbox]
    if len(told) != len(set(told)) or set(told) != {row[0] for row in effects}:
        raise SystemExit(f"{node.agency}: what came and what was done differ")
    return set(told)


def best_echo(wires: Sequence[Echo], echoes: int) -> float:
    """Return the most echoes a second, of so many, over all numbers at once, from one wire and from
    all."""
    message = bytes(MESSAGE_BYTES)
    best = 0.0
    for used in (wires[:1], wires):
        for at_once in AT_ONCE:
            with ThreadPoolExecutor(len(used)) as pool:
                began = time.perf_counter()
                share = echoes // len(used)
                calls = [pool.submit(wire.many, message, share, at_once) for wire in used]
                for call in calls:
                    call.result()
                best = max(best, echoes / (time.perf_counter() - began))
    return best


def _database(node: Node) -> sqlite3.Connection:
    path: Path = node.home / "database.sqlite3"
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _queued(database: sqlite3.Connection) -> int:
    where = "state = 'queued' AND held_until IS NULL"
    return int(database.execute(f"SELECT count(*) FROM outbox WHERE {where}").fetchone()[0])


def _sizes(hub: Node) -> list[int]:
    rows = hub.rows("SELECT length(envelope) FROM outbox ORDER BY id DESC LIMIT 50")
    return [row[0] for row in rows]


if __name__ == "__main__":
    main()
