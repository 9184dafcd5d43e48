"""Memory of the near index against PDQIndex: ``python -m benchmarks.near_memory --size N``.

Each in a process of its own, which has loaded all code and made a small index before it is counted.
Ours counts the index files in full, whether resident or not, and by how much the process's private
memory grew while it opened them and answered. The peer counts by how much its process's private
memory grew while the index was filled, and nothing that is free again.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.limits import NEAR_RADIUS
from tieline_server.matching.matcher import Matcher

from benchmarks import data, indexes
from benchmarks.memory import memory_of
from benchmarks.near_peers import PdqIndex, answered, brute_force
from benchmarks.rows import arguments, report

ASKED = 200
CHECKED = 10


def main() -> None:
    """Measure and write the row, or be one of the processes that are measured."""
    parser = arguments(__doc__, size=1_000_000)
    parser.add_argument("--is", dest="part", choices=["ours", "peer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        part = ours if options.part == "ours" else peer
        print(json.dumps(part(options.data, options.size)))
        return
    indexes.near_folder(options.data, options.size)
    mine = process("ours", options)
    theirs = None if options.alone or not PdqIndex.installed() else process("peer", options)
    correct = mine["correct"] and (theirs is None or mine["found"] == theirs["found"])
    peer_bytes = None if theirs is None else theirs["bytes"] / 1e6
    print(f"ours: {mine['private'] / 1e6:.0f} MB of it private, the rest in files")
    report("near_memory", options.size, mine["bytes"] / 1e6, peer_bytes, correct)


def process(part: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one part in a process of its own and return what it printed last."""
    words = [sys.executable, "-m", "benchmarks.near_memory", "--is", part]
    places = ["--size", str(options.size), "--data", str(options.data)]
    done = subprocess.run([*words, *places], check=True, stdout=subprocess.PIPE, text=True)
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said


def ours(root: Path, size: int) -> dict[str, Any]:
    """Open, answer, and count."""
    folder = indexes.near_folder(root, size)
    asked = data.asked_near(data.digests(DigestKind.PDQ, size), ASKED)
    small = Matcher(None)
    small.add(DigestKind.PDQ, np.arange(len(asked)), asked)
    small.merge()
    small.near(asked, NEAR_RADIUS)
    small.close()
    before = memory_of("self", folder).private
    with indexes.opened(folder) as matcher:
        hits = answered(matcher.near(asked, NEAR_RADIUS))
        private = max(memory_of("self", folder).private - before, 0)
        files = int(matcher.stats()["snapshot_bytes"])
    held = data.digests(DigestKind.PDQ, size)
    few = hits[hits >> 40 < CHECKED]
    correct = np.array_equal(few, brute_force(held, asked[:CHECKED]))
    return {
        "bytes": files + private,
        "private": private,
        "correct": bool(correct),
        "found": hits.tolist(),
    }


def peer(root: Path, size: int) -> dict[str, Any]:
    """Fill PDQIndex from hashes that stay out of the count, and count."""
    held = data.digests(DigestKind.PDQ, size)
    asked = data.asked_near(held, ASKED)
    PdqIndex(asked).answered([asked[0].tobytes().hex()])
    before = memory_of("self", root).private
    index = PdqIndex(held)
    found = index.answered([row.tobytes().hex() for row in asked])
    gc.collect()
    return {"bytes": memory_of("self", root).private - before, "found": found.tolist()}


if __name__ == "__main__":
    main()
