"""Time to the first exact answer: ``python -m benchmarks.exact_start --size N``.

A fresh process opens the index of N items and looks up one held digest. Its files are dropped from
the page cache first, as after a reboot, and its kernels are in their cache, as `tieline node init`
leaves them. The time runs from before the process is made.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tieline_client.digests import DigestKind

from benchmarks import data, indexes
from benchmarks.rows import arguments, report

KIND = DigestKind.SHA1


def main() -> None:
    """Measure and write the row, or with --opens be the process that is measured."""
    parser = arguments(__doc__, size=1_000_000, rounds=3)
    parser.add_argument("--opens", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.opens:
        answer(options.opens, options.size)
        return
    folder = indexes.exact_folder(options.data, options.size)
    seconds = []
    for _ in range(options.rounds + 1):
        drop(folder)
        began = time.time()
        words = [sys.executable, "-m", "benchmarks.exact_start"]
        child = subprocess.run(
            [*words, "--opens", str(folder), "--size", str(options.size)],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        ended, item = child.stdout.split()
        seconds.append(float(ended) - began)
        correct = int(item) == options.size - 1
    report("exact_start", options.size, statistics.median(seconds[1:]), None, correct)


def answer(folder: Path, size: int) -> None:
    """Print when the first answer was there, and the item that it names."""
    from tieline_server.matching.matcher import Matcher

    digest = data.digests(KIND, 1, size - 1)
    matcher = Matcher.open(folder)
    items = matcher.exact(KIND, digest).item_ids
    print(time.time(), *items.tolist(), flush=True)
    matcher.close()


def drop(folder: Path) -> None:
    """Drop a folder's files from the page cache."""
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main()
