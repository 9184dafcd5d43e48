"""`make audit-deps` calls nothing clean that it could not look up. Reports are as pip-audit 2.10
writes them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from audit_dependencies import CONTROL, NOT_LOOKED_FOR, Advisories, judge, read_report, unargued

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "audit_dependencies.py"
KNOWS = Advisories(known=1, vulnerable=("jinja2 2.4.1: PYSEC-2014-8",))


def _report(*dependencies: dict[str, Any]) -> Advisories:
    return read_report(json.dumps({"dependencies": list(dependencies), "fixes": []}), "")


def _package(name: str, *ids: str) -> dict[str, Any]:
    vulns = [{"id": one, "fix_versions": [], "aliases": [], "description": ""} for one in ids]
    return {"name": name, "version": "1.0", "vulns": vulns}


def _skipped(name: str) -> dict[str, Any]:
    reason = f"Dependency not found on PyPI and could not be audited: {name} (1.0)"
    return {"name": name, "skip_reason": reason}


def test_clean_is_what_was_looked_up_and_has_nothing() -> None:
    clean, lines = judge(KNOWS, _report(_package("a"), _package("b")))
    assert clean
    assert lines == ["pip-audit: 2 locked packages looked up, 0 with known vulnerabilities"]


@pytest.mark.parametrize(
    "control",
    [
        _report(_skipped("jinja2")),
        _report(_package("jinja2")),
        _report(),
        read_report("", "Traceback\nConnectionError: failed to resolve 'api.osv.dev'\n"),
        read_report("", ""),
        read_report('{"other": 1}', "odd"),
        read_report("[]", ""),
    ],
)
def test_a_service_that_knows_nothing_is_said_and_fails(control: Advisories) -> None:
    for locked in (None, _report(_package("a"))):
        clean, lines = judge(control, locked)
        assert not clean
        assert lines[0].startswith("pip-audit: no advisories could be fetched: ")
        assert (control.failure or CONTROL) in lines[0]
        assert NOT_LOOKED_FOR in lines[1]
        assert "--offline" in lines[1]
        assert not any("0 with known" in line for line in lines)


def test_what_is_vulnerable_or_unknown_is_named_and_fails() -> None:
    clean, lines = judge(KNOWS, _report(_package("a"), _package("b", "PYSEC-1", "GHSA-2")))
    assert not clean
    assert "  b 1.0: PYSEC-1, GHSA-2" in lines
    clean, lines = judge(KNOWS, _report(_package("a"), _skipped("c"), _skipped("d")))
    assert not clean
    assert lines[-1].endswith("2 could not be looked up, so nothing is known of them: c, d")
    clean, lines = judge(KNOWS, _report(_skipped("c")))
    assert (clean, lines[-1]) == (False, f"pip-audit: {NOT_LOOKED_FOR}")
    clean, lines = judge(KNOWS, read_report("", "timed out"))
    assert not clean
    assert "timed out" in lines[0]
    assert not judge(KNOWS, _report())[0]


def test_bandits_findings_are_argued_by_test_and_place() -> None:
    def finding(test: str, path: str) -> dict[str, object]:
        return {"test_id": test, "filename": path, "line_number": 3, "issue_text": "words"}

    assert unargued([finding("B101", "client/anything.py")]) == []
    assert unargued([finding("B311", "server/waits.py"), finding("B311", "scripts/x.py")]) == []
    left = unargued([finding("B311", "server/keys.py"), finding("B602", "scripts/x.py")])
    assert left == ["B311 server/keys.py:3 words", "B602 scripts/x.py:3 words"]


def test_a_python_without_the_tools_says_so_in_words() -> None:
    """This one has neither, nor is the network asked."""
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPT), "--offline"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == ""
    bandit, advisories = done.stdout.splitlines()
    assert bandit.startswith("bandit: did not run: ")
    assert advisories == f"pip-audit: not run (--offline): {NOT_LOOKED_FOR}"
    done = subprocess.run(
        [sys.executable, "-S", str(SCRIPT)],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no advisories could be fetched: " in done.stdout
    assert NOT_LOOKED_FOR in done.stdout
