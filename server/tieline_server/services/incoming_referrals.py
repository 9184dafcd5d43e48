"""Referrals that come in, and the steps of those who were told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from tieline.v1 import payload_pb2, series_pb2
from tieline_client.errors import InvalidInput, NotFound, SignatureRefused
from tieline_client.handling import stricter
from tieline_client.identifiers import check_agency, check_country, check_id, series_owner
from tieline_client.payloads import moment

from tieline_server.domain.alarm import alarms_of
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Referral, ReferralState, ReferralStep, further
from tieline_server.domain.request import Use
from tieline_server.domain.series import Origin, Series
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import (
    Handled,
    Message,
    NotYet,
    check_told,
    claim_items,
    keep_series,
    owners_referral,
    stated_time,
    told_series,
)
from tieline_server.services.leading import announce
from tieline_server.services.notices import handling_in
from tieline_server.services.permissions import proven
from tieline_server.services.referring import (
    RECIPIENTS_STEPS,
    apply_outcome,
    overtake,
    parse_urgency,
)
from tieline_server.services.views import outcome_in
from tieline_server.services.vital_interests import check_stated


@dataclass(frozen=True, slots=True)
class IncomingReferrals:
    """Handles referral and referral_step."""

    node: Node

    def referral(self, message: Message) -> Handled:
        """A series that its owner, or somebody who was told of it, tells us."""
        node, payload, body = self.node, message.payload, message.payload.referral
        check_id(body.id, "referral")
        check_id(body.root, "referral root")
        node.check_purpose(payload.purpose, payload.case_ref)
        owned = series_owner(body.series.id) == message.peer
        notice = body.series if owned else self._owners_notice(message.peer, body)
        if owned and body.root != body.id:
            raise InvalidInput("the first referral of a chain is its own root")
        series = told_series(node, notice, Origin.REFERRAL, payload.case_ref)
        if not owned:  # its owner may have restricted it since it signed
            stated = handling_in(body.series.handling)
            series = replace(series, handling=stricter(series.handling, stated))
        self._allow(message, series)
        referral = Referral(
            id=body.id,
            root=body.root,
            series=series.id,
            direction=Direction.IN,
            sender=message.peer,
            recipient=node.agency,
            country=check_country(body.country) if body.country else "",
            urgency=parse_urgency(body.urgency),
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            created=moment(payload.issue_time),
            note=clean(body.note),
        )

        def effect(tx: Tx) -> None:
            if tx.referrals.get(referral.id) is not None:
                raise InvalidInput("a referral of this id is known")
            for known in tx.referrals.find(Direction.IN, series.id):
                if (known.root, known.sender) == (referral.root, referral.sender):
                    raise SignatureRefused("the envelope inside was passed on to us before")
            told = [(series.owner, notice)]
            if not owned:
                told.append((message.peer, body.series))
            kept = keep_series(node, tx, series, told, message.woken)
            if body.HasField("items"):
                claim_items(tx, message, body.items, kept)
            tx.referrals.add(referral)
            for alarm in alarms_of(referral, node.clock(), node.defaults.targets):
                tx.alarms.set(alarm)
            tx.referrals.add_step(
                ReferralStep(
                    id=payload.id,
                    referral=referral.id,
                    state=ReferralState.DELIVERED,
                    agency=node.agency,
                    person="",
                    at=node.clock(),
                )
            )
            overtake(node, tx, referral)

        return referral.id, effect

    def _owners_notice(self, peer: str, body: payload_pb2.Referral) -> series_pb2.SeriesNotice:
        """Only the owner tells its series; who passes it on shows the owner's signed referral."""
        owner = series_owner(body.series.id)
        if owner != self.node.agency and not body.HasField("original"):
            raise SignatureRefused(f"a series of {owner} comes without its own envelope")
        if owner == self.node.agency:
            return body.series
        owners = owners_referral(self.node, body.original, peer)
        check_told(body, owners)
        return owners.referral.series

    def _allow(self, message: Message, series: Series) -> None:
        node, purpose = self.node, message.payload.purpose
        if series.owner == message.peer:
            question = node.question(
                Action.BE_TOLD,
                asker=node.agency,
                holder=message.peer,
                purpose=purpose,
                handling=series.handling,
                owner=series.owner,
            )
        else:
            question = node.question(
                Action.PASS_ON,
                asker=message.peer,
                holder=node.agency,
                purpose=purpose,
                handling=series.handling,
                owner=series.owner,
            )
        body = message.payload.referral
        permitted = proven(node, message, body.permission, series=series.id, use=Use.PASS_ON)
        stated = body.HasField("vital_interests")
        if stated:
            check_stated(body.vital_interests)
        question = replace(
            question,
            permission=permitted and series.owner != message.peer,
            vital_interests=stated,
            second_officer=stated,
        )
        node.allow(question, f"a referral of {series.owner} from {message.peer}")

    def referral_step(self, message: Message) -> Handled:
        """What somebody did with a referral: whom we told, or whom it was passed on to."""
        payload, body = message.payload, message.payload.referral_step
        check_id(body.id, "step")
        try:
            state = ReferralState(body.state)
        except ValueError:
            raise InvalidInput(f"{body.state!r} is no step of a referral") from None
        if state not in RECIPIENTS_STEPS:
            raise InvalidInput(f"{state.value} is no step that a recipient takes")
        passed_to = check_agency(body.passed_to) if state is ReferralState.PASSED_ON else ""
        outcome = outcome_in(body.outcome) if body.HasField("outcome") else None
        step = ReferralStep(
            id=body.id,
            referral=body.referral,
            state=state,
            agency=message.peer,
            person=payload.person,
            at=stated_time(self.node, body.step_time),
            text=clean(body.text),
            passed_to=passed_to,
            outcome=outcome,
        )

        def effect(tx: Tx) -> None:
            told = record_step(tx, message.peer, body.root, step)
            apply_outcome(tx, told.series, step)
            if told.id == body.referral:
                message.woken.update(announce(self.node, tx, told))

        return body.referral, effect


