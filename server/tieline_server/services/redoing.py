"""What this agency's own messages did to its own records, done again after it was restored.

`take_effect` is called for each message that a peer gave back (recovering.py), and again for those
about a referral, broadcast or deposit that arrives later than the step that it is about. Everything
goes by ids, so nothing happens twice. A kind without a row here did nothing to own records.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tieline.v1 import payload_pb2
from tieline_client import limits
from tieline_client.identifiers import new_id, series_owner
from tieline_client.payloads import moment

from tieline_server.domain.alarm import alarms_of
from tieline_server.domain.broadcast import Broadcast, BroadcastRecipientState
from tieline_server.domain.merging import Alias
from tieline_server.domain.messages import OutMessage, OutState
from tieline_server.domain.policy import Disclosure
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction, Referral, ReferralState, ReferralStep
from tieline_server.domain.request import (
    Request,
    RequestedSeries,
    RequestKind,
    RequestState,
    SeriesState,
    Side,
    parse_level,
    parse_use,
)
from tieline_server.domain.same_as import LinkState, SameAs, Word, later
from tieline_server.domain.series import SeriesStatus
from tieline_server.domain.series_life import BEFORE_REFERRED
from tieline_server.domain.series_note import SeriesNote
from tieline_server.services import judgements, redoing_deposits
from tieline_server.services.broadcasting import ACKNOWLEDGE, answer_in
from tieline_server.services.context import Node
from tieline_server.services.given_back import Told, series_back
from tieline_server.services.incoming_outside import telling
from tieline_server.services.incoming_splits import read_split
from tieline_server.services.referring import apply_outcome, handed_over, parse_urgency
from tieline_server.services.retracting import said_again
from tieline_server.services.series_life import advance
from tieline_server.services.split_items import settle
from tieline_server.services.views import outcome_in


def take_effect(node: Node, tx: Tx, told: Told) -> None:
    """Do again what a message that was delivered did here."""
    effect = _EFFECTS.get(told.message.kind)
    if effect is not None:
        effect(node, tx, told)


def note_answer(node: Node, tx: Tx, message: OutMessage) -> None:
    """Note what its recipient answered to a message of ours of which nothing more is left, or which
    it refused: whether it was told."""
    delivered = message.state is OutState.DELIVERED
    if message.kind == "referral":
        about = message.id, message.subject, message.recipient
        handed_over(node, tx, *about, delivered=delivered)
    elif message.kind == "broadcast":
        states = BroadcastRecipientState
        state = states.DELIVERED if delivered else states.REFUSED
        tx.broadcasts.settle_recipient([message.subject], message.recipient, state)


def _referral(node: Node, tx: Tx, told: Told) -> None:
    payload, body, peer = told.payload, told.payload.referral, told.message.recipient
    series_back(node, tx, body.series, payload.case_ref)
    judgements.given_back(node, tx, body.series.id, body.series.assessments)
    if tx.referrals.get(body.id) is None:
        referral = Referral(
            id=body.id,
            root=body.root,
            series=body.series.id,
            direction=Direction.OUT,
            sender=node.agency,
            recipient=peer,
            country=body.country,
            urgency=parse_urgency(body.urgency),
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            created=told.message.created,
            note=body.note,
        )
        tx.referrals.add(referral)
        # From now, not from then: what was said meanwhile is still on its way back.
        for alarm in alarms_of(referral, node.clock(), node.defaults.targets):
            tx.alarms.set(alarm)
        known = tx.series.get(body.series.id)
        if known is not None and known.status in BEFORE_REFERRED:
            who = {"agency": node.agency, "person": payload.person}
            advance(tx, known, SeriesStatus.REFERRED, at=told.message.created, **who)
    handed_over(node, tx, told.message.id, body.id, peer, delivered=True)


def _referral_step(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.referral_step
    referral = tx.referrals.get(body.referral)
    if referral is None:
        return
    outcome = outcome_in(body.outcome) if body.HasField("outcome") else None
    step = ReferralStep(
        id=body.id,
        referral=body.referral,
        state=ReferralState(body.state),
        agency=node.agency,
        person=told.payload.person,
        at=moment(body.step_time),
        text=body.text,
        passed_to=body.passed_to,
        outcome=outcome,
    )
    tx.referrals.add_step(step)
    apply_outcome(tx, referral.series, step)


def _referral_correction(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.referral_correction
    referral = tx.referrals.get(body.referral)
    if referral is None:
        return
    judgements.given_back(node, tx, referral.series, body.assessments)
    tx.referrals.add_step(
        ReferralStep(
            id=body.id,
            referral=body.referral,
            state=ReferralState.CORRECTED,
            agency=node.agency,
            person=told.payload.person,
            at=moment(body.correct_time),
            countries=tuple(body.countries),
        )
    )


def _series_merge(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.series_merge
    if series_owner(body.merged) == node.agency:
        at = moment(body.merge_time)
        tx.aliases.add(Alias(body.merged, body.series, body.id, told.payload.person, at))


def _series_split(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.series_split
    if series_owner(body.series) != node.agency:
        return
    series_back(node, tx, body.made, "")
    split = read_split(node, told.payload, b"")
    tx.splits.add(split)
    tx.splits.tell(split, told.message.recipient)
    settle(node, tx, body.series)


def _referral_lead(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.referral_lead
    if tx.referrals.get(body.referral) is not None:
        tx.referrals.add_step(
            ReferralStep(
                id=body.id,
                referral=body.referral,
                state=ReferralState.LEAD,
                agency=node.agency,
                person=told.payload.person,
                at=moment(body.lead_time),
                passed_to=body.lead,
            )
        )


def _told_outside(node: Node, tx: Tx, told: Told) -> None:
    payload, body = told.payload, told.payload.told_outside
    if tx.referrals.get(body.referral) is None:
        if not body.alone:
            return
        tx.referrals.add(telling(body, payload, sender=node.agency))
    tx.referrals.add_step(
        ReferralStep(
            id=body.id,
            referral=body.referral,
            state=ReferralState.TOLD_OUTSIDE,
            agency=node.agency,
            person=payload.person,
            at=moment(body.tell_time),
            text=body.reference,
        )
    )


def _broadcast(node: Node, tx: Tx, told: Told) -> None:
    payload, body, peer = told.payload, told.payload.broadcast, told.message.recipient
    notice = body.series
    if body.HasField("original"):
        inner = payload_pb2.Payload.FromString(body.original.payload)
        notice = inner.referral.series
    series_back(node, tx, notice, payload.case_ref)
    if tx.broadcasts.get(body.id) is None:
        broadcast = Broadcast(
            id=body.id,
            series=notice.id,
            direction=Direction.OUT,
            sender=node.agency,
            originator=series_owner(notice.id),
            group=payload.audience_group,
            group_version=payload.audience_group_version,
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            question=body.question,
            created=told.message.created,
        )
        tx.broadcasts.add(broadcast, [peer])
    elif peer not in tx.broadcasts.recipients(body.id):
        tx.broadcasts.add_recipient(body.id, peer)
    tx.broadcasts.set_recipient(body.id, peer, BroadcastRecipientState.DELIVERED)


def _broadcast_answer(node: Node, tx: Tx, told: Told) -> None:
    body = told.payload.broadcast_answer
    broadcast = tx.broadcasts.get(body.broadcast)
    if broadcast is None or broadcast.direction is not Direction.IN:
        return
    state = BroadcastRecipientState.ACKNOWLEDGED
    if body.kind != ACKNOWLEDGE:
        state = BroadcastRecipientState.ANSWERED
        tx.broadcasts.add_answer(answer_in(body, node.agency, told.payload.person))
    tx.broadcasts.set_recipient(broadcast.id, node.agency, state)


def _retraction(node: Node, tx: Tx, told: Told) -> None:
    """An own retraction; one that was only forwarded comes again from who brought it."""
    if series_owner(told.payload.retraction.series) == node.agency:
        said_again(tx, told.payload, told.message.recipient, told.message.id)


def _release(node: Node, tx: Tx, told: Told) -> None:
    """Whom references were released to is told when the series is taken back."""
    payload, body = told.payload, told.payload.release
    level = parse_level(body.level, Disclosure.NOTHING)
    request = Request(
        id=body.request,
        kind=RequestKind.RELEASE,
        side=Side.IN,
        peer=told.message.recipient,
        person=body.asked_by,
        purpose=payload.purpose,
        case_ref=payload.case_ref,
        created=told.message.created,
        expires=moment(body.expire_time),
        state=RequestState.APPROVED,
        level=level,
        decided_by=payload.person,
        decided=told.message.created,
    )
    tx.requests.put(request)
    released = RequestedSeries(body.series.id, body.shared, SeriesState.RELEASED)
    tx.requests.put_series(body.request, released)


def _permission_request(node: Node, tx: Tx, told: Told) -> None:
    payload, body = told.payload, told.payload.permission_request
    request = Request(
        id=body.id,
        kind=RequestKind.PERMISSION,
        side=Side.OUT,
        peer=told.message.recipient,
        person=payload.person,
        purpose=payload.purpose,
        case_ref=payload.case_ref,
        created=told.message.created,
        expires=told.message.created + limits.REQUEST_LIFE,
        use=parse_use(body.action),
        agencies=tuple(body.agencies),
        text=body.note,
    )
    tx.requests.add(request, [RequestedSeries(body.series, 0)])


def _permission(node: Node, tx: Tx, told: Told) -> None:
    """What this agency's officer decided of a use that others asked for."""
    payload, body = told.payload, told.payload.permission
    request = _undecided(tx, told, body.request, RequestKind.PERMISSION)
    if request is not None:
        decided = replace(
            request,
            state=RequestState(body.state),
            decided_by=payload.person,
            decided=told.message.created,
            expires=moment(body.expire_time),
            reason=body.reason,
        )
        tx.requests.put(decided)


