"""From when on an end is announced, and in which words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from tieline_server.domain.expiry import ANNOUNCED_AHEAD, Ending, announced

ENDS = datetime(2026, 3, 9, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("ahead", [ANNOUNCED_AHEAD, timedelta(hours=42)])
def test_it_is_announced_from_its_day_on_and_after_its_end(ahead: timedelta) -> None:
    ending = Ending("the directory", ENDS, "publish it", ahead)
    assert not ending.due(ENDS - ahead - SECOND)
    assert ending.due(ENDS - ahead)
    assert not ending.over(ENDS - SECOND)
    assert ending.words(ENDS - SECOND) == "the directory ends 2026-03-09 12:00 UTC: publish it"
    assert ending.over(ENDS) and ending.due(ENDS + timedelta(days=400))
    assert ending.words(ENDS) == "the directory ended 2026-03-09 12:00 UTC: publish it"


def test_a_week_ahead_and_the_first_to_end_first() -> None:
    assert timedelta(days=7) == ANNOUNCED_AHEAD
    late, soon = Ending("b", ENDS, ""), Ending("a", ENDS - SECOND, "")
    far = Ending("c", ENDS + SECOND, "")
    assert list(announced([far, late, soon], ENDS - ANNOUNCED_AHEAD)) == [soon, late]