def record_step(tx: Tx, peer: str, root: str, step: ReferralStep) -> Referral:
    """Record what ``peer`` did with a referral; return the one that it is about here.

    1. Who was told a referral takes steps on it; whoever told us of it learns the same from the
       recipient itself, and we note it beside theirs.
    2. A country that was told by other means is told on by nobody: who told it goes on.
    3. Who told us a referral may have told its country by other means as well.
    4. Otherwise somebody down a chain of pass-ons acted, which began with ``root``. What of 2 and 3
       has the id of a referral in that chain, somebody else put there, who was told it.

    Raises SignatureRefused for a step that is not its to take, NotFound and NotYet.
    """
    told = tx.referrals.get(step.referral)
    # 1
    if told is not None and told.direction is Direction.OUT:
        if told.recipient != peer:
            raise SignatureRefused(f"{peer} is not who was told")
        tx.referrals.add_step(step)
        first = tx.referrals.get(told.root)
        if first is not None and first.direction is Direction.IN:
            beside = str(uuid5(UUID(step.id), first.id))
            tx.referrals.add_step(replace(further(step, first.id), id=beside))
        return told
    # 2, 3
    outside = step.state is ReferralState.TOLD_OUTSIDE
    not_theirs = False
    if told is not None and (told.direction is Direction.OUTSIDE or outside):
        if told.sender == peer:
            tx.referrals.add_step(step)
            return told
        not_theirs = True
    # 4
    told = tx.referrals.get(root) if root != step.referral else None
    if told is None or told.direction is not Direction.OUT:
        if not_theirs:
            raise SignatureRefused(f"{peer} is not who told it")
        raise NotFound("this referral is not known here")
    tx.referrals.add_step(_further(tx, told, step))
    return told


def _further(tx: Tx, first: Referral, step: ReferralStep) -> ReferralStep:
    """Return a step that somebody down the chain took, as one of the first referral.

    Raises NotYet for who is not known to have been told: the step of who passed it on may still be
    on its way.
    """
    if step.agency not in {known.passed_to for known in tx.referrals.steps(first.id)}:
        raise NotYet(f"nobody has said yet that the referral was passed on to {step.agency}")
    return further(step, first.id)
