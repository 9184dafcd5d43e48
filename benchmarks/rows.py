"""One row of the results table, printed and written to build/bench/NAME.json."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

OUT = Path(__file__).parents[1] / "build" / "bench"


@dataclass(frozen=True)
class Row:
    """``ours`` and ``peer`` in the same unit; ``peer`` is None where it is not installed."""

    name: str
    size: int
    ours: float
    peer: float | None
    at_least: float | None
    aim: float | None
    correct: bool
    lower_is_better: bool = False

    def write(self) -> None:
        """Print the row and keep it. Exits with 1 when the answers were wrong."""
        body = asdict(self)
        del body["lower_is_better"]
        body["ratio"] = None if self.peer is None else round(self.ours / self.peer, 3)
        OUT.mkdir(parents=True, exist_ok=True)
        (OUT / f"{self.name}.json").write_text(json.dumps(body, indent=1) + "\n")
        print(json.dumps(body), flush=True)
        if not self.correct:
            raise SystemExit(f"{self.name}: the answers are wrong")


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
