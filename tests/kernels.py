"""Compiled kernels of all tests and of `make demo`, once for all node processes of all runs.

``python -m tests.kernels`` fills their cache: a run begins with it, beside the collection of tests,
since compiling takes one core half a minute and nodes wait for it.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from pathlib import Path

from tieline_server.matching.warm import warm

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "build" / "kernels"


def compiled() -> None:
    """Return once they are there; whoever comes first compiles them."""
    CACHE.parent.mkdir(exist_ok=True)
    with CACHE.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers would compile them twice
        warm(CACHE)


def begin() -> None:
    """Begin to compile in a process of its own, and wait for nothing."""
    subprocess.Popen([sys.executable, "-m", "tests.kernels"], cwd=ROOT, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    compiled()
