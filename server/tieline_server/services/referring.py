"""A recipient's steps on referrals that came in, and the one way a referral goes out.

A referral is one signed message, queued in the transaction that records it (who is told: see
telling.py). The steps of the recipient travel back the same way, to who sent it and, for a referral
that was passed on, to the first sender as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from tieline.v1 import envelope_pb2, operator_pb2, payload_pb2, requests_pb2
from tieline_client.errors import InvalidInput, NotFound, PolicyRefused
from tieline_client.identifiers import new_id, series_owner
from tieline_client.payloads import timestamp

from tieline_server.domain import referral as clock
from tieline_server.domain.alarm import alarms_of, reminder_of
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import (
    Direction,
    Referral,
    ReferralState,
    ReferralStep,
    Urgency,
)
from tieline_server.domain.request import Use
from tieline_server.domain.series import Series, SeriesStatus
from tieline_server.services.attachments import Packed, pack_series
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.held_under import with_items
from tieline_server.services.leading import claim
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.notices import logged_references, series_out
from tieline_server.services.permissions import Held, forward_question, held, hint
from tieline_server.services.restricting import still
from tieline_server.services.retracting import accompany
from tieline_server.services.sending import send
from tieline_server.services.series_life import advance
from tieline_server.services.views import (
    inbox_entry,
    outcome_in,
    outcome_out,
)

RECIPIENTS_STEPS = frozenset(
    {
        ReferralState.ACKNOWLEDGED,
        ReferralState.ACCEPTED,
        ReferralState.DECLINED,
        ReferralState.PASSED_ON,
        ReferralState.OUTCOME,
    }
)
"""What an agency that was told may do; the sender's node says the rest."""


def parse_urgency(value: int) -> Urgency:
    """Return the urgency; 0 is routine. Raises InvalidInput."""
    try:
        return Urgency(value or int(Urgency.ROUTINE))
    except ValueError:
        raise InvalidInput("urgency is immediate, urgent or routine") from None


