"""Which id stands for which series, and where the whole stands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.merging import follow, status_of_both
from tieline_server.domain.series import SeriesStatus

IDS = st.sampled_from("abcdef")
STATUS = st.sampled_from([one for one in SeriesStatus if one is not SeriesStatus.WITHDRAWN])


@given(st.dictionaries(IDS, IDS), IDS)
def test_an_id_always_stands_for_one_series(aliases: dict[str, str], series: str) -> None:
    whole = follow(aliases, series)
    seen = {series}
    at = series
    while (at := aliases.get(at, at)) not in seen:
        seen.add(at)
    assert whole in seen
    if at not in aliases:  # no chain that goes round
        assert follow(aliases, whole) == whole == at


@given(STATUS, STATUS)
def test_the_whole_stands_as_far_as_either_and_is_open_where_one_is(
    kept: SeriesStatus, part: SeriesStatus
) -> None:
    both = status_of_both(kept, part)
    assert both is status_of_both(part, kept)
    assert both in (kept, part)
    if SeriesStatus.CLOSED in (kept, part):
        assert both is SeriesStatus.CLOSED or {kept, part} == {both, SeriesStatus.CLOSED}
    order = list(SeriesStatus)
    open_ones = [one for one in (kept, part) if one is not SeriesStatus.CLOSED]
    assert all(order.index(both) >= order.index(one) for one in open_ones)
