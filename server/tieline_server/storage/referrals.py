"""Referrals and their steps. The state kept is always the fold of the steps kept."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row, bindparam, insert, select
from tieline_client.errors import NotFound

from tieline_server.domain.referral import (
    UNACKNOWLEDGED,
    Direction,
    Outcome,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
    fold,
)
from tieline_server.storage.alarms import Alarms
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.schema import referral_steps, referrals
from tieline_server.storage.session import Session

_COUNTS = tuple(field.name for field in fields(Outcome))
_SENT = Prepared(
    lambda _: (
        select(referrals.c.id)
        .where(referrals.c.series == bindparam("of"), referrals.c.direction == Direction.OUT.value)
        .limit(1)
    )
)


class Referrals:
    """`ReferralRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def add(self, referral: Referral) -> None:
        """Add a referral. Raises AlreadyStored when the id exists."""
        row = asdict(referral)
        row |= {
            "direction": referral.direction.value,
            "urgency": int(referral.urgency),
            "state": referral.state.value,
        }
        self._run(insert(referrals).values(**row))

    def get(self, referral: str) -> Referral | None:
        """Return a referral; in a writing transaction it stays as it is until the end."""
        found = self._session.locked(select(referrals).where(referrals.c.id == referral))
        row = self._run(found).one_or_none()
        return None if row is None else _referral(row)

    def find(self, direction: Direction | None = None, series: str = "") -> list[Referral]:
        """Return referrals in order of time, of one direction or series when given."""
        found = select(referrals).order_by(referrals.c.created, referrals.c.id)
        if direction is not None:
            found = found.where(referrals.c.direction == direction.value)
        if series:
            found = found.where(referrals.c.series == series)
        return [_referral(row) for row in self._run(found)]

    def was_sent(self, series: str) -> bool:
        """Whether a referral of the series went out from here."""
        return _SENT.run(self._session, {"of": series}).fetchone() is not None

    def add_step(self, step: ReferralStep) -> bool:
        """Add a step and store the folded state; False when that agency's step of this id is known.
        Raises NotFound.

        The first word of a person ends the referral's alarms.
        """
        if self.get(step.referral) is None:
            raise NotFound(f"referral {step.referral[:80]} does not exist; see `tieline clock`")
        row: dict[str, object] = {
            "id": step.id,
            "referral": step.referral,
            "state": step.state.value,
            "agency": step.agency,
            "person": step.person,
            "at": step.at,
            "text": step.text,
            "passed_to": step.passed_to,
            "countries": ",".join(step.countries),
        }
        if step.outcome is not None:
            row |= asdict(step.outcome)
        if not self._session.insert_new(referral_steps, row):
            return False
        state = fold(self.steps(step.referral))
        self._session.change(referrals, step.referral, {"state": state.value}, "referral")
        if state not in UNACKNOWLEDGED:
            Alarms(self._session).end(step.referral, self._session.now())
        return True

    def steps(self, referral: str) -> list[ReferralStep]:
        """Return a referral's steps in order of their times."""
        found = select(referral_steps).where(referral_steps.c.referral == referral)
        return [
            _step(row)
            for row in self._run(found.order_by(referral_steps.c.at, referral_steps.c.id))
        ]


def _referral(row: Row[Any]) -> Referral:
    return Referral(
        **{
            **row._mapping,
            "direction": Direction(row.direction),
            "urgency": Urgency(row.urgency),
            "state": ReferralState(row.state),
        }
    )


def _step(row: Row[Any]) -> ReferralStep:
    values = dict(row._mapping)
    counts = {name: values.pop(name) for name in _COUNTS}
    values["state"] = ReferralState(row.state)
    values["countries"] = tuple(filter(None, row.countries.split(",")))
    outcome = None if counts["identified"] is None else Outcome(**counts)
    return ReferralStep(**values, outcome=outcome)