class Referring:
    """Steps referrals that came in."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def step(
        self, person: Person, request: operator_pb2.StepReferralRequest
    ) -> operator_pb2.InboxEntry:
        """Take a step on a referral that came in. Raises NotFound, WrongState, PolicyRefused."""
        node = self._node
        try:
            wanted = ReferralState(request.state)
        except ValueError:
            raise InvalidInput(f"{request.state!r} is no step of a referral") from None
        if wanted not in RECIPIENTS_STEPS:
            raise InvalidInput(f"{wanted.value} is not a step of who was told, but of its sender")
        if request.lead and wanted is not ReferralState.ACCEPTED:
            raise InvalidInput("who accepts a referral may lead; say it with that")
        text = clean(request.text)
        if wanted is ReferralState.DECLINED and not text:
            raise InvalidInput("declining needs a reason; say --reason TEXT")
        referral = node.store.read(lambda tx: incoming(tx, request.id))
        if referral.direction is Direction.OUTSIDE and referral.sender != node.agency:
            raise NotFound(f"{referral.sender} told it, and says what came of it")
        onward = self._onward(referral, request.passed_to) if request.passed_to else None
        if (wanted is ReferralState.PASSED_ON) != (onward is not None):
            raise InvalidInput("passing on needs the agency, and only passing on does; say --to")

        def work(tx: Tx) -> tuple[operator_pb2.InboxEntry, set[str]]:
            current = incoming(tx, request.id)
            clock.check_step(current.state, wanted)
            step = ReferralStep(
                id=new_id(),
                referral=current.id,
                state=wanted,
                agency=node.agency,
                person=person.name,
                at=node.clock(),
                text=text,
                passed_to=request.passed_to,
                outcome=outcome_in(request.outcome) if wanted is ReferralState.OUTCOME else None,
            )
            woken = take_step(node, tx, current, step, person)
            if request.lead:
                claim(node, tx, current, person)
            if onward is not None:
                self._pass_on(tx, current, onward, person)
                woken.add(onward.agency)
            return inbox_entry(tx, referral=incoming(tx, request.id)), woken

        entry, woken = node.store.write(work)
        for agency in woken:
            node.wake(agency)
        return entry

    def _onward(self, referral: Referral, agency: str) -> _Onward:
        node = self._node
        if agency in (node.agency, referral.sender, series_owner(referral.series)):
            raise InvalidInput(f"{agency} has this referral already; name another agency")
        found = node.store.read(lambda tx: tx.series.get(referral.series))
        if found is None:
            raise NotFound("the series is no longer here")
        series = node.store.read(lambda tx: with_items(tx, found))
        question = forward_question(
            node, Use.PASS_ON, node.agency, agency, series, referral.purpose
        )
        permission = node.store.read(
            lambda tx: held(node, tx, series.id, Use.PASS_ON, (agency,), referral.purpose)
        )
        decision = node.policy.decide(replace(question, permission=permission is not None))
        what = f"passing on to {agency}"
        if not decision.allowed:
            ask = hint(node, question, Use.PASS_ON, series.id, agency, referral.case_ref)
            raise PolicyRefused(
                f"{what}: {decision.why}{ask}",
                rules=" ".join(decision.rules),
            )
        rules = decision.rules
        original = node.store.read(lambda tx: original_envelope(tx, referral))
        packed = pack_series(node, series.id, agency, under=series.handling)
        return _Onward(agency, rules, series, original, packed, permission)

    def _pass_on(self, tx: Tx, referral: Referral, onward: _Onward, person: Person) -> None:
        node = self._node
        passed = Referral(
            id=new_id(),
            root=referral.root,
            series=referral.series,
            direction=Direction.OUT,
            sender=node.agency,
            recipient=onward.agency,
            country=referral.country,
            urgency=referral.urgency,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            person=person.name,
            created=node.clock(),
            note=referral.note,
        )
        send_referral(
            node,
            tx,
            passed,
            onward.series,
            onward.packed,
            onward.rules,
            onward.original,
            permission=onward.permission,
        )


@dataclass(frozen=True, slots=True)
class _Onward:
    agency: str
    rules: tuple[str, ...]
    series: Series
    original: envelope_pb2.Envelope
    packed: Packed | None
    permission: Held | None


def take_step(
    node: Node, tx: Tx, referral: Referral, step: ReferralStep, person: Person
) -> set[str]:
    """Record a step on a referral that came in and tell its sender, and the series' owner.

    Returns who has mail now.
    """
    tx.referrals.add_step(step)
    now = tx.referrals.get(referral.id) or referral
    if now.direction is Direction.IN and now.state is step.state:
        for alarm in reminder_of(now, now.state, step.at, node.defaults.targets):
            tx.alarms.set(alarm)
    apply_outcome(tx, referral.series, step)
    recipients = {referral.sender}
    if referral.root != referral.id or referral.direction is Direction.OUTSIDE:
        recipients.add(series_owner(referral.series))
    recipients.discard(node.agency)
    for recipient in recipients:
        payload = payload_pb2.Payload(
            person=person.name,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            referral_step=payload_pb2.ReferralStep(
                id=step.id,
                referral=referral.id,
                root=referral.root,
                state=step.state.value,
                step_time=timestamp(step.at),
                text=step.text,
                passed_to=step.passed_to,
            ),
        )
        if step.outcome is not None:
            payload.referral_step.outcome.CopyFrom(outcome_out(step.outcome))
        send(
            node,
            tx,
            payload,
            recipient=recipient,
            lane=referral.urgency,
            subject=referral.id,
        )
    tx.audit.append(
        node.entry(
            f"referral.{step.state.value}",
            person=person.name,
            peer=referral.sender,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            subjects=(referral.id, referral.series),
        )
    )
    return recipients


def incoming(tx: Tx, referral_id: str) -> Referral:
    """Return a referral that came in, or what somebody told by other means; raise NotFound."""
    referral = tx.referrals.get(referral_id)
    if referral is None or referral.direction is Direction.OUT:
        raise NotFound(f"no referral {referral_id[:40]!r} came in; see `tieline inbox`")
    return referral


def original_envelope(tx: Tx, referral: Referral) -> envelope_pb2.Envelope:
    """Return the envelope of a referral that came in, as it came; it holds those before it."""
    for message in tx.inbox.by_subject(referral.id):
        if message.kind == "referral":
            return envelope_pb2.Envelope.FromString(message.envelope)
    raise NotFound("the signed referral is no longer here")


def handed_over(
    node: Node, tx: Tx, message: str, referral_id: str, agency: str, *, delivered: bool
) -> None:
    """Note what the recipient's node said of the message with a referral, where that is still
    here; one that came ends those that it overtakes."""
    referral = tx.referrals.get(referral_id)
    if referral is None:
        return
    step = clock.handover_step(message, referral_id, agency, node.clock(), delivered=delivered)
    tx.referrals.add_step(step)
    if delivered:
        overtake(node, tx, referral)


def overtake(node: Node, tx: Tx, referral: Referral) -> None:
    """End the referrals that this one overtakes, or this one where it comes late: the same was told
    again with more urgency, or with more items. The recipient does so once it has both, and so does
    the sender."""
    same = tx.referrals.find(referral.direction, referral.series)
    for one in same:
        over = [other for other in same if one.is_overtaken_by(other)]
        if not over:
            continue
        later = min(over, key=lambda other: other.urgency)
        state, how = ReferralState.OVERTAKEN, f"as {later.urgency.name.lower()}"
        if later.urgency == one.urgency:
            state, how = ReferralState.REPEATED, "with what came since"
        step = ReferralStep(
            id=str(uuid5(UUID(later.id), one.id)),
            referral=one.id,
            state=state,
            agency=later.sender,
            person=later.person,
            at=later.created,
            text=f"told again {how}",
        )
        if tx.referrals.add_step(step):
            tx.audit.append(
                node.entry(
                    f"referral.{step.state.value}",
                    person=later.person,
                    peer=later.recipient if later.sender == node.agency else later.sender,
                    purpose=later.purpose,
                    case_ref=later.case_ref,
                    subjects=(one.id, later.id, one.series),
                )
            )


def send_referral(
    node: Node,
    tx: Tx,
    referral: Referral,
    series: Series,
    packed: Packed | None,
    rules: tuple[str, ...],
    original: envelope_pb2.Envelope | None = None,
    *,
    permission: Held | None = None,
    stated: requests_pb2.VitalInterests | None = None,
) -> None:
    """Record a referral and queue its message, with the audit entry, in one transaction.

    Raises WrongState or PolicyRefused when the series was withdrawn or narrowed meanwhile.
    """
    series = still(tx, series, referral.recipient)
    tx.referrals.add(referral)
    for alarm in alarms_of(referral, node.clock(), node.defaults.targets):
        tx.alarms.set(alarm)
    assessments = list(tx.series.assessments(series.id))
    items = packed.attachment.items if packed else 0
    payload = payload_pb2.Payload(
        person=referral.person,
        purpose=referral.purpose,
        case_ref=referral.case_ref,
        referral=payload_pb2.Referral(
            id=referral.id,
            root=referral.root,
            series=series_out(series, assessments, items, with_name=False),
            country=referral.country,
            urgency=int(referral.urgency),
            note=referral.note,
            items=packed.reference() if packed else None,
            original=original,
            permission=permission.envelope if permission else None,
            vital_interests=stated,
        ),
    )
    send(
        node,
        tx,
        payload,
        recipient=referral.recipient,
        lane=referral.urgency,
        subject=referral.id,
        items=packed,
    )
    accompany(node, tx, series.id, referral.recipient)
    tx.audit.append(
        node.entry(
            "referral.sent",
            person=referral.person,
            peer=referral.recipient,
            purpose=referral.purpose,
            case_ref=referral.case_ref,
            subjects=(referral.id, series.id),
            rules=rules,
            country=referral.country,
            items=items,
            references=logged_references(series.references),
            **({"permission": permission.request} if permission else {}),
            **legal_basis(node, [referral.recipient], stated),
        )
    )


def apply_outcome(tx: Tx, series: str, step: ReferralStep) -> None:
    """Raise a series' count of identified victims to what a step's outcome reports.

    What is closed or withdrawn stays so.
    """
    outcome = step.outcome
    if outcome is None or not outcome.identified:
        return
    known = tx.series.get(tx.aliases.current(series)) or tx.series.get(series)
    if known is not None and outcome.identified > known.identified:
        tx.series.set_identified(known.id, outcome.identified)
        if known.status not in (SeriesStatus.CLOSED, SeriesStatus.WITHDRAWN):
            who = {"agency": step.agency, "person": step.person}
            advance(tx, known, SeriesStatus.IDENTIFIED, at=step.at, **who)
