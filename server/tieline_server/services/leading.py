"""Several agencies of one country were told: one leads, the others are told which.

1. An agency accepts, or claims the lead too (`claim`, a signed ReferralLead to its sender).
2. The sender holds what all of them did side by side (domain/lead.py) and tells each of them who
   leads, where that is news (`announce`). One that declines or passes on hands it to the next.
3. That another agency was told is news too: where policy would not let a recipient be told the
   series today, it learns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from tieline.v1 import payload_pb2
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused, SignatureRefused
from tieline_client.identifiers import check_agency, check_id, new_id
from tieline_client.payloads import timestamp

from tieline_server.domain.lead import choose_lead, lead_said
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Referral, ReferralState, ReferralStep
from tieline_server.services.context import Node, Person
from tieline_server.services.correcting import may_learn
from tieline_server.services.incoming import Handled, Message, stated_time
from tieline_server.services.legal_basis import WITHOUT_AGREEMENT, legal_basis
from tieline_server.services.restricting import why_excluded
from tieline_server.services.sending import send

_MOMENT = timedelta(microseconds=1)


def claim(node: Node, tx: Tx, referral: Referral, person: Person) -> None:
    """Say to the sender of a referral that came in that this agency leads."""
    _say(node, tx, referral, node.agency, node.clock(), person.name, to=referral.sender)


def announce(node: Node, tx: Tx, about: Referral, *, person: str = "") -> set[str]:
    """Tell who leads to all who were told with a referral; return who has mail now."""
    if about.direction is not Direction.OUT or not about.country:
        return set()
    told = [
        (one, tx.referrals.steps(one.id))
        for series in tx.aliases.family(tx.aliases.current(about.series))
        for one in tx.referrals.find(Direction.OUT, series)
        if one.country == about.country and one.stands
    ]
    if len({one.recipient for one, _ in told}) < 2:
        return set()
    lead, woken = choose_lead(told), set()
    for referral, steps in told:
        said = lead_said(referral, steps)
        if (said.passed_to if said else "") == lead or not _may(node, tx, referral):
            continue
        # a clock that was set back must not bring back what was said before
        at = max(node.clock(), said.at + _MOMENT) if said else node.clock()
        _say(node, tx, referral, lead, at, person, to=referral.recipient)
        woken.add(referral.recipient)
    return woken


def _may(node: Node, tx: Tx, referral: Referral) -> bool:
    series = tx.series.get(referral.series)
    if series is None or node.cut_off(referral.recipient):
        return False
    if why_excluded(tx, referral.series, referral.recipient):
        return False
    return node.policy.decide(may_learn(node, series, referral)).allowed


def _say(
    node: Node, tx: Tx, referral: Referral, lead: str, at: datetime, person: str, *, to: str
) -> None:
    step = _step(new_id(), referral.id, node.agency, person, lead, at)
    tx.referrals.add_step(step)
    payload = payload_pb2.Payload(
        person=person,
        purpose=referral.purpose,
        case_ref=referral.case_ref,
        referral_lead=payload_pb2.ReferralLead(
            id=step.id, referral=referral.id, lead=lead, lead_time=timestamp(at)
        ),
    )
    send(node, tx, payload, recipient=to, lane=referral.urgency, subject=referral.id)
    basis: Any = legal_basis(node, [to], otherwise=WITHOUT_AGREEMENT["referral_lead"])
    tx.audit.append(
        node.entry(
            "referral.lead",
            person=person,
            peer=to,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            subjects=(referral.id, referral.series),
            lead=lead,
            **basis,
        )
    )


def _step(
    identifier: str, referral: str, agency: str, person: str, lead: str, at: datetime
) -> ReferralStep:
    return ReferralStep(
        id=identifier,
        referral=referral,
        state=ReferralState.LEAD,
        agency=agency,
        person=person,
        at=at,
        passed_to=lead,
    )


@dataclass(frozen=True, slots=True)
class IncomingLead:
    """Handles referral_lead."""

    node: Node

    def lead(self, message: Message) -> Handled:
        """Who was told claims the lead, or who told us says who leads."""
        node, payload, body = self.node, message.payload, message.payload.referral_lead
        check_id(body.id, "lead")
        check_id(body.referral, "referral")
        lead = check_agency(body.lead) if body.lead else ""
        at = stated_time(node, body.lead_time)
        step = _step(body.id, body.referral, message.peer, payload.person, lead, at)

        def effect(tx: Tx) -> None:
            referral = tx.referrals.get(body.referral)
            if referral is None:
                raise NotFound("this referral is not known here yet")
            if referral.direction is Direction.OUT:
                if referral.recipient != message.peer:
                    raise SignatureRefused(f"{message.peer} is not who was told")
                if lead != message.peer:
                    raise InvalidInput("who was told claims the lead for itself alone")
                tx.referrals.add_step(step)
                message.woken.update(announce(node, tx, referral))
                return
            if referral.direction is not Direction.IN or referral.sender != message.peer:
                raise SignatureRefused(f"{message.peer} did not send this referral")
            series = tx.series.get(referral.series)
            if series is not None:
                decision = node.policy.decide(may_learn(node, series, referral))
                if not decision.allowed:
                    raise PolicyRefused(f"who leads: {decision.why}")
            tx.referrals.add_step(step)

        return body.referral, effect
