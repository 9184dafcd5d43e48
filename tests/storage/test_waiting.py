"""How long the oldest pending audit entry has waited, with time as an argument."""

from __future__ import annotations

import pytest
from tieline_server.storage.sequencer import LAG_SECONDS
from tieline_server.storage.waiting import LOOK_SECONDS, Waiting


def test_what_stays_grows_older() -> None:
    waiting = Waiting(100.0)
    waiting.look(1, 1, 101.0)
    for number in range(2, 40):
        waiting.look(1, number, 100.0 + number)
        assert waiting.age(100.0 + number) == number - 1
    assert waiting.age(131.0 + LAG_SECONDS) == 30.0 + LAG_SECONDS


def test_a_head_that_moves_does_not_make_what_is_behind_it_younger() -> None:
    """Two entries come in each second and one is placed: each waits for longer than the last."""
    waiting = Waiting(0.0)
    ages = []
    for second in range(120):
        waiting.look(second + 1, 2 * second + 2, float(second))
        ages.append(waiting.age(float(second)))
    # At second s the oldest is number s + 1, which was seen at second ceil((s - 1) / 2) first.
    assert ages == [float(second - second // 2) for second in range(120)]
    assert max(ages) > LAG_SECONDS


def test_what_keeps_up_is_young_for_ever() -> None:
    waiting = Waiting(0.0)
    for turn in range(4_000):
        now = turn * LOOK_SECONDS
        waiting.look(10 * turn + 1, 10 * turn + 10, now)
        assert waiting.age(now) == 0.0
    waiting.look(None, None, 2_000.0)
    assert waiting.age(2_000.0) == 0.0


def test_what_came_together_is_late_until_the_last_of_it_is_placed() -> None:
    waiting = Waiting(0.0)
    waiting.look(1, 1_000, 0.0)
    waiting.look(1_000, 1_200, 40.0)
    assert waiting.age(40.0) == 40.0
    waiting.look(1_001, 1_200, 41.0)
    assert waiting.age(41.0) == 1.0
    waiting.look(1_201, 1_201, 42.0)
    assert waiting.age(42.0) == 0.0


def test_a_look_that_does_not_come_counts() -> None:
    """A database that cannot be asked: nothing waited when it last could be."""
    waiting = Waiting(0.0)
    waiting.look(None, None, 5.0)
    assert waiting.age(36.0) == 31.0


def test_looks_close_together_are_remembered_as_one() -> None:
    waiting = Waiting(0.0)
    for turn in range(1_000):
        waiting.look(1, turn + 1, turn * 0.001)
    assert waiting.age(1.0) == 1.0
    # The last of them were seen some milliseconds before, and count from the next look on.
    waiting.look(1_000, 1_000, 1.5)
    assert waiting.age(1.5) == pytest.approx(0.0)