def _request_answer(node: Node, tx: Tx, told: Told) -> None:
    """That nothing is released. What is, says `_release`; counts have to be released again."""
    payload, body = told.payload, told.payload.request_answer
    request = _undecided(tx, told, body.request, RequestKind.RELEASE)
    if request is None or body.state == RequestState.APPROVED.value:
        return
    by, at = payload.person, moment(body.decide_time)
    state = RequestState(body.state)
    tx.requests.put(replace(request, state=state, decided_by=by, decided=at, reason=body.reason))
    waits = [one for one in tx.requests.series_of(request.id) if one.state is SeriesState.WAITING]
    tx.requests.mark(request.id, [one.series for one in waits], SeriesState.REFUSED)


def _undecided(tx: Tx, told: Told, identifier: str, kind: RequestKind) -> Request | None:
    """Return what a peer asked for, where it is here and waits for a decision."""
    request = tx.requests.get(identifier)
    if request is None or request.state is not RequestState.PENDING:
        return None
    same = (request.kind, request.side, request.peer) == (kind, Side.IN, told.message.recipient)
    return request if same else None


def _tip(node: Node, tx: Tx, told: Told) -> None:
    """A tip that was relayed, where it is still here."""
    body = told.payload.tip
    if tx.clues.tip(body.id) is not None:
        tx.clues.relayed(body.id, told.message.recipient, told.message.created)


