"""When two series are one, and what both sides' words amount to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.identifiers import new_series_id
from tieline_server.domain.same_as import (
    Likeness,
    LinkState,
    Overlap,
    SameAs,
    Word,
    combined,
    later,
    overlaps,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATES = st.sampled_from(LinkState)
WORDS = st.builds(
    lambda state, hours: Word(state, None if hours is None else NOON + timedelta(hours=hours)),
    STATES,
    st.none() | st.integers(0, 3),
).map(lambda word: Word() if word.at is None else word)


@pytest.mark.parametrize(
    ("shared", "own", "other", "one"),
    [
        (5, 10, 10, True),
        (4, 10, 10, False),  # fewer than five, though much of both
        (4, 4, 4, False),
        (5, 5, 50, True),  # all of the smaller, a tenth of the larger
        (5, 5, 51, False),
        (49, 99, 99, False),  # less than half of the smaller
        (50, 100, 500, True),
        (0, 0, 0, False),
        (11, 10, 20, False),  # sizes that cannot be
    ],
)
def test_an_overlap_counts_by_both_sizes(shared: int, own: int, other: int, one: bool) -> None:
    assert Likeness().is_one(shared, own, other) is one
    assert Likeness().is_one(shared, other, own) is one


def test_the_threshold_is_the_agencys() -> None:
    assert Likeness(least=1, of_smaller=0, of_larger=0).is_one(1, 1000, 1000)
    assert not Likeness(of_smaller=100).is_one(99, 100, 100)


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_words_of_one_side_amount_to_the_same_in_every_order(words: list[Word]) -> None:
    ends = {reduce(later, order, Word()).state for order in permutations(words)}
    assert len(ends) == 1
    if any(word.state is LinkState.WITHDRAWN for word in words):
        assert ends == {LinkState.WITHDRAWN}
    elif not any(word.at for word in words):
        assert ends == {LinkState.PENDING}


def _link(ours: LinkState, theirs: LinkState, name: str = "1") -> SameAs:
    said = {one: Word() if one is LinkState.PENDING else Word(one, NOON) for one in LinkState}
    return SameAs(name, "pt-pj/a", "es-gc/b", NOON, ours=said[ours], theirs=said[theirs])


@given(STATES, STATES)
def test_a_link_stands_only_when_both_confirmed_it(ours: LinkState, theirs: LinkState) -> None:
    state = _link(ours, theirs).state
    assert (state is LinkState.CONFIRMED) == (ours is theirs is LinkState.CONFIRMED)
    assert state is _link(theirs, ours).state
    assert state in (ours, theirs)


def test_links_of_parts_amount_to_one_of_the_wholes() -> None:
    pending, confirmed = LinkState.PENDING, LinkState.CONFIRMED
    links = [_link(confirmed, pending, "1"), _link(pending, confirmed, "2")]
    for order in (links, links[::-1]):
        assert (combined(order).id, combined(order).state) == ("1", confirmed)


def test_items_are_counted_once_in_a_whole() -> None:
    a, b, c = (new_series_id(agency) for agency in ("pt-pj", "es-gc", "pt-pj"))
    wholes = {1: a, 2: a, 3: b, 4: c}
    held = [({1, 3}, 2), ({1, 2, 3}, 3), ({3}, 4), ({2}, 1), ({4}, 9), ({9, 3}, 1)]
    assert overlaps(held, wholes, "pt-pj") == [Overlap(a, b, 5, 6, 10)]
    assert overlaps(held, wholes, "es-gc") == [Overlap(b, a, 5, 10, 6)]
    assert overlaps(held, wholes, "fr-pn") == []
