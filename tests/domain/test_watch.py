"""When a standing query is asked again, and how far it has come."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.watch import Position, Told, advance, is_due, last_night, percent

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = 2
DONE = Position("w", "es-gc", epoch="e", generation=7, completed=NOON - timedelta(days=1))


def _due(position: Position, told: Told | None = None, *, by_hand: bool = False) -> bool:
    return is_due(position, told, NOON, HOUR, by_hand=by_hand)


def test_the_last_night_is_the_last_time_that_the_hour_struck() -> None:
    assert last_night(NOON, HOUR) == NOON.replace(hour=2)
    early = NOON.replace(hour=1, minute=59)
    assert last_night(early, HOUR) == NOON.replace(hour=2) - timedelta(days=1)
    assert last_night(NOON.replace(hour=2), HOUR) == NOON.replace(hour=2)


@pytest.mark.parametrize(
    ("position", "told", "night", "hand"),
    [
        (Position("w", "p"), None, True, True),
        (DONE, None, True, True),
        (DONE, Told("e", 7), False, False),
        (DONE, Told("e", 6), False, False),
        (DONE, Told("e", 8), True, True),
        (DONE, Told("f", 1), True, True),
        (replace(DONE, completed=NOON - timedelta(hours=1)), Told("e", 8), False, True),
        (replace(DONE, completed=NOON - timedelta(hours=1)), None, False, False),
        (replace(DONE, part=1), Told("e", 7), True, True),
        (replace(DONE, part=1, claimed=NOON + timedelta(seconds=1)), None, False, False),
        (replace(DONE, part=1, claimed=NOON), None, True, True),
        (replace(DONE, part=1, not_before=NOON + timedelta(hours=1)), None, False, True),
    ],
)
def test_a_peer_is_asked(position: Position, told: Told | None, night: bool, hand: bool) -> None:
    assert (_due(position, told), _due(position, told, by_hand=True)) == (night, hand)


def test_the_next_round_begins_where_the_first_answer_of_this_one_stood() -> None:
    position = advance(replace(DONE, epoch="e", generation=7), 3, ("e", 9), NOON)
    assert (position.part, position.since, position.began) == (1, ("e", 7), 9)
    position = advance(position, 3, ("e", 12), NOON)
    position = advance(position, 3, ("e", 15), NOON)
    assert (position.part, position.since, position.completed) == (0, ("e", 9), NOON)


def test_a_new_epoch_amid_a_round_begins_it_anew_and_whole() -> None:
    position = advance(DONE, 2, ("e", 9), NOON)
    position = advance(position, 2, ("f", 3), NOON)
    assert (position.part, position.since, position.completed) == (0, None, None)


def test_a_peer_that_names_no_epoch_is_always_asked_whole() -> None:
    assert advance(Position("w", "p"), 1, ("", 5), NOON).since is None


@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=6),
    st.integers(1, 4),
)
def test_nothing_is_missed_whenever_it_lands(rounds: list[list[int]], parts: int) -> None:
    """A model: items land between the answers of any round; each item is of one part. Whatever
    landed before the last complete round began was told."""
    position, generation, landed, told = Position("w", "p"), 1, [(1, 0)], set()
    for round_ in rounds:
        for part in range(parts):
            for _ in range(round_[part % len(round_)]):
                generation += 1
                landed.append((generation, generation % parts))
            since = position.since[1] if position.since else 0
            told |= {one for one in landed if one[1] == part and one[0] > since}
            position = advance(position, parts, ("e", generation), NOON)
        assert position.part == 0 and position.since is not None
        known = position.since[1]
        assert {one for one in landed if one[0] <= known} <= told


def test_a_percentage_is_whole_only_for_the_whole() -> None:
    assert [percent(*one) for one in ((0, 9), (1, 1_000), (999, 1_000), (5, 5), (0, 0))] == [
        *(0, 1, 99, 100, 0)
    ]
