"""SIGKILL at every call by which a sender or a receiver writes, along the path of one message.

strace attaches to a real `tieline node serve` and kills it as it enters its n-th call of one kind;
the kernel then does not carry that call out. strace counts per thread, so the path is cut into
phases in which one thread at a time talks to the disk, and each is swept on its own:

- ``command``: the operator refers a series; the recipient is away. Killed: the sender.
- ``delivery``: the recipient comes back, the message goes out and is settled. Killed: the sender.
- ``receive``: the message comes in, takes effect and is acknowledged. Killed: the receiver.

A counting run without a kill says how many calls there are; then every number of every kind has a
trial (or a sample of them). After each the killed node starts again by itself, all is let finish,
and the databases are read with nothing but sqlite3: what the operator was told is there must be
applied exactly once; what failed before the operator's eyes, once or not at all.

SIGKILL leaves what the kernel has accepted. What a power cut takes besides, only fsync decides, and
no test on a live kernel shows that; see docs/adr/0017-backup.md.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import random
import re
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.federation import (
    STOP_SECONDS,
    WAIT_SECONDS,
    WHY,
    Federation,
    Node,
    federation,
    wait_for,
)

CALLS = (
    *("write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync", "ftruncate"),
    *("rename", "unlink", "sendmsg", "sendto"),
)
SENDER, RECEIVER = "pt-pj", "es-gc"
ITEMS = 3
_CALL = re.compile(r"^(\d+)\s+(\w+)\(")


class StraceMissing(RuntimeError):
    """Debian's strace is not installed, or may not trace here."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where to kill: as a thread of a side enters its ``number``-th ``call`` of a phase."""

    phase: str
    call: str
    number: int

    @property
    def side(self) -> str:
        return RECEIVER if self.phase == "receive" else SENDER

    def __str__(self) -> str:
        side = "receiver" if self.phase == "receive" else "sender"
        return f"{side} {self.phase} {self.call} #{self.number}"


PHASES = ("command", "delivery", "receive")


def sweep(
    root: Path, *, seed: int = 0, most: int | None = None, phases: Sequence[str] = PHASES
) -> list[dict[str, Any]]:
    """Count, then kill at each point (at ``most`` of them per phase, sampled by ``seed``).

    ``root`` is a folder for the two nodes' homes; it stays for a recount. Returns a line for each
    kill that took place: ``{"fault": "sigkill", "at", "messages", "acknowledged", "lost",
    "duplicated"}``. Raises StraceMissing.
    """
    if shutil.which("strace") is None:
        raise StraceMissing("strace is missing (Debian: strace)")
    chance = random.Random(seed)
    told = []
    with federation(root, [(SENDER, "national", "PT"), (RECEIVER, "national", "ES")]) as nodes:
        pair = _Pair(nodes, root)
        for phase in phases:
            points = pair.count(phase)
            if most is not None and len(points) > most:
                points = sorted(chance.sample(points, most), key=points.index)
            for point in points:
                line = pair.trial(point)
                if line is not None:
                    told.append(line)
    return told


class _Pair:
    """A sender and a receiver, used for one trial after another."""

    def __init__(self, nodes: Federation, root: Path) -> None:
        self.nodes, self._root = nodes, root
        self._made = 0
        self._acknowledged: list[str] = []

    def count(self, phase: str) -> list[Point]:
        """Walk through a phase under strace without a kill; return every point it passes."""
        log = self._root / f"count-{phase}.strace"
        with self._phase(phase) as (node, go), traced(node, CALLS, (), log):
            go()
            assert not self._wait_killed(node)
        self._finish()
        per_thread: collections.Counter[tuple[str, str]] = collections.Counter()
        for row in log.read_text("utf-8", "replace").splitlines():
            found = _CALL.match(row)
            if found and found[2] in CALLS:
                per_thread[(found[1], found[2])] += 1
        highest: dict[str, int] = {}
        for (_thread, call), count in per_thread.items():
            highest[call] = max(highest.get(call, 0), count)
        return [
            Point(phase, call, number)
            for call in CALLS
            for number in range(1, highest.get(call, 0) + 1)
        ]

    def trial(self, point: Point) -> dict[str, Any] | None:
        """Kill at one point and let all finish; None when the phase ended before it was reached."""
        log = self._root / "trial.strace"
        what = ("-e", f"inject={point.call}:signal=SIGKILL:when={point.number}")
        before = len(self._acknowledged)
        with self._phase(point.phase) as (node, go), traced(node, (point.call,), what, log):
            go()
            killed = self._wait_killed(node)
        killed = killed or not node.running  # by what it did a moment after all was settled
        if killed:
            node.kill()  # it is dead; this takes note of it
        for one in self.nodes:
            if not one.running:
                one.start()
        self._finish()
        if not killed:
            return None
        lost, twice = judge(self.nodes, self._acknowledged)
        return {
            "fault": "sigkill",
            "at": str(point),
            "messages": 1,
            "acknowledged": len(self._acknowledged) - before,
            "lost": lost,
            "duplicated": twice,
        }

    @contextlib.contextmanager
    def _phase(self, phase: str) -> Iterator[tuple[Node, Any]]:
        """Bring both nodes to where a phase begins; give the node to trace, and what to do then."""
        sender, receiver = self.nodes[SENDER], self.nodes[RECEIVER]
        series = self._series(sender)
        if phase == "receive":
            yield receiver, lambda: self._refer(sender, series)
            return
        receiver.stop()
        if phase == "command":
            yield sender, lambda: self._refer(sender, series)
            return
        self._refer(sender, series)
        wait_for("the recipient was found away", lambda: _waits(sender))
        yield sender, receiver.start

    def _series(self, node: Node) -> str:
        self._made += 1
        name = f"Series {self._made}"
        file = self._root / "list.txt"
        lines = (hashlib.sha1(f"{name}/{n}".encode()).hexdigest() for n in range(ITEMS))
        file.write_text("".join(f"sha1:{one}\n" for one in lines))
        (series,) = node.import_file(file, "--series", name)["series"]
        said = ("--country", "ES", "--confidence", "high", "--grounds", "sockets")
        node.run("series", "assess", series, *said).ok()
        return str(series)

    def _refer(self, node: Node, series: str) -> None:
        """Command, and note what the operator was told is there."""
        done = node.run("series", "refer", series, *WHY)
        if done.code == 0:
            self._acknowledged += [str(one["id"]) for one in done.json["referrals"]]

    def _wait_killed(self, node: Node) -> bool:
        """Whether the kill came, or all was done without it."""
        sender = self.nodes[SENDER]
        deadline = time.monotonic() + WAIT_SECONDS
        while node.running:
            receiver_up = self.nodes[RECEIVER].running
            done = not _queued(sender) if receiver_up else _waits(sender)
            if done:
                time.sleep(0.2)  # the last acknowledgement may still be on its way out
                return not node.running
            assert time.monotonic() < deadline, "neither killed nor done"
            time.sleep(0.02)
        return True

    def _finish(self) -> None:
        """Let what is queued arrive and be settled."""
        sender, receiver = self.nodes[SENDER], self.nodes[RECEIVER]
        if not receiver.running:
            receiver.start()
        wait_for("all is delivered", lambda: not _queued(sender))


