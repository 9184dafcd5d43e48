"""Count from outside: which acknowledged messages were applied how often.

    python tests/faults/recount.py build/faults/RUN

Shares no code with the node and imports nothing but the standard library. It reads ``ledger.jsonl``
(a line for each command that a node acknowledged to its operator) and the databases of all nodes,
``nodes/AGENCY/database.sqlite3``, and prints one JSON document:

- ``messages``: acknowledged commands that send a message,
- ``lost``: those without exactly one row at the sender, or without an applied row or an effect at
  the recipient,
- ``duplicated``: message ids or effects that are there more than once,
- ``queued``: messages that are still under way (a run that ended well has none),
- ``faults_found``: each of them in words.

A line of the ledger: {"at","node","kind":"referral|step|broadcast|broadcast_answer|upload",
"subject","to","state"}.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

APPLIED, REFUSED = 1, 3
RECIPIENTS_EFFECT = {
    "referral": "SELECT count(*) FROM referrals WHERE id = ? AND direction = 'in'",
    "broadcast": "SELECT count(*) FROM broadcasts WHERE id = ? AND direction = 'in'",
    "upload": "SELECT count(*) FROM uploads WHERE id = ? AND direction = 'in'",
}


class Databases:
    """All nodes' databases, read only."""

    def __init__(self, run: Path) -> None:
        self._open = {
            path.parent.name: sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            for path in sorted((run / "nodes").glob("*/database.sqlite3"))
        }

    def __iter__(self) -> Any:
        return iter(self._open)

    def rows(self, agency: str, sql: str, *values: object) -> list[Any]:
        """Return what a statement finds in one node's database."""
        return self._open[agency].execute(sql, values).fetchall()


def recount(run: Path) -> dict[str, Any]:
    """Return the counts of a run."""
    databases = Databases(run)
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    lost: list[str] = []
    twice: list[str] = []
    for line in lines:
        _one(databases, line, lost, twice)
    queued = 0
    for agency in databases:
        waiting = databases.rows(
            agency, "SELECT count(*) FROM outbox WHERE state NOT IN ('delivered', 'refused')"
        )
        queued += waiting[0][0]
        _pairs(databases, agency, lost, twice)
    kinds = Counter(line["kind"] for line in lines)
    return {
        "messages": len(lines),
        "kinds": dict(sorted(kinds.items())),
        "lost": len(lost),
        "duplicated": len(twice),
        "queued": queued,
        "faults_found": sorted(set(lost + twice))[:100],
    }


def _one(databases: Databases, line: dict[str, Any], lost: list[str], twice: list[str]) -> None:
    """Hold one acknowledged command against both ends."""
    kind, subject, sender, to = line["kind"], line["subject"], line["node"], line["to"]
    words = f"{kind} {subject} {line.get('state', '')} from {sender} to {to}"
    if kind == "step":
        here = "SELECT count(*) FROM referral_steps WHERE referral = ? AND state = ? AND agency = ?"
        for agency in (sender, to):
            found = databases.rows(agency, here, subject, line["state"], sender)[0][0]
            _count(found, f"{words}: at {agency}", lost, twice)
        return
    if kind in RECIPIENTS_EFFECT:
        found = databases.rows(to, RECIPIENTS_EFFECT[kind], subject)[0][0]
        _count(found, f"{words}: effect", lost, twice)
        out = databases.rows(
            sender,
            "SELECT count(*) FROM outbox WHERE subject = ? AND recipient = ? AND kind = ?",
            *(subject, to, kind),
        )[0][0]
        _count(out, f"{words}: in the outbox", lost, twice)
        applied = databases.rows(
            to,
            "SELECT count(*) FROM inbox WHERE subject = ? AND sender = ? AND kind = ?"
            " AND reply = ?",
            *(subject, sender, kind, APPLIED),
        )[0][0]
        _count(applied, f"{words}: in the inbox", lost, twice)
        return
    raise SystemExit(f"the ledger names an unknown kind: {kind}")


def _count(found: int, words: str, lost: list[str], twice: list[str]) -> None:
    if found == 0:
        lost.append(f"lost: {words}")
    elif found > 1:
        twice.append(f"{found} times: {words}")


def _pairs(databases: Databases, sender: str, lost: list[str], twice: list[str]) -> None:
    """Hold every outbox row, acknowledged to a person or not, against its recipient's inbox."""
    for number, recipient, state, kind in databases.rows(
        sender, "SELECT id, recipient, state, kind FROM outbox"
    ):
        replies = [
            row[0]
            for row in databases.rows(
                recipient, "SELECT reply FROM inbox WHERE sender = ? AND id = ?", sender, number
            )
        ]
        wanted = {"delivered": [APPLIED], "refused": [REFUSED]}.get(state)
        words = f"{kind} {number} from {sender} to {recipient}, {state}: replies {replies}"
        if len(replies) > 1:
            twice.append(f"more than once: {words}")
        elif wanted == [APPLIED] and replies != wanted:
            lost.append(f"settled but not applied: {words}")


def main() -> None:
    """Run."""
    counts = recount(Path(sys.argv[1]))
    print(json.dumps(counts, indent=2))
    sys.exit(1 if counts["lost"] or counts["duplicated"] or counts["queued"] else 0)


if __name__ == "__main__":
    main()
