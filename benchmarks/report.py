"""Results into docs/performance: ``python -m benchmarks.report [--any-size]``.

Reads build/bench/*.json and writes performance/results.json (with the machine), the picture
performance/ratios.svg, and the table in performance.md between its two marks. Of each target the
largest size counts; rows below their full size are left out unless told otherwise.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import picture, postgres
from benchmarks.rows import OUT, ROOT, Row, size_name
from benchmarks.targets import TARGETS, Target

BEGIN, END = "<!-- results: made by benchmarks/report.py -->", "<!-- end of results -->"
PEERS = ("threatexchange", "faiss-cpu", "psycopg")
OURS = ("numpy", "numba", "grpcio", "sqlalchemy")


def target_of(row: Row) -> Target:
    """Return the target that a row is measured for. Raises KeyError."""
    return TARGETS[row.name.removesuffix(f"_of_{size_name(row.size)}")]


def load(folder: Path, *, any_size: bool = False) -> list[Row]:
    """Return the row of each target, in the order of the targets."""
    best: dict[str, Row] = {}
    for path in folder.glob("*.json"):
        row = Row(**json.loads(path.read_bytes()))
        key = row.name.removesuffix(f"_of_{size_name(row.size)}")
        known = best.get(key)
        if key not in TARGETS or (row.size < TARGETS[key].size and not any_size):
            continue
        if known is None or known.size < row.size:
            best[key] = row
    return [best[key] for key in TARGETS if key in best]


def machine() -> dict[str, object]:
    """Describe this machine and what was installed."""
    told = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", told)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in (*OURS, *PEERS)} | _postgres(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _postgres() -> dict[str, str | None]:
    where = postgres.binaries()
    if where is None:
        return {"postgresql": None}
    words = [str(where / "postgres"), "--version"]
    told = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {"postgresql": told.split()[2]}


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a table."""
    lines = [
        "| what | held | ours | peer | ratio | at least | aim |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        target = target_of(row)
        peer = "" if row.peer is None else f"{_figure(row.peer, target)}, {target.peer}"
        sign = "≤ " if target.lower else ""
        # Without a peer the figure itself is what the marks are for.
        ratio = "" if row.ratio is None or not target.peer else f"**{row.ratio:.3g}**"
        lines.append(
            f"| {target.what} | {size_name(row.size).upper() if row.size else ''} "
            f"| {_figure(row.ours, target)} | {peer} | {ratio} "
            f"| {sign}{row.at_least:g} | {sign}{row.aim:g} |"
        )
    return "\n".join(lines)


def _figure(value: float, target: Target) -> str:
    shown = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{shown} {target.unit}"


def write(rows: Sequence[Row], about: dict[str, object], docs: Path) -> None:
    """Write results, picture and table below ``docs``. Raises ValueError without the marks."""
    folder = docs / "performance"
    folder.mkdir(exist_ok=True)
    results = {"machine": about, "rows": [asdict(row) for row in rows]}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    bars = [picture.Bar.of(row, target_of(row)) for row in rows if row.ratio is not None]
    (folder / "ratios.svg").write_text(picture.draw(bars))
    page = docs / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} lacks the line {BEGIN if not begin else END}")
    block = f"{BEGIN}\n\n{_about(about)}\n\n{table(rows)}\n\n{END}"
    page.write_text(before + block + after)


def _about(about: dict[str, object]) -> str:
    versions = about["versions"]
    assert isinstance(versions, dict)
    with_versions = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    return (
        f"Measured on {about['date']}: {about['cpu']}, {about['cores']} cores, "
        f"{about['memory_gib']} GiB, Linux {about['kernel']}, Python {about['python']}; "
        f"{with_versions}."
    )


def main() -> None:
    """Write docs/performance."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--any-size", action="store_true", help="rows of small runs too")
    options = parser.parse_args()
    rows = load(OUT, any_size=options.any_size)
    if not rows:
        raise SystemExit(f"no results of full size in {OUT}; run `make bench` first")
    write(rows, machine(), ROOT / "docs")
    missing = set(TARGETS) - {row.name.removesuffix(f"_of_{size_name(row.size)}") for row in rows}
    print(table(rows))
    if missing:
        print(f"not measured: {', '.join(sorted(missing))}")


if __name__ == "__main__":
    main()
