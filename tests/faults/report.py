"""``build/faults/report.json``: what all parts of `make test-faults` did, added up.

Each part leaves its own document in ``build/faults/parts``; the sums are made anew each time.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from tests.faults.world import BUILD

COUNTED = ("faults", "messages", "lost", "duplicated", "refused")


def add(name: str, part: dict[str, Any]) -> dict[str, Any]:
    """Keep one part's document (COUNTED and ``kinds``) and return the sums as they are now."""
    folder = BUILD / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(part, indent=2) + "\n")
    parts = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    kinds: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    for one in parts.values():
        kinds.update(one["kinds"])
        refusals.update(one.get("refusals", {}))
    sums: dict[str, Any] = {key: sum(one[key] for one in parts.values()) for key in COUNTED}
    sums |= {
        "kinds": dict(sorted(kinds.items())),
        "refusals": dict(sorted(refusals.items())),
        "parts": {
            part_name: {key: one[key] for key in COUNTED} for part_name, one in parts.items()
        },
    }
    (BUILD / "report.json").write_text(json.dumps(sums, indent=2) + "\n")
    return sums
