"""Refusals that anybody can provoke are counted; decisions are written one by one."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client import limits
from tieline_server.domain.refusals import SINGLE, Refusal, RefusalEntry, RefusalLog

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = limits.REFUSAL_WINDOW


def refusal(reason: str = "UNTRUSTED", seconds: float = 0, peer: str = "", **more: str) -> Refusal:
    fields = {"person": "", "method": "/x/Y", "check": "CERTIFICATE_EXPIRED", "claimed": "us-ice"}
    return Refusal(
        peer=peer, reason=reason, at=START + timedelta(seconds=seconds), **(fields | more)
    )


@pytest.mark.parametrize("reason", sorted(SINGLE))
def test_decisions_are_entries_of_their_own_at_once(reason: str) -> None:
    log = RefusalLog()
    for second in range(3):
        (entry,) = log.add(refusal(reason, second, peer="us-ice"))
        assert (entry.refusal.reason, entry.count, entry.last) == (
            reason,
            1,
            START + timedelta(seconds=second),
        )
    assert log.flush() == []


def test_what_anybody_can_provoke_is_one_entry_a_minute() -> None:
    log = RefusalLog()
    for second in range(60):
        assert log.add(refusal(seconds=second)) == []
    assert log.due(START + MINUTE - timedelta(microseconds=1)) == []
    (entry,) = log.add(refusal(seconds=60))
    assert (entry.count, entry.refusal.at) == (60, START)
    assert entry.last == START + timedelta(seconds=59)
    (entry,) = log.due(START + 2 * MINUTE)
    assert entry.count == 1
    assert log.due(START + 3 * MINUTE) == []


def test_different_refusals_are_counted_apart() -> None:
    log = RefusalLog()
    kinds = [
        refusal(),
        refusal(claimed="us-fbi"),
        refusal(check="CERTIFICATE_REVOKED"),
        refusal("MALFORMED_MESSAGE", peer="us-ice"),
        refusal("MALFORMED_MESSAGE", peer="us-fbi"),
        refusal("MALFORMED_MESSAGE", peer="us-fbi", method="/x/Z"),
        refusal("UNKNOWN_METHOD", peer="pt-pj", person="ana"),
    ]
    for kind in kinds * 3:
        log.add(kind)
    entries = log.flush()
    assert [entry.refusal for entry in entries] == kinds
    assert {entry.count for entry in entries} == {3}


def test_a_decision_brings_out_what_is_due() -> None:
    log = RefusalLog()
    log.add(refusal())
    counted, single = log.add(refusal("POLICY_REFUSED", 61, peer="us-ice"))
    assert (counted.refusal.reason, single.refusal.reason) == ("UNTRUSTED", "POLICY_REFUSED")


def test_a_flood_of_kinds_is_counted_together_in_bounded_space() -> None:
    log = RefusalLog(kinds=10)
    for number in range(1000):
        log.add(refusal(claimed=f"a{number}"))
    entries = log.flush()
    assert len(entries) == 11
    assert sum(entry.count for entry in entries) == 1000
    assert entries[-1].refusal.check == "others" and entries[-1].count == 990


def test_a_clock_that_was_set_back_keeps_nothing_for_ever() -> None:
    log = RefusalLog()
    log.add(refusal(seconds=3600))
    (entry,) = log.due(START)
    assert entry.count == 1


@given(st.lists(st.tuples(st.sampled_from(["UNTRUSTED", "POLICY_REFUSED", "LIMIT_EXCEEDED"]),
                          st.integers(0, 400)), max_size=60))  # fmt: skip
def test_every_refusal_is_counted_exactly_once(events: list[tuple[str, int]]) -> None:
    log = RefusalLog(kinds=2)
    entries: list[RefusalEntry] = []
    for reason, second in events:
        entries += log.add(refusal(reason, second))
    entries += log.flush()
    counted: Counter[str] = Counter()
    for entry in entries:
        counted[entry.refusal.reason] += entry.count
    assert counted == Counter(reason for reason, _ in events)
