"""The referral clock: a state is a function of the set of steps, and agrees with legal walks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import WrongState
from tieline_server.domain.referral import (
    ReferralState,
    ReferralStep,
    check_step,
    fold,
    reached,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
STATES = st.sampled_from(ReferralState)


def _step(number: int, state: ReferralState, minutes: int) -> ReferralStep:
    return ReferralStep(
        id=f"{number:04}",
        referral="r",
        state=state,
        agency="pt-pj",
        person="ana",
        at=START + timedelta(minutes=minutes),
    )


@st.composite
def _any_steps(draw: st.DrawFn) -> list[ReferralStep]:
    drawn = draw(st.lists(st.tuples(STATES, st.integers(0, 5)), max_size=12))
    return [_step(number, state, minutes) for number, (state, minutes) in enumerate(drawn)]


def _allowed(state: ReferralState, wanted: ReferralState) -> bool:
    try:
        check_step(state, wanted)
    except WrongState:
        return False
    return True


@st.composite
def _legal_walk(draw: st.DrawFn) -> list[ReferralStep]:
    """Steps as people take them: each allowed from the one before, one minute later."""
    state, steps = ReferralState.REFERRED, [_step(0, ReferralState.REFERRED, 0)]
    for number in range(1, draw(st.integers(0, 10)) + 1):
        possible = [each for each in ReferralState if _allowed(state, each)]
        if not possible:
            break
        taken = draw(st.sampled_from(possible))
        steps.append(_step(number, taken, number))
        state = reached(taken)
    return steps


@given(_any_steps(), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(steps: list[ReferralStep], random: object) -> None:
    shuffled = steps + steps[: len(steps) // 2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled) is fold(steps)


ORDER = [
    ReferralState.REFERRED,
    ReferralState.DELIVERED,
    ReferralState.ACKNOWLEDGED,
    ReferralState.ACCEPTED,
    ReferralState.OUTCOME,
    ReferralState.WITHDRAWN,
]
BESIDE = {
    ReferralState.REFUSED: ReferralState.DELIVERED,
    ReferralState.DECLINED: ReferralState.ACCEPTED,
    ReferralState.PASSED_ON: ReferralState.ACCEPTED,
}


def _rank(steps: list[ReferralStep]) -> int:
    state = fold(steps)
    return ORDER.index(BESIDE.get(state, state))


def _without_overtaking(steps: list[ReferralStep]) -> list[ReferralStep]:
    again = (ReferralState.OVERTAKEN, ReferralState.REPEATED)
    return [one for one in steps if one.state not in again]


@given(_any_steps().map(_without_overtaking), _any_steps().map(_without_overtaking))
def test_a_state_never_falls_behind_what_is_known_already(
    some: list[ReferralStep], more: list[ReferralStep]
) -> None:
    assert _rank([*some, *more]) >= max(_rank(some), _rank(more))


@given(_any_steps())
def test_overtaking_withdraws_what_its_recipient_has_not_ended(steps: list[ReferralStep]) -> None:
    """That it ended it may be heard later: then it is what it was there when it was overtaken. What
    was only repeated, with more items, may have been accepted as well."""
    before, said = _without_overtaking(steps), {one.state for one in steps}
    assert _rank(steps) >= _rank(before)
    ended = fold(before) in (ReferralState.DECLINED, ReferralState.PASSED_ON, ReferralState.OUTCOME)
    accepted = fold(before) is ReferralState.ACCEPTED
    repeated = ReferralState.REPEATED in said and not accepted
    overtaken = (repeated or ReferralState.OVERTAKEN in said) and not ended
    assert fold(steps) is (ReferralState.WITHDRAWN if overtaken else fold(before))


@given(_legal_walk(), st.randoms(use_true_random=False))
def test_both_sides_agree_on_every_legal_walk(steps: list[ReferralStep], random: object) -> None:
    last = reached(steps[-1].state)
    arrived = list(steps)
    random.shuffle(arrived)  # type: ignore[attr-defined]
    assert fold(arrived) is last


def test_without_steps_it_is_referred() -> None:
    assert fold([]) is ReferralState.REFERRED


@pytest.mark.parametrize(
    ("state", "wanted"),
    [
        (ReferralState.OUTCOME, ReferralState.ACCEPTED),
        (ReferralState.WITHDRAWN, ReferralState.OUTCOME),
        (ReferralState.DECLINED, ReferralState.OUTCOME),
        (ReferralState.REFERRED, ReferralState.ACCEPTED),
        (ReferralState.ACCEPTED, ReferralState.ACKNOWLEDGED),
    ],
)
def test_a_step_out_of_order_is_refused_with_what_is_possible(
    state: ReferralState, wanted: ReferralState
) -> None:
    with pytest.raises(WrongState, match=rf"{state} cannot become {wanted}.*possible"):
        check_step(state, wanted)
