"""All rows, one at a time: ``python -m benchmarks.suite quick|full [PROGRAM ...]``.

``quick`` takes two minutes (on a slow machine eight) and needs no peer beside PostgreSQL; ``full``
takes 35 minutes to hours, 16 GB of memory and 25 GB of disk, and writes docs/performance at its
end. Programs that are named run alone. Exits with 1 when an answer was wrong or a program failed; a
ratio that misses its mark is for the reader.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from tieline_server.matching.warm import warm

from benchmarks.rows import ROOT

_M = 1_000_000
PROGRAMS: dict[str, tuple[int, int]] = {
    "exact_lookup": (_M, 51 * _M),
    "exact_crafted": (_M, 51 * _M),
    "exact_start": (_M, 51 * _M),
    "near_pdqindex": (_M, 10 * _M),
    "near_flat": (_M, 51 * _M),
    "near_recall": (_M // 4, 10 * _M),
    "near_memory": (_M, 10 * _M),
    "group_commit": (0, 0),
    "broadcast": (4, 50),
    "policy_decision": (0, 0),
    "three_peers": (_M // 10, _M),
    "audit_cost": (_M // 10, _M),
    "ingest": (_M, 51 * _M),
    "end_to_end": (_M, 51 * _M),
    "node_memory": (_M, 51 * _M),
    "incremental": (_M, 51 * _M),
    "collection": (_M, 51 * _M),
    "watch": (_M, _M),
}
"""Sizes of the quick and of the full run."""
QUICK = {
    "exact_lookup": ("--rounds", "1"),
    "group_commit": ("--seconds", "1", "--rounds", "1"),
    "broadcast": ("--rounds", "1"),
    "audit_cost": ("--rounds", "1"),
    "end_to_end": ("--rounds", "3", "--as-is"),
    "node_memory": ("--as-is",),
    "incremental": ("--imports", "10", "--as-is"),
    "collection": ("--rounds", "3", "--own", "20000", "--as-is"),
    "watch": ("--rounds", "2", "--watched", "100000", "--as-is"),
}
"""What the quick run cuts short."""


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("extent", choices=["quick", "full"])
    parser.add_argument("programs", nargs="*", metavar="PROGRAM", help=", ".join(PROGRAMS))
    options = parser.parse_args()
    if unknown := set(options.programs) - set(PROGRAMS):
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    warm(ROOT / "build" / "kernels")
    chosen = options.programs or list(PROGRAMS)
    failed = [
        name
        for number, name in enumerate(chosen, 1)
        if not run(name, options.extent, f"{number}/{len(chosen)}")
    ]
    if options.extent == "full" and not failed:
        subprocess.run([sys.executable, "-m", "benchmarks.report"], cwd=ROOT, check=True)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def run(name: str, extent: str, place: str) -> bool:
    """Run one program; return whether it succeeded."""
    size = PROGRAMS[name][extent == "full"]
    words = ["-m", f"benchmarks.{name}", "--size", str(size)]
    if extent == "quick":
        words += QUICK.get(name, ("--rounds", "3"))
    print(f"\n[{place}] python {' '.join(words)}", flush=True)
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=os.environ, check=False)
    print(f"[{place}] {time.perf_counter() - began:.0f} s", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    main()