def _queued(node: Node) -> int:
    rows = node.rows("SELECT count(*) FROM outbox WHERE state NOT IN ('delivered', 'refused')")
    return int(rows[0][0])


def _waits(node: Node) -> bool:
    """Whether the first try to deliver has failed."""
    return bool(node.rows("SELECT 1 FROM destinations WHERE attempts > 0")) or not _queued(node)


@contextlib.contextmanager
def traced(
    node: Node, calls: Sequence[str], what: Sequence[str], log: Path
) -> Iterator[subprocess.Popen[str]]:
    """Hold all threads of a node under strace, new ones too, until the end."""
    assert node.process is not None
    words = ["strace", "-f", "-o", str(log), "-e", f"trace={','.join(calls)}", *what]
    tracer = subprocess.Popen(
        [*words, "-p", str(node.process.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    try:
        said = tracer.stderr.readline()  # comes once every thread is held
        if "attached" not in said:
            raise StraceMissing(f"strace may not trace here: {said.strip()}")
        yield tracer
    finally:
        tracer.terminate()
        tracer.wait(STOP_SECONDS)
        tracer.stderr.close()


# --- what came of it: nothing but sqlite3 from here on -----------------------------------------


def judge(nodes: Federation, acknowledged: Sequence[str]) -> tuple[int, int]:
    """Return how many acknowledged referrals are not applied, and how many of any were twice."""
    inbox = _read(nodes, RECEIVER, "SELECT subject FROM inbox WHERE kind = 'referral'")
    effects = _read(nodes, RECEIVER, "SELECT id FROM referrals WHERE direction = 'in'")
    logged = [
        (entry["subjects"][1],)
        for (leaf,) in _read(nodes, RECEIVER, "SELECT leaf FROM audit_leaves")
        if (entry := json.loads(leaf))["action"] == "referral.received"
    ]
    sent = _read(nodes, SENDER, "SELECT subject FROM outbox WHERE kind = 'referral'")
    settled = _read(
        nodes, SENDER, "SELECT subject FROM outbox WHERE kind = 'referral' AND state = 'delivered'"
    )
    held = [
        collections.Counter(row[0] for row in rows) for rows in (inbox, effects, logged, settled)
    ]
    lost = sum(any(count[one] < 1 for count in held) for one in acknowledged)
    every = {row[0] for row in (*inbox, *effects, *logged, *sent)}
    twice = sum(any(count[one] > 1 for count in held) for one in every)
    # The same referral under two ids would hide from that: each series was referred once.
    series = _read(nodes, RECEIVER, "SELECT series FROM referrals WHERE direction = 'in'")
    twice += len(series) - len(set(series))
    items = _read(
        nodes,
        RECEIVER,
        "SELECT r.series, count(i.no) FROM (SELECT DISTINCT series FROM referrals) r "
        "LEFT JOIN series_keys k ON k.id = r.series "
        "LEFT JOIN holdings h ON h.series_no = k.no "
        "LEFT JOIN imports i ON i.no = h.import_no AND i.generation IS NOT NULL "
        "GROUP BY r.series",
    )
    lost += sum(count < ITEMS for _, count in items)
    twice += sum(count > ITEMS for _, count in items)
    return lost, twice


def _read(nodes: Federation, agency: str, statement: str) -> list[tuple[Any, ...]]:
    path = nodes[agency].home / "database.sqlite3"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return database.execute(statement).fetchall()
