"""Real nodes for rows that need them: processes over mutual TLS on loopback, with synthetic items.

The hub asks, national nodes hold. A federation's folder can be kept and started again, so that
millions of items are imported once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.formats import FileFormat
from tieline_client.importing import ImportOptions
from tieline_client.operator_client import OperatorClient
from tieline_server.matching.warm import warm
from tieline_server.policy.loading import default_folder

from benchmarks import data
from benchmarks.rows import ROOT, size_name
from tests.e2e.federation import PURPOSE, Federation, Node, wait_for

HUB, HOLDERS = "europol-ec3", ("pt-pj", "fr-pn", "de-bka")
COUNTRIES = {"pt-pj": "PT", "fr-pn": "FR", "de-bka": "DE"}
CASE = "BENCH-1"
_BUDGETS = "TIELINE_NODE_BUDGETS", '{"default": 1000000000}'
"""What is measured is asked more often than a peer may in a day."""
_POLICIES = "TIELINE_NODE_POLICIES"
_TRIAGE = """@id("hub-triage") @source("a decision of the agency, docs/adr/0037-the-hub-waits.md")
@why("the hub learns references at once for its triage")
permit (principal, action in [Action::"learn-count", Action::"learn-reference"], resource)
when { principal.role == "hub" && context.handling == 0 };
"""
"""Answers are measured with the references that an agency may give a hub by a rule of its own."""
IN_SERIES = 25
"""Every so many-th item is in a series."""
SERIES = 200
FRESH_SECONDS = 5 * 86_400
"""A kept federation whose certificates may be older is made anew."""
_NOTED, _FILLED = "kept.json", "filled"
"""What a kept federation is, and that its holder has all items and its index is one."""
AT_ONCE = 4
"""Nodes that start together."""
INDEXED_SECONDS = 1_200.0
REST_LOOK_SECONDS, RESTED_SECONDS = 2.0, 300.0
REST_CORES = 0.35
"""A node at rest uses some 5 ms a second."""
LOOKED_CORES, LOOKED_SECONDS = 0.08, 1_200.0
"""Two nodes use less once they have looked a large database through, as after each start."""
SETTLED_SECONDS = 3.0
"""An index in one part whose files stay the same for so long is put together. A node does that once
it has been left alone for half a minute."""


def rest(made: Federation, cores: float = REST_CORES, seconds: float = RESTED_SECONDS) -> None:
    """Wait until all nodes together use less than ``cores`` for REST_LOOK_SECONDS: what they tell
    one another after a start is over. A machine on which they use more at rest is measured all the
    same, after ``seconds``."""

    def calm() -> bool:
        before = _cpu_seconds(made)
        time.sleep(REST_LOOK_SECONDS)
        return (_cpu_seconds(made) - before) / REST_LOOK_SECONDS < cores

    try:
        wait_for("the nodes are at rest", calm, seconds)
    except AssertionError as error:
        print(f"{error}; what is measured now shares the machine with them")


def _cpu_seconds(made: Federation) -> float:
    return sum(cpu_seconds(node) for node in made if node.process is not None)


def cpu_seconds(node: Node) -> float:
    """Return the processor time that a node has taken so far."""
    assert node.process is not None
    stat = Path(f"/proc/{node.process.pid}/stat").read_text(encoding="ascii")
    user, system = stat.rpartition(")")[2].split()[11:13]  # proc(5): utime, stime
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def federation(root: Path, holders: Sequence[str], *, group: str = "") -> Iterator[Federation]:
    """Make a federation of the hub and these holders in ``root``, or go on with the kept one.

    ``group`` is the name of one that holds them all.
    """
    warm(ROOT / "build" / "kernels")
    made = Federation(root)
    noted = root / _NOTED
    if _is_kept(root):
        for agency, ports in json.loads(noted.read_text())["ports"].items():
            made.nodes[agency] = Node(root / agency, agency, *ports)
    else:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        made.found()
        made.init(HUB, "hub")
        for agency in holders:
            made.init(agency, "national", COUNTRIES.get(agency, "PT"))
        if group:
            made.change("group", group, *holders)
        for node in made:
            made.join(node)
        ports = {node.agency: [_port(node.address), _port(node.operator_address)] for node in made}
        told = {"ports": ports, "schema": _schema(), "made": time.time()}
        noted.write_text(json.dumps(told))
    agencies = [node.agency for node in made]
    os.environ.setdefault(*_BUDGETS)
    rules = root / "policies"
    shutil.rmtree(rules, ignore_errors=True)
    shutil.copytree(default_folder(), rules)
    (rules / "70-agency.cedar").write_text(_TRIAGE, encoding="utf-8")
    os.environ[_POLICIES] = str(rules)
    try:
        for start in range(0, len(agencies), AT_ONCE):
            made.start(*agencies[start : start + AT_ONCE])
        yield made
    finally:
        made.close()
        del os.environ[_POLICIES]


def _is_kept(root: Path) -> bool:
    """Whether there is a federation in ``root`` that can be gone on with."""
    noted = root / _NOTED
    if not noted.exists():
        return False
    kept = json.loads(noted.read_text())
    fresh = time.time() - kept["made"] < FRESH_SECONDS
    return bool(kept["schema"] == _schema() and fresh)


def _schema() -> str:
    """Return a digest of the database's first tables; a kept node comes forward from there."""
    folder = ROOT / "server" / "tieline_server" / "storage" / "migrations" / "versions"
    return hashlib.sha256((folder / "0001_first_tables.py").read_bytes()).hexdigest()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


