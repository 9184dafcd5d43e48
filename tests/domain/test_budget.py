"""What a question costs, and when a day ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_server.domain.budget import (
    ALL,
    Budgets,
    StatedBy,
    block_of,
    day_of,
    resets_at,
    units_of,
    warns,
)

COUNTS = st.lists(st.integers(0, limits.RECORDS_PER_QUERY), max_size=len(DigestKind))


def test_a_record_is_one_unit_by_however_many_digests_and_near_is_ten() -> None:
    assert units_of(3, [3, 3, 3, 0]) == 3
    assert units_of(3, [0, 3, 0, 3]) == 30
    assert units_of(3, [3, 0, 0, 1]) == 12
    assert units_of(0, []) == 0


@given(st.integers(0, limits.RECORDS_PER_QUERY), COUNTS)
def test_a_header_that_names_few_records_pays_for_its_digests(
    records: int, counts: list[int]
) -> None:
    units = units_of(records, counts)
    assert units >= max([records, *counts])
    near = counts[DigestKind.PDQ - 1] if len(counts) >= DigestKind.PDQ else 0
    assert units >= limits.NEAR_UNITS * near


def test_the_day_is_of_utc_wherever_the_clock_hangs() -> None:
    late = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    assert day_of(late) == day_of(late.astimezone(timezone(timedelta(hours=5)))) == "2026-03-01"
    assert resets_at(late) == datetime(2026, 3, 2, tzinfo=UTC)
    assert day_of(resets_at(late)) == "2026-03-02"


@given(st.datetimes(timezones=st.just(UTC), max_value=datetime(9999, 12, 30)))
def test_a_budget_resets_within_a_day_and_into_the_next(now: datetime) -> None:
    resets = resets_at(now)
    assert timedelta(0) < resets - now <= timedelta(days=1)
    assert day_of(resets - timedelta(microseconds=1)) == day_of(now) != day_of(resets)


@given(st.integers(-(10**9), 10**9))
def test_what_is_reserved_ahead_is_little_of_what_is_left(left: int) -> None:
    assert 0 <= block_of(left) * 100 <= max(left, 0)


@pytest.mark.parametrize(("budget", "mark"), [(100, 80), (5, 4), (1, 1), (3, 3)])
def test_the_warning_comes_once_at_eighty_percent(budget: int, mark: int) -> None:
    told = [units for units in range(1, budget + 1) if warns(units - 1, units, budget)]
    assert told == [mark]


def test_the_narrower_word_goes_first() -> None:
    budgets = Budgets(100, {"es-pn": 7}, {"data-quality": 3})
    assert budgets.of("fr-pn", ALL, None) == (100, StatedBy.DEFAULT)
    assert budgets.of("es-pn", ALL, None) == (7, StatedBy.CONFIGURATION)
    assert budgets.of("es-pn", ALL, 0) == (0, StatedBy.ADMIN)
    assert budgets.of("es-pn", "data-quality", None) == (3, StatedBy.CONFIGURATION)
    assert budgets.of("es-pn", "data-quality", 5) == (5, StatedBy.ADMIN)
    unlimited = (limits.POLICY_NUMBER_MOST, StatedBy.DEFAULT)
    assert budgets.of("es-pn", "deconfliction", None) == unlimited
