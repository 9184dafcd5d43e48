"""[clock] in HOME/config.toml: how long the steps of referrals may take."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tieline_server.domain.referral import ReferralState, Urgency
from tieline_server.domain.targets import NEXT, Targets

Hours = Annotated[float, Field(gt=0, le=24 * 3650)]


class ByUrgency(BaseModel):
    """Hours by urgency; the more urgent may not be the longer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    immediate: Hours
    urgent: Hours
    routine: Hours

    @model_validator(mode="after")
    def _in_order(self) -> ByUrgency:
        if not self.immediate <= self.urgent <= self.routine:
            raise ValueError("hours must not fall from immediate over urgent to routine")
        return self

    def waits(self) -> dict[Urgency, timedelta]:
        """As times by urgency."""
        return {one: timedelta(hours=getattr(self, one.name.lower())) for one in Urgency}


def _wait(state: ReferralState) -> ByUrgency:
    hours = {
        urgency.name.lower(): wait.total_seconds() / 3600
        for urgency, wait in Targets().steps[state].items()
    }
    return ByUrgency(**hours)


class ClockSettings(BaseModel):
    """Hours until the next step of a referral is due, by the step before it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    localised: Hours = Targets().localised.total_seconds() / 3600
    """From a likely country to its being told."""
    referred: ByUrgency = _wait(ReferralState.REFERRED)
    delivered: ByUrgency = _wait(ReferralState.DELIVERED)
    acknowledged: ByUrgency = _wait(ReferralState.ACKNOWLEDGED)
    accepted: ByUrgency = _wait(ReferralState.ACCEPTED)
    passed_on: ByUrgency = _wait(ReferralState.PASSED_ON)
    """Told outside, too."""

    def targets(self) -> Targets:
        """As the domain knows them."""
        steps = {state: getattr(self, state.value).waits() for state in NEXT}
        return Targets(steps, timedelta(hours=self.localised))


def clock_lines(clock: ClockSettings) -> list[str]:
    """Return the section of the file."""
    lines = [
        "[clock]  # hours until the next step of a referral is due; see `tieline clock`",
        f"localised = {clock.localised:g}",
    ]
    for state in NEXT:
        one: ByUrgency = getattr(clock, state.value)
        lines.append(
            f"{state.value} = {{ immediate = {one.immediate:g}, urgent = {one.urgent:g}, "
            f"routine = {one.routine:g} }}"
        )
    return lines
