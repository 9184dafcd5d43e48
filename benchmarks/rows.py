"""One row of the results, printed and written to build/bench/NAME.json, and how a row is timed."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.targets import TARGETS

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "bench"
DATA = OUT / "data"


@dataclass(frozen=True)
class Row:
    """``ours`` and ``peer`` in the unit of the target; ``peer`` is None where it is not there."""

    name: str
    size: int
    ours: float
    peer: float | None
    ratio: float | None
    at_least: float
    aim: float
    correct: bool


def report(
    key: str,
    size: int,
    ours: float,
    peer: float | None,
    correct: bool,
    *,
    ratio: float | None = None,
) -> Row:
    """Print and keep the row of a target; exit with 1 when the answers were wrong.

    Where the target has no peer, the ratio is ``ours`` itself.
    """
    target = TARGETS[key]
    if ratio is None and not target.peer:
        ratio = ours
    elif ratio is None and peer is not None:
        ratio = ours / peer
    row = Row(
        f"{key}_of_{size_name(size)}" if size else key,
        size,
        round(ours, 6),
        None if peer is None else round(peer, 6),
        None if ratio is None else round(ratio, 4),
        target.at_least,
        target.aim,
        bool(correct),
    )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{row.name}.json").write_text(json.dumps(asdict(row), indent=1) + "\n")
    print(json.dumps(asdict(row)), flush=True)
    if not row.correct:
        raise SystemExit(f"{row.name}: the answers are wrong")
    return row


def paired(
    ours: Callable[[], object], peer: Callable[[], object] | None, rounds: int
) -> tuple[float, float | None]:
    """Return the median seconds of both, taken in turn after one round that does not count."""
    times: tuple[list[float], list[float]] = ([], [])
    for counted in range(rounds + 1):
        for column, run in zip(times, (ours, peer), strict=True):
            if run is None:
                continue
            began = time.perf_counter()
            run()
            if counted:
                column.append(time.perf_counter() - began)
    return statistics.median(times[0]), statistics.median(times[1]) if times[1] else None


def size_name(size: int) -> str:
    """Return ``51m``, ``250k`` or ``123``."""
    for unit, letter in ((1_000_000, "m"), (1_000, "k")):
        if size >= unit and size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)


def arguments(description: str | None, *, size: int, rounds: int = 5) -> argparse.ArgumentParser:
    """Return a parser with what every row takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=size, help="items held")
    parser.add_argument("--rounds", type=int, default=rounds, help="the median of so many counts")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="where what is made once is kept between rows"
    )
    parser.add_argument(
        "--as-is", action="store_true", help="ask an index as an import leaves it, in several parts"
    )
    parser.add_argument("--alone", action="store_true", help="without any peer")
    return parser
