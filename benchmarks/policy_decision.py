"""Time one policy decision: fresh, cached, and the four levels of an answer.

.venv/bin/python benchmarks/policy_decision.py; fails where a fresh one takes over a millisecond.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

from tieline_server.domain.policy import Action, Party, Question
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

ROUNDS = 2_000


MOST_MICROSECONDS = 1_000
"""What a decision may cost (median, fresh)."""


def timed(work: Callable[[int], object], rounds: int = ROUNDS) -> tuple[float, float]:
    """Return median and 99th percentile of one call, in microseconds."""
    times = []
    for turn in range(rounds):
        start = time.perf_counter_ns()
        work(turn)
        times.append((time.perf_counter_ns() - start) / 1_000)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


def microseconds(work: Callable[[int], object], rounds: int = ROUNDS) -> str:
    """Return them as columns."""
    return "{:8.1f} {:8.1f}".format(*timed(work, rounds))


def main() -> None:
    """Print the table."""
    start = time.perf_counter()
    engine = PolicyEngine(default_folder())
    loading = (time.perf_counter() - start) * 1_000
    lisbon = Party.of("pt-pj", "national", ("PT",), agreement=False)
    ice = Party.of("us-ice", "national", ("US",), agreement=True)
    ask = Question(Action.ASK, ice, lisbon, "victim-identification", budget=10**6)
    hit = ask.towards(Action.LEARN_HIT)
    print(f"{len(engine.rules)} rules loaded and validated in {loading:.1f} ms")
    print(f"{'microseconds':28}   median      p99")
    # A new value of `spent` is a new question, so no decision comes from the cache.
    median, late = timed(lambda n: engine.decide(replace(ask, spent=n)))
    print(f"ask, fresh                   {median:8.1f} {late:8.1f}")
    print("learn-hit, cached           ", microseconds(lambda _: engine.decide(hit)))
    print("highest_disclosure, cached  ", microseconds(lambda _: engine.highest_disclosure(hit)))

    def fresh(turn: int) -> None:
        owner = f"owner-{turn}"
        engine.highest_disclosure(replace(hit, owner=owner))

    print("highest_disclosure, fresh   ", microseconds(fresh, 200))
    if median > MOST_MICROSECONDS:
        raise SystemExit(f"a fresh decision takes {median:.0f} us, over {MOST_MICROSECONDS}")


if __name__ == "__main__":
    main()
