"""SIGKILL at the calls by which sender and receiver write (threats.md 1 and 2)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.faults import report
from tests.faults.strace_kill import PHASES, sweep
from tests.faults.world import BUILD

FULL = 150
"""Points of one phase beyond which the whole campaign takes a sample."""


def _nothing_lost(told: Sequence[dict[str, object]]) -> None:
    assert [one for one in told if one["lost"] or one["duplicated"]] == []


@pytest.fixture(autouse=True)
def _strace() -> None:
    assert shutil.which("strace"), "strace is not installed; Debian has it"


def test_a_few_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    told = sweep(tmp_path, seed=20261123, most=2)
    assert len(told) >= len(PHASES)
    _nothing_lost(told)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("phase", PHASES)
def test_a_kill_at_every_call_loses_nothing_and_repeats_nothing(phase: str) -> None:
    root = BUILD / f"strace-{phase}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    told = sweep(root, most=FULL, phases=(phase,))
    (root / "kills.json").write_text(json.dumps(told, indent=2) + "\n")
    part: dict[str, object] = {
        key: sum(int(str(one[key])) for one in told) for key in ("messages", "lost", "duplicated")
    }
    kind = f"sigkill at a call ({phase})"
    report.add(
        f"strace-{phase}", part | {"faults": len(told), "refused": 0, "kinds": {kind: len(told)}}
    )
    assert len(told) >= 10
    _nothing_lost(told)
