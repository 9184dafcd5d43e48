"""An operation's figures, from the progress of its series."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from tieline_client import limits
from tieline_client.errors import InvalidInput
from tieline_server.domain.operation import Figures, Progress, check_operation, report

BEGIN = date(2020, 11, 2)
NOON = datetime(2020, 11, 2, 12, tzinfo=UTC)
S, H, D = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def test_figures_by_country_and_day() -> None:
    work = [
        Progress("a", NOON, NOON, NOON + H, told=NOON + H + 4 * S, acknowledged=NOON + D),
        Progress("b", NOON, NOON, NOON + D, outside=NOON + D + 8 * S, tips=7, verified=2),
        Progress("c", NOON, localised=NOON + D, uploaded=NOON + D),
        Progress(
            "d",
            NOON,
            localised=NOON,
            told=NOON - H,
            outcome=NOON + 2 * D,
            identified=2,
            tentative=1,
        ),
        Progress("e"),
        Progress("f", told=NOON, outcome=NOON, tentative=1),
    ]
    countries = {"a": ["PT"], "b": ["BR"], "c": ["PT", "BR"], "d": ["ES"], "f": ["FR"]}
    made = report(work, countries, BEGIN, BEGIN + 2 * D)
    assert made.figures == Figures(
        **{"series": 6, "triaged": 4, "evaluated": 2, "localised": 4, "told": 4, "delivered": 3},
        **{"told_outside": 1, "acknowledged": 1, "uploaded": 1, "identified": 1, "tentative": 2},
        **{"victims_identified": 2, "victims_tentative": 2, "tips": 7, "tips_verified": 2},
        # d was told before its country was found: it waited for nothing; f was never localised.
        median_seconds=4.0,
    )
    rows = [(one.country, one.localised, one.told, one.median_seconds) for one in made.countries]
    assert rows == [("BR", 2, 1, 8.0), ("PT", 2, 1, 4.0), ("ES", 1, 1, 0.0)]
    days = [
        (one.day.day, one.triaged, one.localised, one.told, one.identified) for one in made.days
    ]
    assert days == [(2, 4, 2, 3, 0), (3, 4, 4, 4, 0), (4, 4, 4, 4, 1)]


def test_nothing_done_and_long_operations() -> None:
    empty = report([], {}, BEGIN, BEGIN - D)
    assert empty.figures == Figures() and empty.countries == ()
    assert [one.day for one in empty.days] == [BEGIN]
    long = report([Progress("a", NOON)], {}, BEGIN, BEGIN + 5_000 * D)
    assert len(long.days) == limits.OPERATION_DAYS
    assert {one.triaged for one in long.days} == {1}, "what was before the first day shown counts"


def test_parts_of_one_series_count_once() -> None:
    one = Progress("a", NOON + H, told=NOON, identified=1, tips=2, verified=1)
    other = Progress("b", NOON, outcome=NOON, identified=2, tentative=1, tips=3)
    assert one.and_of(other) == Progress(
        "a", NOON, told=NOON, outcome=NOON, identified=2, tentative=1, tips=5, verified=1
    )


@pytest.mark.parametrize(
    ("name", "days", "participants", "why"),
    [
        ("", 1, ["pt-pj"], "needs a name"),
        ("T", -1, ["pt-pj"], "before it begins"),
        ("T", 0, [], "participants"),
        ("T", 0, [f"a-{n}" for n in range(limits.OPERATION_PARTICIPANTS + 1)], "at most"),
    ],
)
def test_what_is_no_operation(name: str, days: int, participants: list[str], why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        check_operation(name, BEGIN, BEGIN + days * D, participants)
