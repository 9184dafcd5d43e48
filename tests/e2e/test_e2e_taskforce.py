"""The replay of the taskforce, small: real nodes, and figures that follow their databases."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.federation import Federation, Node

ROOT = Path(__file__).parents[2]
FIELDS = (
    *("agencies", "series", "localised", "delivered", "told_outside", "acknowledged", "uploaded"),
    *("identified", "tentative", "tips", "median_seconds_localised_to_delivered"),
)
SECONDS = 1_100


@pytest.mark.slow
def test_the_small_replay_and_that_its_figures_are_read_from_the_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = subprocess.run(
        [sys.executable, ROOT / "scripts" / "taskforce", "--small", "--build", tmp_path / "build"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        env=os.environ | {"TERM": "dumb"},
    )
    assert played.returncode == 0, f"{played.stdout}\n{played.stderr}"
    told = json.loads((tmp_path / "build" / "report.json").read_text())
    assert tuple(told) == FIELDS
    median = told.pop("median_seconds_localised_to_delivered")
    assert 0 < median < 10
    assert told == {
        **{"agencies": 4, "series": 12, "localised": 5, "delivered": 3, "told_outside": 2},
        **{"acknowledged": 3, "uploaded": 12, "identified": 1, "tentative": 1, "tips": 120},
    }
    assert "told at once" in played.stdout and "read back" in played.stdout
    page = (tmp_path / "build" / "operation.html").read_text()
    assert page.count("<svg") == 3 and "120 tips of the public" in page

    # The same query over databases in which one thing is not so: only its figure follows.
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    from taskforce import figures

    nodes = Federation(tmp_path / "build" / "nodes")
    for home in sorted(nodes.root.iterdir()):
        if (home / "config.toml").exists():
            nodes.nodes[home.name] = Node(home, home.name, 1, 1)
    assert figures.report(nodes) == told | {"median_seconds_localised_to_delivered": median}
    for figure, change in _CHANGES.items():
        database = nodes[change[0]].home / "database.sqlite3"
        before = database.read_bytes()
        with closing(sqlite3.connect(database)) as opened:
            opened.execute(change[1])
            opened.commit()
        now = figures.report(nodes)
        fallen = {name for name in told if now[name] != told[name]}
        assert fallen == {figure} and now[figure] == told[figure] - 1, (figure, now)
        database.write_bytes(before)


_ONE_STEP = "SELECT id FROM referral_steps WHERE state = '{}' LIMIT 1"
_OF_ONE = "(SELECT series FROM referrals WHERE direction = 'in' AND country = 'PT' LIMIT 1)"
_CHANGES: dict[str, tuple[str, str]] = {
    "told_outside": (
        "europol-ec3",
        f"DELETE FROM referral_steps WHERE id = ({_ONE_STEP.format('told_outside')})",
    ),
    "uploaded": (
        "interpol",
        "UPDATE uploads SET state = 'announced' WHERE id = (SELECT id FROM uploads LIMIT 1)",
    ),
    "tips": ("europol-ec3", "DELETE FROM tips WHERE id = (SELECT id FROM tips LIMIT 1)"),
    "acknowledged": (
        "pt-pj",
        "DELETE FROM referral_steps WHERE state = 'acknowledged' AND referral IN "
        f"(SELECT id FROM referrals WHERE series = {_OF_ONE})",
    ),
}
"""By figure: whose database, and what is changed there."""
