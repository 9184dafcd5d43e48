"""`make audit-deps`: bandit over the product and pip-audit over what is locked.

Bandit's findings are compared with those that are argued here; one that is new fails. (Ruff's S
rules say most of it in `make lint` already.) pip-audit needs the network and a vulnerability
service (PyPI's JSON API or osv.dev); where a package cannot be looked up that is a failure too,
since "no known vulnerabilities" of packages that nobody knows says nothing.

Run by a Python that has both tools (the Makefile makes one in build/audit).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("client/tieline_client", "server/tieline_server", "scripts")
LOCKED = ROOT / "requirements" / "dev.txt"
ARGUED: dict[str, str] = {
    "B101": "asserts narrow types for mypy and state what the lines before made true; nothing that "
    "comes from outside is checked by one",
    "B105": "names of an environment variable and of an action, and an empty default",
    "B311": "jitter of waits and the choice of a sample: predictable would do",
    "B404": "subprocess is used; each call is judged by B603",
    "B405": "ParseError alone is imported; parsing is defusedxml's",
    "B603": "no shell; a fixed program or the agency's own setting, and no text of others in it",
    "B607": "programs of the development tools, found by PATH",
    "B608": "statements are put together of constants and of column names that were compared with "
    "constants; values are bound",
}
PLACES: dict[str, frozenset[str]] = {
    "B105": frozenset({"keys.py", "operator_client.py", "policy.py"}),
    "B311": frozenset({"waits.py", "attaching.py", "postgres.py", "watching.py"}),
    "B404": frozenset({"alarm_clock.py", "warm.py", "copies_postgres.py"}),
    "B405": frozenset({"ncmec.py"}),
    "B603": frozenset({"alarm_clock.py", "warm.py", "copies_postgres.py"}),
    "B608": frozenset({"nsrl.py", "packed.py", "0003_delivery.py"}),
}
"""Where each is argued for; in `scripts` and for B101 anywhere."""


def unargued(findings: list[dict[str, object]]) -> list[str]:
    """Return the findings that nobody has argued."""
    left = []
    for one in findings:
        test, path = str(one["test_id"]), Path(str(one["filename"]))
        places = PLACES.get(test)
        known = test in ARGUED and (
            "scripts" in path.parts or places is None or path.name in places
        )
        if not known:
            left.append(f"{test} {path}:{one['line_number']} {one['issue_text']}")
    return left


def main() -> None:
    """Run both; exit 1 when either has something to say."""
    tool = [sys.executable, "-m"]
    folders = [str(ROOT / one) for one in CODE]
    ran = subprocess.run(
        [*tool, "bandit", "-q", "-r", "-f", "json", *folders],
        capture_output=True,
        text=True,
        check=False,
    )
    findings = json.loads(ran.stdout)["results"]
    left = unargued(findings)
    sys.stdout.write(f"bandit: {len(findings)} findings, {len(left)} of them not argued\n")
    sys.stdout.writelines(f"  {one}\n" for one in left)
    audited = subprocess.run(
        [*tool, "pip_audit", "--strict", "--disable-pip", "--no-deps", "-r", str(LOCKED)],
        check=False,
    )
    if audited.returncode:
        sys.stdout.write("pip-audit: not clean, or not everything could be looked up (see above)\n")
    sys.exit(bool(left) or audited.returncode != 0)


if __name__ == "__main__":
    main()
