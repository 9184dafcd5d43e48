"""Broadcasts that come in from a hub, and the answers that come back to it."""

from __future__ import annotations

from dataclasses import dataclass

from tieline.v1 import envelope_pb2, payload_pb2, series_pb2
from tieline_client.errors import InvalidInput, NotFound, SignatureRefused
from tieline_client.identifiers import check_id, series_owner
from tieline_client.payloads import moment

from tieline_server.domain.broadcast import AnswerKind, Broadcast, BroadcastRecipientState
from tieline_server.domain.meeting import meeting
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Direction
from tieline_server.domain.request import Use
from tieline_server.domain.series import Assessment, Origin
from tieline_server.services.broadcasting import ACKNOWLEDGE, answer_in, parse_confidence
from tieline_server.services.context import Node, clean
from tieline_server.services.incoming import (
    Handled,
    Message,
    claim_items,
    keep_series,
    owners_referral,
    stated_time,
    told_series,
)
from tieline_server.services.permissions import proven
from tieline_server.services.series_work import add_assessment


@dataclass(frozen=True, slots=True)
class IncomingBroadcasts:
    """Handles broadcast and broadcast_answer."""

    node: Node

    def broadcast(self, message: Message) -> Handled:
        """A hub's question; a series of somebody else comes in that agency's own envelope."""
        node, payload, body = self.node, message.payload, message.payload.broadcast
        check_id(body.id, "broadcast")
        node.check_purpose(payload.purpose, payload.case_ref)
        notice = self._notice(message.peer, body)
        series = told_series(node, notice, Origin.BROADCAST, payload.case_ref)
        question = node.question(
            Action.RECEIVE_BROADCAST,
            asker=node.agency,
            holder=message.peer,
            purpose=payload.purpose,
            handling=series.handling,
            owner=series.owner,
            permission=proven(node, message, body.permission, series=series.id, use=Use.BROADCAST),
        )
        node.allow(question, f"a broadcast of {message.peer}")
        broadcast = Broadcast(
            id=body.id,
            series=series.id,
            direction=Direction.IN,
            sender=message.peer,
            originator=series.owner,
            group=payload.audience_group,
            group_version=payload.audience_group_version,
            purpose=payload.purpose,
            case_ref=payload.case_ref,
            person=payload.person,
            question=clean(body.question),
            created=moment(payload.issue_time),
            state=BroadcastRecipientState.DELIVERED,
        )

        def effect(tx: Tx) -> None:
            if tx.broadcasts.get(broadcast.id) is not None:
                raise InvalidInput("a broadcast of this id is known")
            if body.HasField("original"):
                _check_first(tx, broadcast, body.original)
            kept = keep_series(node, tx, series, [(series.owner, notice)], message.woken)
            if body.HasField("items"):
                claim_items(tx, message, body.items, kept)
            tx.broadcasts.add(broadcast, [])

        return broadcast.id, effect

    def _notice(self, peer: str, body: payload_pb2.Broadcast) -> series_pb2.SeriesNotice:
        if body.HasField("original"):
            return owners_referral(self.node, body.original, peer).referral.series
        if series_owner(body.series.id) != peer:
            raise SignatureRefused("a series of somebody else comes without its own envelope")
        return body.series

    def broadcast_answer(self, message: Message) -> Handled:
        """An assessment, an elimination, a claim, or that a person has read it."""
        node, payload, body = self.node, message.payload, message.payload.broadcast_answer
        check_id(body.id, "answer")
        acknowledged = body.kind == ACKNOWLEDGE
        answer = None if acknowledged else answer_in(body, message.peer, payload.person)
        confidence, at = parse_confidence(body.confidence), stated_time(node, body.answer_time)

        def effect(tx: Tx) -> None:
            broadcast = tx.broadcasts.get(body.broadcast)
            if broadcast is None or broadcast.direction is not Direction.OUT:
                raise NotFound("this broadcast is not known here")
            if message.peer not in tx.broadcasts.recipients(broadcast.id):
                raise SignatureRefused(f"{message.peer} was not asked")
            state = (
                BroadcastRecipientState.ACKNOWLEDGED
                if acknowledged
                else BroadcastRecipientState.ANSWERED
            )
            tx.broadcasts.set_recipient(broadcast.id, message.peer, state)
            if answer is None:
                return
            tx.broadcasts.add_answer(answer)
            if answer.kind is AnswerKind.OURS:
                now, asked = node.clock(), broadcast.series
                tx.alarms.set(meeting(broadcast.id, asked, message.peer, node.agency, now))
            series = tx.series.get(tx.aliases.current(broadcast.series))
            if series is not None and answer.country:
                assessment = Assessment(
                    id=body.id,
                    series=series.id,
                    agency=message.peer,
                    person=payload.person,
                    country=answer.country,
                    confidence=confidence,
                    grounds=answer.text or "answer to a broadcast",
                    confirmed=False,
                    eliminated=body.kind == "eliminate",
                    made=at,
                )
                message.woken.update(add_assessment(node, tx, series, assessment))

        return body.broadcast, effect


def _check_first(tx: Tx, broadcast: Broadcast, original: envelope_pb2.Envelope) -> None:
    """Raise SignatureRefused when this hub put the same envelope into an earlier broadcast."""
    for known in tx.broadcasts.find(Direction.IN):
        if (known.series, known.sender) != (broadcast.series, broadcast.sender):
            continue
        for message in tx.inbox.by_subject(known.id):
            envelope = envelope_pb2.Envelope.FromString(message.envelope)
            earlier = payload_pb2.Payload.FromString(envelope.payload)
            if earlier.broadcast.original.payload == original.payload:
                raise SignatureRefused("the envelope inside was broadcast to us before")
