"""When steps are due, and what the clock's report counts and measures."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tieline_server.domain.clock_report import by_country, line, telling
from tieline_server.domain.referral import (
    Direction,
    Outcome,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.series import Assessment, Confidence
from tieline_server.domain.targets import NEXT, Targets, localised_at, standing

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_S = ReferralState


def _referral(number: int = 1, **more: object) -> Referral:
    made = Referral(
        id=f"r{number}", root=f"r{number}", series=f"s{number}", direction=Direction.OUT,
        sender="es-gc", recipient="pt-pj", country="PT", urgency=Urgency.URGENT,
        purpose="victim-identification", case_ref="c", person="ana", created=START,
    )  # fmt: skip
    return replace(made, **more)  # type: ignore[arg-type]


def _step(state: ReferralState, hours: float, **more: object) -> ReferralStep:
    made = ReferralStep(f"{state}{hours}", "r1", state, "pt-pj", "rui", START + hours * HOUR)
    return replace(made, **more)  # type: ignore[arg-type]


def _assessed(country: str, hours: float, *, eliminated: bool = False) -> Assessment:
    return Assessment(
        f"{country}{hours}", "s1", "es-gc", "ana", country, Confidence.HIGH, "g", False,
        eliminated, START + hours * HOUR,
    )  # fmt: skip


@pytest.mark.parametrize("state", list(ReferralState))
def test_a_step_is_due_by_state_and_urgency(state: ReferralState) -> None:
    due = {urgency: Targets().due(state, urgency, START) for urgency in Urgency}
    if state not in NEXT:
        assert set(due.values()) == {None}
        return
    moments = [due[urgency] or START for urgency in sorted(Urgency)]
    assert START < moments[0] < moments[1] < moments[2]


def test_what_is_waited_for_since_the_state_was_reached() -> None:
    steps = [_step(_S.DELIVERED, 1), _step(_S.ACKNOWLEDGED, 5)]
    stands = standing(Targets(), _referral(state=_S.ACKNOWLEDGED), steps)
    assert stands.since == START + 5 * HOUR
    assert stands.next == "accepted, declined or passed_on"
    assert stands.due == START + 5 * HOUR + timedelta(days=3)
    assert standing(Targets(), _referral(state=_S.REFERRED), []).since == START
    outside = [*steps, _step(_S.TOLD_OUTSIDE, 7)]
    stands = standing(Targets(), _referral(state=_S.PASSED_ON), outside)
    assert (stands.since, stands.next) == (START + 7 * HOUR, "outcome")
    # whose country stands no longer is waited for no more, until it stands again
    wrong = [*steps, _step(_S.CORRECTED, 6, countries=("FR",))]
    assert standing(Targets(), _referral(state=_S.ACKNOWLEDGED), wrong).due is None
    again = [*wrong, _step(_S.CORRECTED, 8, countries=("PT",))]
    assert standing(Targets(), _referral(state=_S.ACKNOWLEDGED), again).due is not None


def test_a_country_is_localised_when_it_was_first_said() -> None:
    said = [_assessed("PT", 5), _assessed("PT", 2), _assessed("PT", 1, eliminated=True)]
    assert localised_at(said, "PT") == START + 2 * HOUR
    assert localised_at(said, "FR") is None


def test_medians_and_counts_by_country() -> None:
    def told(number: int, country: str, *steps: ReferralStep, **more: object) -> object:
        referral = _referral(number, country=country, created=START + 2 * HOUR, **more)
        assessed = [_assessed(country, 0)] if country else []
        return telling(
            referral, steps, assessed, serves=country != "BR", targets=Targets(),
            now=START + 100 * HOUR,
        )  # fmt: skip

    found = Outcome(identified=2, tentative=1)
    tellings = [
        told(1, "PT", _step(_S.DELIVERED, 3), state=_S.DELIVERED),
        told(
            2, "PT", _step(_S.DELIVERED, 7), _step(_S.ACKNOWLEDGED, 9), _step(_S.ACCEPTED, 12),
            _step(_S.OUTCOME, 20, outcome=found), state=_S.OUTCOME,
        ),
        # at the hub the country does not know yet; told outside it does
        told(3, "BR", _step(_S.DELIVERED, 3), state=_S.DELIVERED),
        told(4, "BR", _step(_S.DELIVERED, 3), _step(_S.TOLD_OUTSIDE, 30), state=_S.PASSED_ON),
        told(5, "", state=_S.REFERRED),
    ]  # fmt: skip
    lines = {one.country: one for one in by_country(tellings)}  # type: ignore[arg-type]
    assert list(lines) == ["", "BR", "PT"]
    pt, br = lines["PT"], lines["BR"]
    assert (pt.referrals, pt.series, pt.told, pt.told_outside) == (2, 2, 2, 0)
    assert (pt.acknowledged, pt.answered, pt.outcomes, pt.overdue) == (1, 1, 1, 1)
    hours = {name: None if took is None else took / 3600 for name, took in pt.medians.items()}
    assert hours == {
        "localised_to_referred": 2,
        "localised_to_told": 5,
        "referred_to_delivered": 3,
        "delivered_to_acknowledged": 2,
        "acknowledged_to_answered": 3,
        "answered_to_outcome": 8,
    }
    assert (br.told, br.told_outside, br.answered, br.overdue) == (1, 1, 1, 1)
    assert br.medians["localised_to_told"] == 30 * 3600
    assert lines[""].medians["localised_to_referred"] is None
    assert line("", tellings).overdue == 3  # type: ignore[arg-type]
    assert line("", []).medians["localised_to_told"] is None