def _same_as(node: Node, tx: Tx, told: Told) -> None:
    """What this agency said of two series, under a new id here where the link is gone."""
    payload, body = told.payload, told.payload.same_as
    word = Word(LinkState(body.state), moment(body.say_time), payload.person)
    link = tx.same_as.between(body.series, body.other)
    if link is None:
        link = SameAs(new_id(), body.series, body.other, told.message.created)
        tx.same_as.add(link)
    if later(link.ours, word) is word:
        tx.same_as.say(link.id, word, payload.purpose, payload.case_ref)


def _note(node: Node, tx: Tx, told: Told) -> None:
    """What this agency wrote, where the series is still here."""
    payload, body = told.payload, told.payload.note
    if tx.series.get(body.series) is None:
        return
    at, whom = moment(body.note_time), (told.message.recipient,)
    whole = tx.aliases.current(body.series)
    tx.notes.add(SeriesNote(body.id, whole, node.agency, payload.person, at, body.text, whom))


_EFFECTS: dict[str, Callable[[Node, Tx, Told], None]] = {
    "referral": _referral,
    "referral_step": _referral_step,
    "referral_correction": _referral_correction,
    "series_merge": _series_merge,
    "series_split": _series_split,
    "told_outside": _told_outside,
    "referral_lead": _referral_lead,
    "broadcast": _broadcast,
    "broadcast_answer": _broadcast_answer,
    "note": _note,
    "same_as": _same_as,
    "upload": redoing_deposits.upload,
    "upload_step": redoing_deposits.upload_step,
    "deposit_report": redoing_deposits.deposit_report,
    "retraction": _retraction,
    "tip": _tip,
    "release": _release,
    "permission_request": _permission_request,
    "permission": _permission,
    "request_answer": _request_answer,
}