@contextmanager
def holding(root: Path, size: int, *, as_is: bool = False) -> Iterator[Federation]:
    """Start the kept federation of the hub and one holder of ``size`` items (`csv_of`)."""
    holder = HOLDERS[0]
    kept = root / f"nodes-{size_name(size)}"
    with federation(kept, [holder]) as made:
        with made[holder].client() as client:
            if client.get_stats().items != size:
                fill(client, csv_of(root, size))
            # A row asks more in a minute than a peer may in a day.
            client.set_budget(HUB, limits.POLICY_NUMBER_MOST)
        settle(made[holder], as_is=as_is)
        (kept / _FILLED).touch()
        yield made


@contextmanager
def copied(root: Path, size: int, *, as_is: bool = False) -> Iterator[Federation]:
    """Start a copy of what `holding` starts, which may be changed and is removed at the end."""
    kept = root / f"nodes-{size_name(size)}"
    if not (kept / _FILLED).exists() or not _is_kept(kept):
        with holding(root, size, as_is=as_is):
            pass
    copy = kept.with_name(f"{kept.name}-copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(kept, copy)
    try:
        with federation(copy, HOLDERS[:1]) as made:
            settle(made[HOLDERS[0]], as_is=as_is)
            yield made
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def fill(client: OperatorClient, path: Path) -> float:
    """Import a file and wait until the index has it; return the seconds it took."""
    began = time.perf_counter()
    report = client.import_file(path, FileFormat.CSV, ImportOptions(case_ref=CASE))
    imported = time.perf_counter() - began
    if report.rejected_count:
        raise SystemExit(f"{report.rejected_count} records rejected: {report.rejected[:3]}")
    wait_indexed(client)
    took = time.perf_counter() - began
    print(f"{path.name}: imported in {imported:.1f} s, indexed after {took:.1f} s", flush=True)
    return took


def wait_indexed(client: OperatorClient) -> None:
    """Wait until the index has what storage has: a node that starts answers before that."""

    wait_for("the index has what storage has", lambda: _indexed(client), INDEXED_SECONDS)


def _indexed(client: OperatorClient) -> bool:
    stats = client.get_stats()
    return stats.index_generation >= stats.generation > 0


def settle(node: Node, *, as_is: bool = False) -> None:
    """Wait until the index has everything and, unless it may stay ``as_is``, what grew in parts is
    one and nothing is written."""
    with node.client() as client:
        wait_indexed(client)
    if as_is:
        return
    seen: list[str] = []
    since = time.monotonic()

    def settled() -> bool:
        nonlocal seen, since
        files = sorted(path.name for path in (node.home / "indexes").iterdir())
        if files != seen:
            seen, since = files, time.monotonic()
        parts = Counter(name.split("-")[0] for name in files if name.endswith(".rows"))
        return all(one == 1 for one in parts.values()) and (
            time.monotonic() - since > SETTLED_SECONDS
        )

    wait_for("the index is put together", settled, INDEXED_SECONDS)


def csv_of(root: Path, size: int) -> Path:
    """Return a CSV of ``size`` items, made when it is not there."""
    path = root / f"items-{size_name(size)}.csv"
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        write_csv(path.with_suffix(".part"), 0, size).rename(path)
    return path


def write_csv(path: Path, first: int, count: int) -> Path:
    """Write a CSV of items ``first`` and on; return its path."""
    with path.open("wb") as stream:
        stream.write(b"sha1,md5,series\n")
        for start in range(first, first + count, data.PIECE):
            stream.write(_lines(start, min(data.PIECE, first + count - start)))
    return path


def series_of(items: data.I64) -> data.I64:
    """Return the number of each item's series, -1 for none."""
    return np.where(items % IN_SERIES == 0, items // IN_SERIES % SERIES, -1)


def series_name(number: int) -> str:
    """Return what a series is called in the file, "" for none."""
    return f"S{number:04d}" if number >= 0 else ""


def _lines(start: int, count: int) -> bytes:
    """Return lines of SHA-1, MD5 and series; absent characters are zeros, and dropped."""
    sha1, md5 = (
        _hex(data.digests(kind, count, start)) for kind in (DigestKind.SHA1, DigestKind.MD5)
    )
    numbers = series_of(np.arange(start, start + count, dtype=np.int64))
    digits = (numbers[:, None] // 10 ** np.arange(3, -1, -1)) % 10 + ord("0")
    named = np.column_stack([np.full(count, ord("S")), digits]).astype(np.uint8)
    named[numbers < 0] = 0
    comma, line = (np.full((count, 1), ord(sign), dtype=np.uint8) for sign in ",\n")
    text = np.hstack([sha1, comma, md5, comma, named, line])
    lines: bytes = text[text != 0].tobytes()
    return lines


def _hex(rows: data.U8) -> data.U8:
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)
    out = np.empty((len(rows), rows.shape[1] * 2), dtype=np.uint8)
    out[:, ::2], out[:, 1::2] = digits[rows >> 4], digits[rows & 15]
    return out


__all__ = ["CASE", "HOLDERS", "HUB", "PURPOSE", "Federation", "Node", "federation", "holding"]
