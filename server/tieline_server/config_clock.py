"""[clock] in HOME/config.toml: how long the steps of referrals may take."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator
from tieline_client.directory import AgencyId, Country

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


def _by(waits: Mapping[Urgency, timedelta]) -> ByUrgency:
    hours = {one.name.lower(): wait.total_seconds() / 3600 for one, wait in waits.items()}
    return ByUrgency(**hours)


def _wait(state: ReferralState) -> ByUrgency:
    return _by(Targets().steps[state])


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

    escalate: ByUrgency = _by(Targets().escalate)
    """From a referral to the hub's being told that nobody has acknowledged it."""
    fallback: ByUrgency = _by(Targets().fallback)
    """And to another agency's being told."""
    fallbacks: dict[Country, AgencyId] = Field(default_factory=dict)
    """Who that is, by country, where no other agency serves it."""

    @model_validator(mode="after")
    def _in_turn(self) -> ClockSettings:
        for urgency, wait in self.escalate.waits().items():
            if wait >= self.fallback.waits()[urgency]:
                raise ValueError("the hub is told before the fallback agency; see escalate")
        return self

    def targets(self) -> Targets:
        """As the domain knows them."""
        steps = {state: getattr(self, state.value).waits() for state in NEXT}
        return Targets(
            steps,
            timedelta(hours=self.localised),
            self.escalate.waits(),
            self.fallback.waits(),
            dict(self.fallbacks),
        )


def clock_lines(clock: ClockSettings) -> list[str]:
    """Return the section of the file."""
    lines = [
        "[clock]  # hours until the next step of a referral is due; see `tieline clock`",
        f"localised = {clock.localised:g}",
    ]
    for name in (*(state.value for state in NEXT), "escalate", "fallback"):
        one: ByUrgency = getattr(clock, name)
        lines.append(
            f"{name} = {{ immediate = {one.immediate:g}, urgent = {one.urgent:g}, "
            f"routine = {one.routine:g} }}"
        )
    named = ", ".join(f'{country} = "{one}"' for country, one in clock.fallbacks.items())
    lines.append(f"fallbacks = {{ {named} }}" if named else '# fallbacks = { PT = "es-pn" }')
    return lines
