"""Which holding decides what is said of an item that is held in several ways."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.holding import Way, decided
from tieline_server.domain.policy import Disclosure

D = Disclosure
ways = st.lists(
    st.builds(
        Way,
        series=st.integers(0, 2),
        case_ref=st.sampled_from(["", "A", "B"]),
        level=st.sampled_from([None, *Disclosure]),
    ),
    max_size=5,
)


def test_the_strictest_of_one_case_decides() -> None:
    open_, closed = Way(0, "A", D.HIT), Way(0, "A", D.NOTHING)
    assert decided([open_, closed]) == (D.NOTHING, D.NOTHING)
    assert decided([closed, open_]) == (D.NOTHING, D.NOTHING)


def test_the_strictest_of_one_series_decides_across_cases() -> None:
    assert decided([Way(1, "A", D.REFERENCE), Way(1, "B", D.HIT)]) == (D.HIT, D.HIT)


def test_another_case_stands_by_itself() -> None:
    assert decided([Way(1, "A", D.HIT), Way(2, "B", D.NOTHING)]) == (D.HIT, D.NOTHING)


def test_what_does_not_count_restricts_nothing() -> None:
    assert decided([Way(1, "A", D.HIT), Way(1, "A", None)]) == (D.HIT, D.NOTHING)


@given(ways)
def test_no_way_is_opened_by_another(held: list[Way]) -> None:
    for way, level in zip(held, decided(held), strict=True):
        assert level <= (way.level or D.NOTHING)


@given(ways, ways)
def test_one_more_way_opens_nothing_that_was_there(held: list[Way], more: list[Way]) -> None:
    before, after = decided(held), decided([*held, *more])
    assert all(now <= then for then, now in zip(before, after, strict=False))
