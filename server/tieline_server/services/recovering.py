"""Putting back what this agency signed before it was restored, and its peers still hold.

A restored node has forgotten what it did after its backup. Its peers have not: each gives back the
messages that it took from this agency (FetchSent). Signed by our own key they are as good as our
memory, so each goes back into the outbox as delivered, in its old place, and what it did to our own
records is done again: the referral, the broadcast, the upload it announced, the step it told. A
step may come back before the referral that it is about, which its sender replays: it is kept and
takes effect when that arrives (`catch_up`). Everything goes by ids, so nothing happens twice.

What no message carries does not come back: items, names of series, people. The operator imports
them again, as after any restore.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput
from tieline_client.identifiers import new_id, series_owner
from tieline_client.payloads import Audience, moment, open_payload

from tieline_server.domain.broadcast import Broadcast, BroadcastRecipientState
from tieline_server.domain.merging import Alias
from tieline_server.domain.messages import OutMessage, OutState, Reply
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
from tieline_server.domain.series import Origin, SeriesStatus
from tieline_server.domain.series_life import BEFORE_REFERRED
from tieline_server.domain.series_note import SeriesNote
from tieline_server.domain.upload import Upload, UploadState, UploadStep
from tieline_server.services.broadcasting import ACKNOWLEDGE, answer_in
from tieline_server.services.context import Node
from tieline_server.services.incoming import keep_series
from tieline_server.services.incoming_outside import telling
from tieline_server.services.incoming_splits import read_split
from tieline_server.services.notices import series_in
from tieline_server.services.referring import apply_outcome, parse_urgency
from tieline_server.services.retracting import said_again
from tieline_server.services.series_life import advance
from tieline_server.services.split_items import settle
from tieline_server.services.views import outcome_in


@dataclass(frozen=True, slots=True)
class _Told:
    """A message of ours that a peer gave back."""

    message: OutMessage
    payload: payload_pb2.Payload


def put_back(node: Node, tx: Tx, peer: str, messages: Sequence[delivery_pb2.SentMessage]) -> int:
    """Put back what ``peer`` gave back; return how many were not there. Raises SignatureRefused."""
    count = 0
    for one in messages:
        told = _told(node, peer, one)
        if tx.standings.put_back(told.message):
            count += 1
            if told.message.state is OutState.DELIVERED and told.message.envelope:
                _take_effect(node, tx, told)
    return count


def catch_up(node: Node, tx: Tx, subject: str) -> None:
    """Do what messages about ``subject`` that were put back did, now that it is here again."""
    for message in tx.outbox.of_subject(subject):
        if message.state is OutState.DELIVERED and message.envelope:
            _take_effect(node, tx, _Told(message, _payload(message.envelope)))


def _told(node: Node, peer: str, one: delivery_pb2.SentMessage) -> _Told:
    """Check that we signed it; an erased one keeps its place only.

    The time of the signature is not judged: that was the peer's to judge when it came.
    """
    lane, data = parse_urgency(one.lane), one.envelope.SerializeToString()
    payload = payload_pb2.Payload(id=one.id)
    if one.envelope.payload:
        issued = _payload(data).issue_time
        payload = open_payload(
            one.envelope,
            directory=node.directory(),
            issuer=node.agency,
            audience=_for(peer),
            now=moment(issued),
        )
    if payload.id != one.id or not 0 < one.sequence < 2**62:
        raise InvalidInput(f"{peer} gives back message {one.id[:40]} as another")
    delivered = one.reply == int(Reply.APPLIED)
    kind = payload.WhichOneof("body") or ""
    message = OutMessage(
        id=one.id,
        recipient=peer,
        lane=lane,
        kind=kind,
        subject=_subject(payload),
        envelope=data if one.envelope.payload else b"",
        created=moment(payload.issue_time) if payload.HasField("issue_time") else node.clock(),
        attachment=_items(payload),
        sequence=one.sequence,
        state=OutState.DELIVERED if delivered else OutState.REFUSED,
        settled=node.clock(),
        reason=one.reason if not delivered else "given back by its recipient",
    )
    return _Told(message, payload)


def _for(peer: str) -> Callable[[Audience], bool]:
    return lambda audience: audience.agency == peer or bool(audience.group)


def _payload(envelope: bytes) -> payload_pb2.Payload:
    return payload_pb2.Payload.FromString(envelope_pb2.Envelope.FromString(envelope).payload)


def _items(payload: payload_pb2.Payload) -> str:
    """The attachment that went with a message; its chunks are gone, so it cannot go again."""
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Referral | payload_pb2.Broadcast | payload_pb2.Upload):
        return body.items.id
    return ""


def _subject(payload: payload_pb2.Payload) -> str:
    """The id that a message of each kind is about; "" for kinds that this version cannot place."""
    subjects = {
        "referral": payload.referral.id,
        "referral_step": payload.referral_step.referral,
        "broadcast": payload.broadcast.id,
        "broadcast_answer": payload.broadcast_answer.broadcast,
        "upload": payload.upload.id,
        "upload_step": payload.upload_step.upload,
        "retraction": payload.retraction.id,
        "purge_receipt": payload.purge_receipt.retraction,
        "request_answer": payload.request_answer.request,
        "referral_correction": payload.referral_correction.referral,
        "series_merge": payload.series_merge.merged,
        "series_split": payload.series_split.made.id,
        "told_outside": payload.told_outside.referral,
        "referral_lead": payload.referral_lead.referral,
        "release": payload.release.series.id,
        "tip": payload.tip.series,
        "deposit_report": payload.deposit_report.series,
        "same_as": payload.same_as.series,
        "note": payload.note.series,
        "permission_request": payload.permission_request.id,
        "permission": payload.permission.request,
    }
    return subjects.get(payload.WhichOneof("body") or "", "")


# --- what each kind did here ---


def _take_effect(node: Node, tx: Tx, told: _Told) -> None:
    effect = _EFFECTS.get(told.message.kind)
    if effect is not None:
        effect(node, tx, told)


def _series(node: Node, tx: Tx, notice: series_pb2.SeriesNotice, case_ref: str) -> None:
    """A series of ours that is gone comes back as its notice tells it, without name and items."""
    if series_owner(notice.id) == node.agency and tx.series.get(notice.id) is None:
        keep_series(node, tx, series_in(notice, Origin.OWN, case_ref), notice)


def _referral(node: Node, tx: Tx, told: _Told) -> None:
    payload, body, peer = told.payload, told.payload.referral, told.message.recipient
    _series(node, tx, body.series, payload.case_ref)
    if tx.referrals.get(body.id) is None:
        tx.referrals.add(
            Referral(
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
        )
        known = tx.series.get(body.series.id)
        if known is not None and known.status in BEFORE_REFERRED:
            who = {"agency": node.agency, "person": payload.person}
            advance(tx, known, SeriesStatus.REFERRED, at=told.message.created, **who)
    tx.referrals.add_step(
        ReferralStep(
            id=told.message.id,
            referral=body.id,
            state=ReferralState.DELIVERED,
            agency=peer,
            person="",
            at=told.message.settled or node.clock(),
        )
    )


def _referral_step(node: Node, tx: Tx, told: _Told) -> None:
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


def _referral_correction(node: Node, tx: Tx, told: _Told) -> None:
    body = told.payload.referral_correction
    if tx.referrals.get(body.referral) is None:
        return
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


def _series_merge(node: Node, tx: Tx, told: _Told) -> None:
    body = told.payload.series_merge
    if series_owner(body.merged) == node.agency:
        at = moment(body.merge_time)
        tx.aliases.add(Alias(body.merged, body.series, body.id, told.payload.person, at))


def _series_split(node: Node, tx: Tx, told: _Told) -> None:
    body = told.payload.series_split
    if series_owner(body.series) != node.agency:
        return
    _series(node, tx, body.made, "")
    tx.splits.add(read_split(node, told.payload, b""))
    tx.splits.tell(body.id, told.message.recipient)
    settle(node, tx, body.series)


def _referral_lead(node: Node, tx: Tx, told: _Told) -> None:
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


def _told_outside(node: Node, tx: Tx, told: _Told) -> None:
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


def _broadcast(node: Node, tx: Tx, told: _Told) -> None:
    payload, body, peer = told.payload, told.payload.broadcast, told.message.recipient
    notice = body.series
    if body.HasField("original"):
        inner = payload_pb2.Payload.FromString(body.original.payload)
        notice = inner.referral.series
    _series(node, tx, notice, payload.case_ref)
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


def _broadcast_answer(node: Node, tx: Tx, told: _Told) -> None:
    body = told.payload.broadcast_answer
    broadcast = tx.broadcasts.get(body.broadcast)
    if broadcast is None or broadcast.direction is not Direction.IN:
        return
    state = BroadcastRecipientState.ACKNOWLEDGED
    if body.kind != ACKNOWLEDGE:
        state = BroadcastRecipientState.ANSWERED
        tx.broadcasts.add_answer(answer_in(body, node.agency, told.payload.person))
    tx.broadcasts.set_recipient(broadcast.id, node.agency, state)


def _upload(node: Node, tx: Tx, told: _Told) -> None:
    payload, body = told.payload, told.payload.upload
    _series(node, tx, body.series, payload.case_ref)
    if tx.uploads.get(body.id) is None:
        tx.uploads.add(
            Upload(
                id=body.id,
                series=body.series.id,
                direction=Direction.OUT,
                sender=node.agency,
                repository=told.message.recipient,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                person=payload.person,
                created=told.message.created,
                items=body.items.items,
                # All that the restored node holds was there when it deposited.
                generation=tx.standings.generation_at_epoch(),
            )
        )


def _upload_step(node: Node, tx: Tx, told: _Told) -> None:
    body = told.payload.upload_step
    upload = tx.uploads.get(body.upload)
    state = UploadState(body.state)
    if state is UploadState.NUMBERED:
        _used_number(node, tx, body.reference)
    if upload is None:
        return
    tx.uploads.add_step(
        UploadStep(
            id=body.id,
            upload=body.upload,
            state=state,
            agency=node.agency,
            person=told.payload.person,
            at=moment(body.step_time),
            reference=body.reference,
        )
    )
    if state is UploadState.NUMBERED:
        tx.series.set_number(upload.series, body.reference)


def _deposit_report(node: Node, tx: Tx, told: _Told) -> None:
    """What this repository said of a series it may have said after the backup: *identified* too."""
    body = told.payload.deposit_report
    series = tx.series.get(body.series)
    _used_number(node, tx, body.number)
    if series is None or series.status in (SeriesStatus.WITHDRAWN, SeriesStatus.CLOSED):
        return
    if body.number and not series.number:
        tx.series.set_number(series.id, body.number)
    if body.status == SeriesStatus.IDENTIFIED.value:
        at, person = moment(body.report_time), told.payload.person
        advance(tx, series, SeriesStatus.IDENTIFIED, agency=node.agency, person=person, at=at)


def _used_number(node: Node, tx: Tx, reference: str) -> None:
    """A number that this repository gave out is not given out again."""
    tx.uploads.number_used(node.defaults.numbering.own(node.agency, reference) or 0)


def _retraction(node: Node, tx: Tx, told: _Told) -> None:
    """An own retraction; one that was only forwarded comes again from who brought it."""
    if series_owner(told.payload.retraction.series) == node.agency:
        said_again(tx, told.payload, told.message.recipient, told.message.id)


def _release(node: Node, tx: Tx, told: _Told) -> None:
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


def _permission_request(node: Node, tx: Tx, told: _Told) -> None:
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


def _tip(node: Node, tx: Tx, told: _Told) -> None:
    """A tip that was relayed, where it is still here."""
    body = told.payload.tip
    if tx.clues.tip(body.id) is not None:
        tx.clues.relayed(body.id, told.message.recipient, told.message.created)


def _same_as(node: Node, tx: Tx, told: _Told) -> None:
    """What this agency said of two series, under a new id here where the link is gone."""
    payload, body = told.payload, told.payload.same_as
    word = Word(LinkState(body.state), moment(body.say_time), payload.person)
    link = tx.same_as.between(body.series, body.other)
    if link is None:
        link = SameAs(new_id(), body.series, body.other, told.message.created)
        tx.same_as.add(link)
    if later(link.ours, word) is word:
        tx.same_as.say(link.id, word, payload.purpose, payload.case_ref)


def _note(node: Node, tx: Tx, told: _Told) -> None:
    """What this agency wrote, where the series is still here."""
    payload, body = told.payload, told.payload.note
    if tx.series.get(body.series) is None:
        return
    at, whom = moment(body.note_time), (told.message.recipient,)
    whole = tx.aliases.current(body.series)
    tx.notes.add(SeriesNote(body.id, whole, node.agency, payload.person, at, body.text, whom))


_EFFECTS: dict[str, Callable[[Node, Tx, _Told], None]] = {
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
    "upload": _upload,
    "upload_step": _upload_step,
    "deposit_report": _deposit_report,
    "retraction": _retraction,
    "tip": _tip,
    "release": _release,
    "permission_request": _permission_request,
}


# --- the other side: giving back ---


def sent_by(
    node: Node, peer: str, lane: int, first: int, limit: int
) -> list[delivery_pb2.SentMessage]:
    """Return messages of ``peer`` from a sequence on, as they came and were replied to."""

    def work(tx: Tx) -> list[delivery_pb2.SentMessage]:
        found = []
        for one in tx.standings.of_sender(peer, lane, first, limit):
            message = delivery_pb2.SentMessage(
                lane=lane,
                sequence=one.sequence,
                id=one.id,
                reply=int(one.reply),  # type: ignore[arg-type]
                reason=one.reason[:64],
            )
            if one.envelope:
                message.envelope.ParseFromString(one.envelope)
            found.append(message)
        return found

    return node.store.read(work)
