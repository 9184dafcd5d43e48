"""Clocks wrong by more than the tolerance: refused in clear words, nothing lost for good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.federation import COMMAND_SECONDS, WHY, Federation, Node, federation, wait_for
from tests.faults.world import faked_time

SENDER, RECEIVER = "pt-pj", "es-gc"
AHEAD = "+3d"
"""Beyond the 25 hours of CLOCK_TOLERANCE, within a leaf's and a directory's life."""


@pytest.fixture
def trial(tmp_path: Path) -> Iterator[Federation]:
    members = [("europol-ec3", "hub"), (SENDER, "national", "PT"), (RECEIVER, "national", "ES")]
    with federation(tmp_path / "clock", members) as made:
        yield made


def _at(shift: str, node: Node, *words: object) -> Any:
    """Run a work command in a process whose clock is as wrong as its node's."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("tieline")),
            *(str(word) for word in words),
            *("--home", str(node.home), "--json"),
        ],
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        env=os.environ | faked_time(shift),
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _queued(node: Node) -> dict[str, str]:
    rows = node.rows("SELECT subject, state FROM outbox")
    return dict(rows)


def _why(node: Node, referral: str) -> str:
    """What the operator is told of a message that waits, and of its destination."""
    rows = node.rows("SELECT reason FROM outbox WHERE subject = ?", referral)
    rows += node.rows("SELECT last_error FROM destinations WHERE agency = ?", RECEIVER)
    return " ".join(row[0] for row in rows)


def _has(node: Node, referral: str) -> bool:
    return bool(node.rows("SELECT 1 FROM referrals WHERE id = ?", referral))


def test_a_node_three_days_ahead_is_refused_and_its_queue_goes_on_when_its_clock_is_right(
    trial: Federation,
) -> None:
    sender, receiver = trial[SENDER], trial[RECEIVER]
    series = [
        sender.run("series", "create", f"Series {number}", "--case", "C-1").ok().json["id"]
        for number in range(2)
    ]
    sender.stop()
    sender.start(**faked_time(AHEAD))
    (early,) = _at(AHEAD, sender, "series", "refer", series[0], "--agency", RECEIVER, *WHY)[
        "referrals"
    ]
    wait_for("the sender learns that it is not let in", lambda: _why(sender, early["id"]))
    assert not _has(receiver, early["id"])
    sender.stop()

    sender.start()
    (later,) = (
        sender.run("series", "refer", series[1], "--agency", RECEIVER, *WHY).ok().json["referrals"]
    )
    wait_for("what is dated now arrives", lambda: _has(receiver, later["id"]))
    assert _queued(sender)[early["id"]] == "queued", "it is dated in the future, and waits"
    assert not _has(receiver, early["id"])

    for node in (sender, receiver):
        node.stop()
        node.start(**faked_time(AHEAD))
    wait_for("its time has come", lambda: _has(receiver, early["id"]))
    wait_for("both are delivered", lambda: set(_queued(sender).values()) == {"delivered"})
    assert len(receiver.rows("SELECT id FROM referrals")) == 2
