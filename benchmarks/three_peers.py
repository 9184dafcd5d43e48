"""One hash asked of three peers: ``python -m benchmarks.three_peers --size N``.

Four real nodes on loopback. A person asks through `OperatorClient`; the own node logs the question,
signs a header for each peer and asks all at once; each peer checks it, asks policy, looks it up,
logs its answer durably and signs a receipt; the own node checks and logs those. The peer is one
unary gRPC echo of a kilobyte over the same mutual TLS, measured in turn with it.

What a question costs each of the five processes in processor time is printed too: it says more than
the clock on a machine that others use. So is an echo that comes between two questions, as one in a
running node does: it finds the caches full of what five processes needed.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tieline_client.asked_list import AskedList
from tieline_client.asking import AskOptions
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient
from tieline_client.overlap_answers import Event, PeerAnswer

from benchmarks import data, nodes
from benchmarks.echo import Echo, echo
from benchmarks.rows import arguments, report, size_name

KIND = DigestKind.SHA1
BLOCKS, QUERIES, ECHOES = 6, 50, 200
MESSAGE = bytes(1024)
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and write the row."""
    options = arguments(__doc__, size=100_000).parse_args()
    root = options.data / f"three-peers-{size_name(options.size)}"
    path = nodes.csv_of(options.data, options.size)
    with nodes.federation(root, nodes.HOLDERS) as made:
        for agency in nodes.HOLDERS:
            with made[agency].client() as client:
                if client.get_stats().items != options.size:
                    nodes.fill(client, path)
        asking, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with asking.client() as client, echo(holder, asking, made.name) as wire:
            before = [entries(made[agency]) for agency in (nodes.HUB, *nodes.HOLDERS)]
            pids = {"client": os.getpid()} | {
                node.agency: node.process.pid for node in made if node.process is not None
            }
            spent: dict[str, float] = {}
            ours, peer, correct = measure(client, wire, options.size, pids, spent)
            between = echo_between(client, wire, options.size)
            after = [entries(made[agency]) for agency in (nodes.HUB, *nodes.HOLDERS)]
    asked = QUERIES * (BLOCKS + 2)
    # The question and three results; at a peer the answer, and what it disclosed of each hit.
    least = (asked * 4, *[asked + asked // 2] * len(nodes.HOLDERS))
    correct = correct and all(
        last - first >= need for first, last, need in zip(before, after, least, strict=True)
    )
    print(
        f"{ours * 1e3:.2f} ms a question, {peer * 1e3:.3f} ms an echo, "
        f"{between * 1e3:.3f} ms one between two questions"
    )
    parts = {name: seconds * 1e3 / (QUERIES * BLOCKS) for name, seconds in spent.items()}
    told = ", ".join(f"{name} {part:.2f}" for name, part in parts.items())
    print(f"{sum(parts.values()):.2f} ms of processor time a question: {told}")
    report("three_peers", options.size, ours, peer, correct)


def processor_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return what processes have used so far (proc(5): utime and stime)."""
    used: dict[str, float] = {}
    for name, pid in pids.items():
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used[name] = (int(fields[11]) + int(fields[12])) / TICKS
    return used


def measure(
    client: OperatorClient,
    wire: Echo,
    size: int,
    pids: Mapping[str, int],
    spent: dict[str, float],
) -> tuple[float, float, bool]:
    """Return the median seconds of a question and of an echo, and whether all answers were right.

    ``spent`` gets the processor seconds of the questions, by the names of ``pids``.

    Blocks of questions and of echoes take turns, so that each is as warm as it gets; the first
    blocks do not count. Every other question is about a hash that all three hold.
    """
    rows = data.digests(KIND, size)
    rng = np.random.default_rng((106,))
    seconds: list[float] = []
    echoes: list[float] = []
    correct = True
    for block in range(BLOCKS + 1):
        if block == 1:
            seconds, echoes = [], []
            spent.clear()
        before = processor_seconds(pids)
        for turn in range(QUERIES):
            held = turn % 2 == 0
            row = (
                rows[[rng.integers(size)]]
                if held
                else rng.integers(0, 256, (1, 20), dtype=np.uint8)
            )
            began = time.perf_counter()
            answers = ask(client, row)
            seconds.append(time.perf_counter() - began)
            correct = correct and len(answers) == len(nodes.HOLDERS)
            correct = correct and all(
                one.status == "answered" and len(one.matches) == held for one in answers
            )
        for name, used in processor_seconds(pids).items():
            spent[name] = spent.get(name, 0.0) + used - before[name]
        for _ in range(ECHOES):
            began = time.perf_counter()
            returned = wire.unary(MESSAGE)
            echoes.append(time.perf_counter() - began)
            correct = correct and returned == MESSAGE
    return statistics.median(seconds), statistics.median(echoes), correct


def echo_between(client: OperatorClient, wire: Echo, size: int) -> float:
    """Return the median seconds of an echo that comes after a question."""
    rows = data.digests(KIND, size)
    seconds: list[float] = []
    for turn in range(QUERIES):
        ask(client, rows[[turn]])
        began = time.perf_counter()
        wire.unary(MESSAGE)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def ask(client: OperatorClient, row: data.U8) -> list[PeerAnswer]:
    """Ask one digest and return the peers' answers."""
    answers: list[PeerAnswer] = []

    def on_event(event: Event) -> None:
        if isinstance(event, PeerAnswer):
            answers.append(event)

    options = AskOptions(nodes.PURPOSE, nodes.CASE, peers=nodes.HOLDERS)
    client.ask_overlap(AskedList.from_digests(KIND, row), options, on_event)
    return answers


def entries(node: nodes.Node) -> int:
    """Return the entries of a node's audit log."""
    with node.client() as client:
        return int(client.get_audit_head().size)


if __name__ == "__main__":
    main()
