"""What auditing costs a question of 10,000 hashes: ``python -m benchmarks.audit_cost --size N``.

Two real nodes on loopback, started in turn as they are and without any auditing (unaudited.py). A
person asks one of them, which asks the other. CPU is that of both nodes' processes together, read
from the system; wall time is the person's. The share is what the audited run takes more.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tieline_client.asked_list import AskedList
from tieline_client.asking import AskOptions
from tieline_client.digests import DigestKind
from tieline_client.operator_client import OperatorClient
from tieline_client.overlap_answers import Event, PeerAnswer

from benchmarks import data, nodes
from benchmarks.rows import ROOT, arguments, report, size_name
from tests.e2e.federation import Federation, Node, wait_for

KIND = DigestKind.SHA1
ASKED, HELD = 10_000, 200
WARM, QUERIES = 10, 100
MET_SECONDS = 300.0
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure, and write both rows."""
    options = arguments(__doc__, size=100_000, rounds=3).parse_args()
    root = options.data / f"audit-cost-{size_name(options.size)}"
    holder = nodes.HOLDERS[0]
    path = nodes.csv_of(options.data, options.size)
    with nodes.federation(root, [holder]) as made, made[holder].client() as client:
        if client.get_stats().items != options.size:
            nodes.fill(client, path)
    taken: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    correct = True
    for turn in range(2 * options.rounds):
        audited = turn % 2 == 0
        cpu, wall, right = measure(made, options.size, audited=audited)
        taken[audited].append((cpu, wall))
        correct = correct and right
        print(f"audited {audited}: {cpu * 1e3:.1f} ms CPU, {wall * 1e3:.1f} ms", flush=True)
    (cpu_on, wall_on), (cpu_off, wall_off) = (
        tuple(statistics.median(column) for column in zip(*taken[audited], strict=True))
        for audited in (True, False)
    )
    report("audit_cpu", options.size, max(cpu_on - cpu_off, 0) / cpu_on, None, correct)
    report("audit_wall", options.size, max(wall_on - wall_off, 0) / wall_on, None, correct)


def measure(made: Federation, size: int, *, audited: bool) -> tuple[float, float, bool]:
    """Return CPU and wall seconds of a question, and whether the answers were right."""
    for node in made:
        start(node, audited=audited)
    try:
        for node in made:
            node.wait_ready()
        asking, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        with asking.client() as client, holder.client() as theirs:
            nodes.wait_indexed(theirs)
            rows, rng = data.digests(KIND, size), np.random.default_rng((5, audited))
            # Both start at once: a connection that was refused is tried again within a second.
            wait_for("they have met", lambda: ask(client, rows, rng), MET_SECONDS)
            entries = client.get_audit_head().size
            right = all(ask(client, rows, rng) for _ in range(WARM))
            cpu, began = _cpu(made), time.perf_counter()
            answers = [ask(client, rows, rng) for _ in range(QUERIES)]
            wall = (time.perf_counter() - began) / QUERIES
            cpu = (_cpu(made) - cpu) / QUERIES
            more = client.get_audit_head().size - entries
            right = right and all(answers)
    finally:
        for node in made:
            node.stop()
    # What is measured is what is said: entries for each question, or none.
    right = right and (more >= 2 * (WARM + QUERIES) if audited else more == 0)
    return cpu, wall, right


def start(node: Node, *, audited: bool) -> None:
    """Start a node as it is, or one that audits nothing."""
    if audited:
        node.launch()
        return
    with node.log.open("wb") as log:
        node.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.unaudited", str(node.home)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd=ROOT,
        )


def ask(client: OperatorClient, rows: np.ndarray, rng: np.random.Generator) -> bool:
    """Ask of ASKED hashes, HELD of which the other node holds; whether that is the answer."""
    held = rows[rng.choice(len(rows), HELD, replace=False)]
    absent = rng.integers(0, 256, (ASKED - HELD, KIND.width), dtype=np.uint8)
    asked = AskedList.from_digests(KIND, np.concatenate([held, absent]))
    found: list[int] = []

    def take(event: Event) -> None:
        if isinstance(event, PeerAnswer):
            found.append(len(event.matches))

    options = AskOptions(nodes.PURPOSE, nodes.CASE, peers=(nodes.HOLDERS[0],))
    client.ask_overlap(asked, options, take)
    return found == [HELD]


def _cpu(made: Federation) -> float:
    """Return the CPU seconds that the nodes' processes have used."""
    total = 0
    for node in made:
        assert node.process is not None
        stat = Path(f"/proc/{node.process.pid}/stat").read_text("ascii")
        fields = stat.rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


if __name__ == "__main__":
    main()
