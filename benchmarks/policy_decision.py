"""What a policy decision costs: every action and every case of the table, fresh and cached.

A fresh decision is one that Cedar makes; a cached one was made before. Each case of
policies/cases.txt is decided again and again, and so is each action between two ordinary members;
a case's own time is the median of its fresh decisions, so that one interruption of this process
counts in the last percentile, where it belongs, and not as that case's. Prints both distributions
and the slowest by name; the row is the slowest's median. What an answer costs beyond one decision
(``highest_disclosure``, which asks for up to four levels three times) is printed too.

Run: ``python -m benchmarks.policy_decision``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from tieline_server.domain.policy import LEARNING, Action, Party, Question
from tieline_server.policy.cases import CASES_FILE, load_cases
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

from benchmarks.rows import arguments, report

SLOWEST = 5
"""Shown by name."""
TURNS = 20
"""Fresh decisions of each question in a round; cached ones are five times as many."""
MOST_MILLISECONDS = 1.0
"""What a fresh decision may cost, by its median."""
_NANO = _MICRO = 1_000


@dataclass(frozen=True)
class Timed:
    """The times of one question's decisions, in microseconds."""

    name: str
    fresh: list[float]
    cached: list[float]

    @property
    def typical(self) -> float:
        """The median of the fresh ones."""
        return statistics.median(self.fresh)


def questions() -> Iterator[tuple[str, Question]]:
    """Yield each action between two members, then each case of the table, by name."""
    lisbon = Party.of("pt-pj", "national", ("PT",), agreement=False)
    ice = Party.of("us-ice", "national", ("US",), agreement=True)
    for action in Action:
        asked = Question(action, ice, lisbon, "victim-identification", budget=10**6)
        yield f"action {action}", asked
    for case in load_cases(default_folder() / CASES_FILE).cases:
        yield f"line {case.line}: {' '.join(case.text.split()[1:9])}", case.question


def timed(work: Callable[[], object]) -> float:
    """Return what one call takes, in microseconds."""
    start = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - start) / _NANO


def measure(rounds: int) -> tuple[list[Timed], list[float], bool]:
    """Return the times of every question, those of whole answers, and whether cases came out."""
    engine = PolicyEngine(default_folder())
    named = dict(questions())
    times = {name: Timed(name, [], []) for name in named}
    answers: list[float] = []
    for _ in range(rounds):  # in turn, so that a slow second of this machine is spread over all
        for name, question in named.items():
            decide = partial(engine.decide, question)
            for _ in range(TURNS):
                engine.forget()
                times[name].fresh.append(timed(decide))
            times[name].cached.extend(timed(decide) for _ in range(5 * TURNS))
        for question in named.values():
            if question.action is LEARNING[0][1]:
                engine.forget()
                answers.append(timed(partial(engine.highest_disclosure, question)))
    right = not engine.run_cases(default_folder() / CASES_FILE)
    return list(times.values()), answers, right


def spread(times: list[float]) -> str:
    """Return median, 99th percentile and greatest, as columns."""
    late = statistics.quantiles(times, n=100)[98]
    return f"{statistics.median(times):9.1f}{late:9.1f}{max(times):9.1f}"


def main() -> None:
    """Print the table, and write the row; exit with 1 where a case takes over a millisecond."""
    options = arguments(__doc__, size=0, rounds=5).parse_args()
    times, answers, right = measure(options.rounds)
    print(f"{f'{len(times)} questions; microseconds':44}   median      p99      max")
    for words, lists in (
        ("a decision, fresh", [one.fresh for one in times]),
        ("a decision, cached", [one.cached for one in times]),
        ("a whole answer's level, fresh", [answers]),
    ):
        print(f"{words:44}{spread([one for found in lists for one in found])}")
    print("the slowest, fresh:")
    slowest = sorted(times, key=lambda one: one.typical, reverse=True)[:SLOWEST]
    for one in slowest:
        print(f"  {one.name}\n{'':44}{spread(one.fresh)}")
    worst = slowest[0].typical / _MICRO
    report("policy_decision", 0, worst, None, right)
    if worst > MOST_MILLISECONDS:
        raise SystemExit(f"{slowest[0].name}: {worst:.2f} ms, over {MOST_MILLISECONDS}")


if __name__ == "__main__":
    main()
