"""`make audit-deps`: bandit over the product and pip-audit over what is locked.

Bandit's findings are compared with those that are argued here; one that is new fails. (Ruff's S
rules say most of it in `make lint` already.) pip-audit needs the network and an advisory service
(PyPI's JSON API or osv.dev), and says "no known vulnerabilities" also where it got an answer on
nothing. So a control comes first: a release whose advisories are years old. Where the service does
not know of those, or where a locked package cannot be looked up, that is said, and it is a failure:
nothing was found because nothing was asked. `--osv-url` asks a mirror of osv.dev instead.
`--offline` leaves that half out, says so, and exits by bandit alone.

Run by a Python that has both tools (the Makefile makes one in build/audit).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CODE = ("client/tieline_client", "server/tieline_server", "scripts")
LOCKED = ROOT / "requirements" / "dev.txt"
ARGUED: dict[str, str] = {
    "B101": "asserts narrow types for mypy and state what the lines before made true; nothing that "
    "comes from outside is checked by one",
    "B104": "the doctor puts the loopback address in the place of the unspecified one, to call "
    "itself",
    "B105": "names of an environment variable, of a credential, of actions and of a kind of "
    "request, and an empty default",
    "B107": "the empty default of an option that names a file",
    "B311": "jitter of waits and the choice of a sample: predictable would do",
    "B404": "subprocess is used; each call is judged by B603",
    "B405": "ParseError alone is imported; parsing is defusedxml's",
    "B603": "no shell; a fixed program or the agency's own setting, and no text of others in it",
    "B607": "programs of the development tools, found by PATH",
    "B608": "statements are put together of constants and of column names that were compared with "
    "constants; values are bound",
}
PLACES: dict[str, frozenset[str]] = {
    "B104": frozenset({"doctor.py"}),
    "B105": frozenset(
        {
            "database_url.py",
            "keys.py",
            "operator_client.py",
            "operator_clues.py",
            "policy.py",
            "request.py",
        }
    ),
    "B107": frozenset({"node_cli.py"}),
    "B311": frozenset(
        {"waits.py", "attaching.py", "postgres.py", "watching.py", "directory_refresh.py"}
    ),
    "B404": frozenset({"alarm_clock.py", "warm.py", "copies_postgres.py"}),
    "B405": frozenset({"ncmec.py"}),
    "B603": frozenset({"alarm_clock.py", "warm.py", "copies_postgres.py"}),
    "B608": frozenset({"nsrl.py", "packed.py", "0003_delivery.py", "scrubbing_postgres.py"}),
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


CONTROL = "jinja2==2.4.1"
"""Of 2010, with advisories since 2014 (among them CVE-2014-0012, CVE-2019-10906)."""
NOT_LOOKED_FOR = "known vulnerabilities of dependencies were NOT looked for"
_SECONDS = 900


@dataclass(frozen=True, slots=True)
class Advisories:
    """What pip-audit said of some packages. ``failure`` is why it said nothing at all."""

    known: int = 0
    vulnerable: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    failure: str = ""


def read_report(text: str, said: str) -> Advisories:
    """Read pip-audit's JSON; ``said`` is its stderr, whose last line stands in for a report."""
    try:
        listed = json.loads(text)["dependencies"]
    except (ValueError, KeyError, TypeError):
        words = [line.strip() for line in said.splitlines() if line.strip()]
        return Advisories(failure=words[-1][:300] if words else "it said nothing")
    asked = [one for one in listed if "skip_reason" not in one]
    return Advisories(
        known=len(asked),
        vulnerable=tuple(
            f"{one['name']} {one['version']}: {', '.join(found['id'] for found in one['vulns'])}"
            for one in asked
            if one["vulns"]
        ),
        unknown=tuple(str(one["name"]) for one in listed if "skip_reason" in one),
    )


def judge(control: Advisories, locked: Advisories | None) -> tuple[bool, list[str]]:
    """Return whether it is clean, and what to print. ``locked`` is None if it was not asked."""
    if not control.vulnerable or locked is None:
        why = control.failure or f"it has no advisory on {CONTROL}, which has several"
        return False, [
            f"pip-audit: no advisories could be fetched: {why}",
            f"pip-audit: {NOT_LOOKED_FOR}; run it where pypi.org or api.osv.dev can be reached,"
            " or give --offline to leave it out",
        ]
    if locked.failure:
        return False, [f"pip-audit: failed: {locked.failure}", f"pip-audit: {NOT_LOOKED_FOR}"]
    lines = [
        f"pip-audit: {locked.known} locked packages looked up,"
        f" {len(locked.vulnerable)} with known vulnerabilities"
    ]
    lines += [f"  {one}" for one in locked.vulnerable]
    if locked.unknown:
        lines.append(
            f"pip-audit: {len(locked.unknown)} could not be looked up, so nothing is known of"
            f" them: {', '.join(locked.unknown)}"
        )
    if not locked.known:
        lines.append(f"pip-audit: {NOT_LOOKED_FOR}")
    return not (locked.vulnerable or locked.unknown) and locked.known > 0, lines


def bandit(tool: list[str]) -> tuple[bool, list[str]]:
    """Run bandit; return whether all its findings are argued, and what to print."""
    ran = subprocess.run(
        [*tool, "bandit", "-q", "-r", "-f", "json", *(str(ROOT / one) for one in CODE)],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        findings = json.loads(ran.stdout)["results"]
    except (ValueError, KeyError):
        words = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return False, [f"bandit: did not run: {words[:300]}; `make audit-deps` installs it"]
    left = unargued(findings)
    said = [f"bandit: {len(findings)} findings, {len(left)} of them not argued"]
    return not left, [*said, *(f"  {one}" for one in left)]


def ask(tool: list[str], requirements: Path, osv_url: str = "") -> Advisories:
    """Have pip-audit look up what a file pins, at PyPI or at a mirror of osv.dev."""
    words = ["pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
    words += ["--vulnerability-service", "osv", "--osv-url", osv_url] if osv_url else []
    ran = subprocess.run(
        [*tool, *words, "-f", "json", "-r", str(requirements)],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    return read_report(ran.stdout, ran.stderr)


def main() -> None:
    """Run both; exit 1 when either has something to say, or could not say anything."""
    parser = argparse.ArgumentParser(description="bandit, and pip-audit over requirements/dev.txt")
    parser.add_argument(
        "--offline", action="store_true", help="bandit alone; vulnerabilities are not looked for"
    )
    parser.add_argument(
        "--osv-url", default="", help="a mirror that speaks osv.dev's interface, in PyPI's place"
    )
    options = parser.parse_args()
    tool = [sys.executable, "-m"]
    clean, lines = bandit(tool)
    if options.offline:
        lines.append(f"pip-audit: not run (--offline): {NOT_LOOKED_FOR}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "control.txt"
            file.write_text(f"{CONTROL}\n")
            control = ask(tool, file, options.osv_url)
        # Of what cannot be known nothing is asked; it takes minutes to fail for each package.
        known = bool(control.vulnerable)
        locked = ask(tool, LOCKED, options.osv_url) if known else None
        audited, said = judge(control, locked)
        clean, lines = clean and audited, lines + said
    sys.stdout.writelines(f"{one}\n" for one in lines)
    sys.exit(not clean)


if __name__ == "__main__":
    main()
