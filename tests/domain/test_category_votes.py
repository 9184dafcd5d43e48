"""Category votes of agencies: what is trusted, what is disputed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.category_votes import VoteCount, distribution

VOTES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "d"]),
        st.sampled_from(["vics-us", "icse"]),
        st.sampled_from(["1", "2"]),
    ),
    max_size=8,
)


def test_three_agencies_for_one_code_are_trusted_and_one_against_disputes() -> None:
    three = [(one, "vics-us", "1") for one in "abc"]
    assert distribution({1: three}) == (VoteCount("vics-us", "1", 1, 3, 1, 0),)
    assert distribution({1: three[:2] + three[:2]})[0].trusted == 0  # said twice is said once
    assert distribution({1: [*three, ("d", "vics-us", "2")]}) == (
        VoteCount("vics-us", "1", 1, 3, 0, 1),
        VoteCount("vics-us", "2", 1, 1, 0, 1),
    )
    other_scheme = distribution({1: [*three, ("d", "vics-uk", "2")]})
    assert [one.trusted for one in other_scheme] == [0, 1]
    assert distribution({1: [*three, ("a", "vics-us", "2")]})[0].trusted == 0  # itself


def test_three_schemes_are_no_three_votes() -> None:
    mixed = [("a", "vics-us", "1"), ("b", "vics-uk", "1"), ("c", "vics-us", "1")]
    assert all(one.trusted == 0 for one in distribution({1: mixed}))


@given(st.dictionaries(st.integers(1, 4), VOTES))
def test_counts_fit_together(votes: dict[int, list[tuple[str, str, str]]]) -> None:
    for one in distribution(votes):
        assert one.trusted + one.disputed <= one.items <= len(votes)
        assert 1 <= one.agencies <= 4
        assert not one.trusted or one.agencies >= 3
