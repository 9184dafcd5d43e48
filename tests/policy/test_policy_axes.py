"""Each named axis of the table is shown in both directions: two cases that differ in it alone.

An axis is a set of features of a question that may differ; all others are equal, and one case
is allowed and the other denied. A party is looked at as rules see it: who it is, its role, whether
Union law binds it, whether an agreement is listed for it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest
from tieline_server.domain.policy import Question
from tieline_server.policy.cases import CASES_FILE, Case, load_cases
from tieline_server.policy.engine import PolicyEngine
from tieline_server.policy.loading import default_folder

CASES = load_cases(default_folder() / CASES_FILE).cases
AXES: dict[str, frozenset[str]] = {
    "asker": frozenset({"asker", "asker role", "asker union", "asker agreement"}),
    "other side": frozenset({"holder", "holder role", "holder union", "holder agreement"}),
    "role": frozenset({"asker", "asker role", "asker union"}),
    "agreement of the asker": frozenset({"asker", "asker agreement"}),
    "agreement of the other side": frozenset({"holder", "holder agreement"}),
    "union": frozenset({"asker", "asker union"}),
    "purpose": frozenset({"purpose"}),
    "handling": frozenset({"handling"}),
    "tlp": frozenset({"tlp"}),
    "budget": frozenset({"budget"}),
    "data state: owner": frozenset({"owner"}),
    "data state: confirmed": frozenset({"confirmed"}),
    "data state: permission": frozenset({"permission"}),
    "data state: vital interests": frozenset({"vital interests"}),
    "data state: second officer": frozenset({"second officer"}),
    "action": frozenset({"action"}),
}
MUST: dict[str, str] = {
    "role": "asker role",
    "agreement of the asker": "asker agreement",
    "agreement of the other side": "holder agreement",
    "union": "asker union",
}
"""The feature of an axis that has to differ, where others may come with it."""


def features(question: Question) -> dict[str, object]:
    """What rules can tell questions apart by."""
    found: dict[str, object] = {
        "action": question.action,
        "purpose": question.purpose,
        "handling": question.handling,
        "tlp": question.tlp,
        "owner": question.provider if question.owner else "",
        "confirmed": question.confirmed,
        "permission": question.permission,
        "vital interests": question.vital_interests,
        "second officer": question.second_officer,
        "budget": (question.asked, question.spent, question.budget),
    }
    for name, party in (("asker", question.asker), ("holder", question.holder)):
        found |= {
            name: party.agency,
            f"{name} role": party.role,
            f"{name} union": party.union,
            f"{name} agreement": party.agreement,
        }
    return found


DESCRIBED = [(case, features(case.question)) for case in CASES]


def pairs(axis: str) -> Iterator[tuple[Case, Case]]:
    """Yield pairs of an allowed and a denied case that differ in an axis alone."""
    free, must = AXES[axis], MUST.get(axis)
    for (one, first), (other, second) in combinations(DESCRIBED, 2):
        if one.allowed == other.allowed:
            continue
        differ = {name for name in first if first[name] != second[name]}
        if differ and differ <= free and (must is None or must in differ):
            yield (one, other) if one.allowed else (other, one)


@pytest.mark.parametrize("axis", AXES)
def test_an_axis_is_covered_in_both_directions(axis: str) -> None:
    found = next(pairs(axis), None)
    assert found is not None, f"no two cases differ in {axis} alone, one allowed and one denied"
    engine = PolicyEngine(default_folder())
    allowed, denied = found
    assert engine.decide(allowed.question).allowed
    assert not engine.decide(denied.question).allowed


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 60


def test_an_action_that_no_rule_lists_is_denied_for_everybody() -> None:
    """A version that knows a new action asks older rules: they do not list it."""
    engine = PolicyEngine(default_folder())
    for case in CASES:
        unknown = replace(case.question, action="export-to-somebody")  # type: ignore[arg-type]
        assert not engine.decide(unknown).allowed


def test_a_decision_costs_at_most_a_millisecond() -> None:
    """Of this thread's CPU time, fresh each time; benchmarks/policy_decision.py has the wall's."""
    engine = PolicyEngine(default_folder())
    ask = next(case.question for case in CASES if case.question.action == "ask")
    costs = []
    for spent in range(300):
        before = time.thread_time_ns()
        engine.decide(replace(ask, spent=spent, budget=1_000))
        costs.append(time.thread_time_ns() - before)
    assert statistics.median(costs) <= 1_000_000
