"""The life of a series: which step a person may take, and from where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import WrongState
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.series_life import (
    BEFORE_LOCALISED,
    BEFORE_REFERRED,
    check_move,
)

STATUS = st.sampled_from(SeriesStatus)
S = SeriesStatus


def _may(before: SeriesStatus, after: SeriesStatus, *, likely: bool = True) -> bool:
    try:
        check_move(before, after, likely=likely)
    except WrongState:
        return False
    return True


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (S.NEW, S.TRIAGED),
        (S.TRIAGED, S.UNDER_EVALUATION),
        (S.UNDER_EVALUATION, S.LOCALISED),
        (S.REFERRED, S.IDENTIFIED),
        (S.IDENTIFIED, S.CLOSED),
        (S.NEW, S.IDENTIFIED),  # identified before it is localised
        (S.CLOSED, S.UNDER_EVALUATION),  # opened again
    ],
)
def test_the_steps_of_a_life(before: SeriesStatus, after: SeriesStatus) -> None:
    check_move(before, after, likely=True)


@given(STATUS, STATUS, st.booleans())
def test_nobody_refers_or_withdraws_by_saying_so(
    before: SeriesStatus, after: SeriesStatus, likely: bool
) -> None:
    if after in (S.NEW, S.REFERRED, S.WITHDRAWN) or S.WITHDRAWN in (before, after):
        with pytest.raises(WrongState, match="possible"):
            check_move(before, after, likely=likely)
    assert not _may(before, before, likely=likely)


@given(STATUS)
def test_nothing_is_localised_without_a_likely_country(before: SeriesStatus) -> None:
    assert not _may(before, S.LOCALISED, likely=False)
    assert _may(before, S.LOCALISED) == (before in BEFORE_LOCALISED)


@given(STATUS)
def test_whatever_stands_may_be_evaluated_again_and_closed(before: SeriesStatus) -> None:
    if before not in (S.WITHDRAWN, S.UNDER_EVALUATION):
        assert _may(before, S.UNDER_EVALUATION)
    if before not in (S.WITHDRAWN, S.CLOSED):
        assert _may(before, S.CLOSED)


def test_what_comes_before_what() -> None:
    assert S.UNDER_EVALUATION in BEFORE_LOCALISED < BEFORE_REFERRED
    assert {S.LOCALISED} == BEFORE_REFERRED - BEFORE_LOCALISED
