"""Putting back what this agency signed before it was restored, and its peers still hold.

A restored node has forgotten what it did after its backup. Its peers have not: each gives back the
messages that it took from this agency (FetchSent). Signed by our own key they are as good as our
memory, so each goes back into the outbox as delivered, in its old place, and what it did to our own
records is done again (redoing.py): the referral, the broadcast, the upload it announced, the step
it told. A step may come back before the referral that it is about, which its sender replays: it is
kept and takes effect when that arrives (`catch_up`). Everything goes by ids, so nothing happens
twice.

What no message carries does not come back: items, names of series, people. The operator imports
them again, as after any restore.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2
from tieline_client.errors import InvalidInput
from tieline_client.payloads import Audience, moment, open_payload

from tieline_server.domain.messages import OutMessage, OutState, Reply
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.services.context import Node
from tieline_server.services.given_back import Told
from tieline_server.services.redoing import note_answer, take_effect
from tieline_server.services.referring import parse_urgency


def put_back(node: Node, tx: Tx, peer: str, messages: Sequence[delivery_pb2.SentMessage]) -> int:
    """Put back what ``peer`` gave back; return how many were not there. Raises SignatureRefused."""
    count = 0
    for one in messages:
        told = _told(node, peer, one)
        if tx.standings.put_back(told.message):
            count += 1
            if told.message.state is OutState.DELIVERED and told.message.envelope:
                take_effect(node, tx, told)
            elif (ours := tx.outbox.get(peer, told.message.id)) is not None:
                note_answer(node, tx, ours)
    return count


def catch_up(node: Node, tx: Tx, subject: str) -> None:
    """Do what messages about ``subject`` that were put back did, now that it is here again; and
    what those did by which this agency passed on the series that came with it."""
    came = tx.referrals.get(subject) or tx.broadcasts.get(subject)
    on = [] if came is None else [one.id for one in tx.referrals.find(Direction.OUT, came.series)]
    subjects = dict.fromkeys([subject, *on])
    again = [one for about in subjects for one in tx.outbox.of_subject(about)]
    for message in again:
        if message.state is OutState.DELIVERED and message.envelope:
            take_effect(node, tx, Told(message, _payload(message.envelope)))


def _told(node: Node, peer: str, one: delivery_pb2.SentMessage) -> Told:
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
    return Told(message, payload)


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
