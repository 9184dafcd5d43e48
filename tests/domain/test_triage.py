"""The order in which a taskforce looks at series, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.triage import WEIGHTS, Lead, rank

NOW = datetime(2020, 11, 2, 9, tzinfo=UTC)
PLAIN = Lead("pt-pj/b", "B", SeriesStatus.NEW, 100, 0, NOW - timedelta(days=400))


def _points(lead: Lead) -> int:
    (one,) = rank([lead], NOW)
    return one.points


def test_each_thing_alone_puts_a_series_first() -> None:
    better = {
        "unidentified": (replace(PLAIN, identified=1), PLAIN),
        "overlaps": (PLAIN, replace(PLAIN, overlaps=("es-pn",))),
        "new clues": (PLAIN, replace(PLAIN, new_clues=1)),
        "recency": (PLAIN, replace(PLAIN, seen=NOW - timedelta(days=30))),
        "size": (PLAIN, replace(PLAIN, items=1_000)),
    }
    assert set(better) == set(WEIGHTS) and sum(WEIGHTS.values()) == 1_000
    for name, (less, more) in better.items():
        # The one that is to be first has the later id, so that order by id alone would fail.
        first, second = rank([replace(less, series="pt-pj/a"), more], NOW)
        assert first.lead == more, name
        parts = {part.name: part.points for part in first.parts}
        others = {part.name: part.points for part in second.parts}
        assert {key for key in parts if parts[key] != others[key]} == {name}


def test_it_says_why() -> None:
    (one,) = rank([replace(PLAIN, overlaps=("es-pn", "fr-pn"), new_clues=3)], NOW)
    why = {part.name: part.why for part in one.parts}
    assert why == {
        "unidentified": "nobody identified",
        "overlaps": "2 other agencies hold items of it (es-pn, fr-pn)",
        "new clues": "3 new clues and tips",
        "recency": "seen last 2019-09-29",
        "size": "100 items",
    }
    assert one.points == sum(part.points for part in one.parts)


def test_what_is_identified_or_closed_comes_last_and_equals_go_by_id() -> None:
    small = replace(PLAIN, items=1, seen=NOW - timedelta(days=4_000))
    for status in (SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED, SeriesStatus.WITHDRAWN):
        done = replace(PLAIN, status=status, series="pt-pj/a", items=10**6, seen=NOW)
        assert [one.lead for one in rank([done, small], NOW)] == [small, done]
    twin = replace(PLAIN, series="pt-pj/a")
    assert [one.lead.series for one in rank([PLAIN, twin], NOW)] == ["pt-pj/a", "pt-pj/b"]


@given(
    st.integers(0, 10**9),
    st.integers(0, 10_000),
    st.integers(0, 300),
    st.integers(-1_000, 10**5),
)
def test_no_series_has_more_than_all_points(items: int, clues: int, peers: int, days: int) -> None:
    lead = replace(
        PLAIN,
        items=items,
        new_clues=clues,
        overlaps=tuple(f"a-{n}" for n in range(peers)),
        seen=NOW - timedelta(days=days),
    )
    (one,) = rank([lead], NOW)
    assert all(0 <= part.points <= WEIGHTS[part.name] for part in one.parts)
    assert _points(replace(lead, items=items + 10)) >= one.points
    assert _points(replace(lead, new_clues=clues + 1)) >= one.points
