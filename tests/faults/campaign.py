"""A seeded campaign: faults befall five nodes while operators command them, then all is recounted.

    python -m tests.faults.campaign --seed 7 --faults 60 --messages 2000

Everything stays below ``build/faults/campaign``: the databases, and ``ledger.jsonl`` with a line
for each command that a node acknowledged. ``tests/faults/recount.py`` counts from these alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.federation import WAIT_SECONDS, wait_for
from tests.faults.kinds import KINDS, QUIET
from tests.faults.proxy import Mode
from tests.faults.traffic import Traffic
from tests.faults.world import World, faked_time, world

_BETWEEN = 12
"""Messages acknowledged between two faults, at least."""
_INTERLUDE = 15


@dataclass(slots=True)
class Report:
    """What a campaign did."""

    seed: int
    befell: Counter[str] = field(default_factory=Counter)
    words: list[str] = field(default_factory=list)
    messages: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    counts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return it as JSON would have it."""
        return {
            "faults": self.befell.total(),
            "messages": self.messages,
            "lost": self.counts["lost"],
            "duplicated": self.counts["duplicated"],
            "refused": self.refused.total(),
            "kinds": dict(sorted(self.befell.items())),
            "refusals": dict(sorted(self.refused.items())),
            "queued": self.counts["queued"],
            "found": self.counts["faults_found"],
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "story": self.words,
        }


def schedule(chance: random.Random, kinds: Sequence[str], faults: int) -> list[str]:
    """Return ``faults`` names, every kind as often as any other, in an order of chance."""
    wanted = list(itertools.islice(itertools.cycle(kinds), faults))
    chance.shuffle(wanted)
    return wanted


def run(
    name: str, *, seed: int, kinds: Sequence[str], faults: int, messages: int, week: int = 0
) -> Report:
    """Run a campaign in ``build/faults/NAME`` and recount it.

    It ends with a partition of seven days in which ``week`` messages wait, unless that is 0.
    """
    report = Report(seed)
    chance = random.Random(seed)
    started = time.monotonic()
    with world(name) as made:
        traffic = Traffic(made.nodes, made.root / "ledger.jsonl", seed)
        made.interlude = lambda: _interlude(made, traffic)
        traffic.go()
        for kind in schedule(chance, kinds, faults):
            _more(traffic, _BETWEEN)
            if kind in QUIET:
                traffic.pause()
                made.drained()
            words = (QUIET.get(kind) or KINDS[kind])(made, chance)
            traffic.go()
            report.befell[kind] += 1
            report.words.append(f"{time.monotonic() - started:.1f} s: {kind}: {words}")
        _more(traffic, max(messages - traffic.acknowledged, 0), seconds=1_200.0)
        if week:
            _week(made, traffic, week)
            report.befell["partition of seven days"] += 1
            report.words.append(f"{time.monotonic() - started:.1f} s: seven days are caught up")
        traffic.pause()
        traffic.stop()
        made.drained()
        report.messages, report.refused = traffic.acknowledged, traffic.refused
    report.counts = recounted(made.root)
    report.seconds = time.monotonic() - started
    return report


def _week(made: World, traffic: Traffic, messages: int) -> None:
    """Let nobody reach anybody, command on, and let the nodes meet again seven days later."""
    for proxy in made.proxies.values():
        proxy.behave(Mode.REFUSE)
    traffic.go()
    _more(traffic, messages)
    traffic.pause()
    assert made.waiting(), "nothing waits, so there was no partition"
    later = faked_time("+7d")
    for node in made.nodes.values():
        assert node.stop() == 0
        node.start(**later)
    for proxy in made.proxies.values():
        proxy.heal()
    made.drained()


def recounted(root: Path) -> dict[str, Any]:
    """Run the recount as a program of its own."""
    program = Path(__file__).with_name("recount.py")
    done = subprocess.run(
        [sys.executable, str(program), str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


def _more(traffic: Traffic, count: int, seconds: float = WAIT_SECONDS) -> None:
    before = traffic.acknowledged
    try:
        wait_for("commands go on", lambda: traffic.acknowledged >= before + count, seconds)
    except AssertionError:
        raise AssertionError(f"commands do not go on; refused: {dict(traffic.refused)}") from None


def _interlude(made: World, traffic: Traffic) -> None:
    traffic.go()
    _more(traffic, _INTERLUDE)
    traffic.pause()
    made.drained()


def main() -> None:
    """Run from the command line and write ``build/faults/NAME/report.json``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--messages", type=int, default=2_000)
    parser.add_argument("--kinds", nargs="*", default=[*KINDS, *QUIET])
    asked = parser.parse_args()
    report = run(
        "campaign",
        seed=asked.seed,
        kinds=asked.kinds,
        faults=asked.faults,
        messages=asked.messages,
        week=asked.messages // 10,
    )
    print(json.dumps(report.document(), indent=2))


if __name__ == "__main__":
    main()
