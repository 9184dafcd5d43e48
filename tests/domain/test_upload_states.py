"""An upload's states: a function of the set of steps; forwards only; a number needs a reference."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tieline_client.errors import InvalidInput, WrongState
from tieline_server.domain.upload import UploadState, UploadStep, check_step, fold

START = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = list(UploadState)


@st.composite
def _steps(draw: st.DrawFn) -> list[UploadStep]:
    drawn = draw(
        st.lists(
            st.tuples(st.sampled_from(ORDER), st.integers(0, 4), st.sampled_from(["", "A", "B"])),
            max_size=10,
        )
    )
    return [
        UploadStep(f"{n:03}", "u", state, "interpol", "eva", START + timedelta(hours=h), reference)
        for n, (state, h, reference) in enumerate(drawn)
    ]


@given(_steps(), st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(steps: list[UploadStep], random: object) -> None:
    shuffled = steps + steps[::2]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert fold(shuffled) == fold(steps)


@given(_steps())
def test_the_state_is_the_furthest_one(steps: list[UploadStep]) -> None:
    state, reference = fold(steps)
    assert ORDER.index(state) == max((ORDER.index(s.state) for s in steps), default=0)
    assert reference in {"", *(step.reference for step in steps)}
    assert bool(reference) == any(step.reference for step in steps)


@given(st.sampled_from(ORDER), st.sampled_from(ORDER))
def test_steps_go_forwards_only(state: UploadState, wanted: UploadState) -> None:
    forwards = state is not UploadState.WITHDRAWN and ORDER.index(wanted) > ORDER.index(state)
    if forwards:
        check_step(state, wanted, "N-1")
    else:
        with pytest.raises(WrongState):
            check_step(state, wanted, "N-1")


@pytest.mark.parametrize("reference", ["", " \t"])
def test_numbering_needs_the_number(reference: str) -> None:
    with pytest.raises(InvalidInput, match="--reference"):
        check_step(UploadState.ANNOUNCED, UploadState.NUMBERED, reference)
