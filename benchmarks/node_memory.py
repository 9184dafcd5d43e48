"""Private memory of a process that answers: ``python -m benchmarks.node_memory --size N``.

A process of its own opens the index of SHA-1 and MD5 of N items from its files, answers half a
million questions of each kind, a fifth of them held, and then says what memory it keeps: everything
private to it, but for the mapped index files, whose resident part is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks import data, indexes
from benchmarks.memory import memory_of
from benchmarks.rows import arguments, report

ASKED, AT_ONCE = 500_000, 20_000


def main() -> None:
    """Measure and write the row, or with --opens be the process that is measured."""
    parser = arguments(__doc__, size=1_000_000)
    parser.add_argument("--opens", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opens:
        answer(options.opens, options.size)
        return
    folder = indexes.exact_folder(options.data, options.size)
    words = [sys.executable, "-m", "benchmarks.node_memory", "--opens", str(folder)]
    child = subprocess.run(
        [*words, "--size", str(options.size)], check=True, stdout=subprocess.PIPE, text=True
    )
    said = json.loads(child.stdout)
    print(f"mapped and resident beside it: {said['mapped'] / 1e6:.0f} MB")
    report("node_memory", options.size, said["private"] / 1e6, None, said["correct"])


def answer(folder: Path, size: int) -> None:
    """Answer, and print what is kept."""
    correct = True
    with indexes.opened(folder) as matcher:
        for kind in indexes.EXACT:
            rng = np.random.default_rng((103, kind.value))
            for _ in range(ASKED // AT_ONCE):
                first = int(rng.integers(0, size - AT_ONCE // 5))
                asked = rng.integers(0, 256, (AT_ONCE, kind.width), dtype=np.uint8)
                asked[::5] = data.digests(kind, AT_ONCE // 5, first)
                found = matcher.exact(kind, asked).item_ids
                correct = correct and np.array_equal(found, np.arange(first, first + len(found)))
                correct = correct and len(found) == AT_ONCE // 5
        memory = memory_of("self", folder)
    answered = {"private": memory.private, "mapped": memory.mapped, "correct": bool(correct)}
    print(json.dumps(answered))


if __name__ == "__main__":
    main()
