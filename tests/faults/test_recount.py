"""The recount finds what it is there to find: what is missing, what is there twice, what waits."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.faults.recount import recount

_TABLES = """
CREATE TABLE outbox (id, recipient, subject, kind, state);
CREATE TABLE inbox (sender, id, subject, kind, reply);
CREATE TABLE referrals (id, direction);
CREATE TABLE referral_steps (referral, state, agency);
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """One referral from a to b, acknowledged by b: all as it should be."""
    for agency in "ab":
        home = tmp_path / "nodes" / agency
        home.mkdir(parents=True)
        _change(tmp_path, agency, _TABLES)
    _change(tmp_path, "a", "INSERT INTO outbox VALUES ('m1', 'b', 'r1', 'referral', 'delivered')")
    _change(tmp_path, "b", "INSERT INTO inbox VALUES ('a', 'm1', 'r1', 'referral', 1)")
    _change(tmp_path, "b", "INSERT INTO referrals VALUES ('r1', 'in')")
    for agency in "ab":
        _change(tmp_path, agency, "INSERT INTO referral_steps VALUES ('r1', 'acknowledged', 'b')")
    lines = [
        {"kind": "referral", "node": "a", "to": "b", "subject": "r1", "state": "referred"},
        {"kind": "step", "node": "b", "to": "a", "subject": "r1", "state": "acknowledged"},
    ]
    (tmp_path / "ledger.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def _change(run: Path, agency: str, sql: str) -> None:
    with sqlite3.connect(run / "nodes" / agency / "database.sqlite3") as database:
        database.executescript(sql)
    database.close()


def _counts(run: Path) -> Any:
    found = recount(run)
    return found["lost"], found["duplicated"], found["queued"]


def test_all_is_well(run: Path) -> None:
    assert recount(run)["messages"] == 2
    assert _counts(run) == (0, 0, 0)


@pytest.mark.parametrize(
    ("agency", "sql", "lost", "twice"),
    [
        ("b", "DELETE FROM referrals", 1, 0),
        ("b", "DELETE FROM inbox", 2, 0),
        ("b", "UPDATE inbox SET reply = 3", 2, 0),
        ("a", "DELETE FROM outbox", 1, 0),
        ("a", "DELETE FROM referral_steps", 1, 0),
        ("b", "DELETE FROM referral_steps", 1, 0),
        ("b", "INSERT INTO referrals VALUES ('r1', 'in')", 0, 1),
        ("b", "INSERT INTO inbox VALUES ('a', 'm1', 'r1', 'referral', 1)", 0, 2),
        ("a", "INSERT INTO referral_steps VALUES ('r1', 'acknowledged', 'b')", 0, 1),
    ],
)
def test_what_is_missing_or_twice_is_found(
    run: Path, agency: str, sql: str, lost: int, twice: int
) -> None:
    _change(run, agency, sql)
    assert _counts(run) == (lost, twice, 0)


def test_what_waits_is_found(run: Path) -> None:
    _change(run, "a", "UPDATE outbox SET state = 'queued'")
    assert _counts(run)[2] == 1
