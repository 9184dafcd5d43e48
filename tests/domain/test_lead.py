"""Who leads among several agencies of one country: a function of what each of them did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from tieline_server.domain.lead import choose_lead, lead_of
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
    fold,
)

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
_S = ReferralState
ICE, FBI, ES = "us-ice", "us-fbi", "es-gc"


def _told(recipient: str, *steps: tuple[ReferralState, int]) -> tuple[Referral, list[ReferralStep]]:
    kept = [
        ReferralStep(
            f"{recipient}{state}{at}", recipient, state, recipient, "p",
            START + timedelta(minutes=at), passed_to=recipient if state is _S.LEAD else "",
        )
        for state, at in steps
    ]  # fmt: skip
    referral = Referral(
        id=recipient, root=recipient, series="s", direction=Direction.OUT, sender=ES,
        recipient=recipient, country="US", urgency=Urgency.URGENT, purpose="p", case_ref="c",
        person="ana", created=START, state=fold(kept),
    )  # fmt: skip
    return referral, kept


def test_the_first_to_accept_leads_unless_one_claims_it() -> None:
    assert choose_lead([_told(ICE), _told(FBI, (_S.ACKNOWLEDGED, 1))]) == ""
    first, second = _told(ICE, (_S.ACCEPTED, 1)), _told(FBI, (_S.ACCEPTED, 2))
    assert choose_lead([second, first]) == ICE
    claimed = _told(FBI, (_S.ACCEPTED, 2), (_S.LEAD, 2))
    assert choose_lead([first, claimed]) == FBI
    both = _told(ICE, (_S.ACCEPTED, 3), (_S.LEAD, 3))
    assert choose_lead([both, claimed]) == FBI


def test_who_declines_or_passes_on_hands_the_lead_over() -> None:
    second = _told(FBI, (_S.ACCEPTED, 2))
    for leaves in (_S.DECLINED, _S.PASSED_ON, _S.WITHDRAWN):
        gone = _told(ICE, (_S.ACCEPTED, 1), (_S.LEAD, 1), (leaves, 5))
        assert choose_lead([gone, second]) == FBI
        assert choose_lead([gone]) == ""


def test_the_senders_latest_word_counts_and_nobody_elses() -> None:
    referral, claim = _told(ICE, (_S.ACCEPTED, 1), (_S.LEAD, 1))
    assert lead_of(referral, claim) == ""
    said = [
        ReferralStep(f"w{at}", ICE, _S.LEAD, ES, "", START + timedelta(minutes=at), passed_to=lead)
        for at, lead in ((4, FBI), (3, ICE))
    ]
    assert lead_of(referral, [*claim, *said]) == lead_of(referral, [*said[::-1], *claim]) == FBI
    assert referral.state is _S.ACCEPTED  # a mark is no state


_DONE = st.lists(
    st.tuples(st.sampled_from([_S.ACKNOWLEDGED, _S.ACCEPTED, _S.LEAD, _S.DECLINED]),
              st.integers(0, 4)), max_size=5, unique=True)  # fmt: skip


@given(_DONE, _DONE, st.randoms(use_true_random=False))
def test_order_and_repeats_do_not_matter(
    one: list[tuple[ReferralState, int]], other: list[tuple[ReferralState, int]], random: object
) -> None:
    told = [_told(ICE, *one), _told(FBI, *other)]
    again = [(referral, steps + steps) for referral, steps in told]
    for _, steps in again:
        random.shuffle(steps)  # type: ignore[attr-defined]
    assert choose_lead(again[::-1]) == choose_lead(told)
