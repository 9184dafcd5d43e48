"""Messages in: from verified envelopes to durable effects and stored replies.

Messages come in batches and take effect in their order, all in one transaction (applying.py); one
that fails costs only itself. For each:

1. The envelope is the caller's, for us or for a group, in time.
2. A known id gets its stored reply; a known id with another body is refused. Signed anew after a
   long wait it has other bytes and the same body (renewing.py).
3. Its kind has a handler; without one the message is UNSUPPORTED (looked at first) and nothing is
   stored, so that it can come again after an upgrade.
4. The handler checks what the message says (policy, series, steps) and, together with the inbox
   row and the audit entry, gives it effect.
5. What will never be applied is REFUSED: stored, logged, and its items erased. What cannot be
   applied yet is RETRY: nothing is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from tieline.v1 import delivery_pb2, payload_pb2
from tieline_client.errors import (
    InvalidInput,
    NotFound,
    PolicyRefused,
    RefusedError,
    RequestIdReused,
    TielineError,
    WrongState,
)
from tieline_client.payloads import Audience, kind_of, open_payload
from tieline_client.status import wire_reason

from tieline_server.domain.messages import Reply
from tieline_server.domain.refusals import Refusal
from tieline_server.services import attachments
from tieline_server.services.alarms import IncomingEscalations
from tieline_server.services.applying import Applying, Judged, Response, Settled
from tieline_server.services.context import Node
from tieline_server.services.incoming import Handled, Message, NotYet
from tieline_server.services.incoming_broadcasts import IncomingBroadcasts
from tieline_server.services.incoming_corrections import IncomingCorrections
from tieline_server.services.incoming_merges import IncomingMerges
from tieline_server.services.incoming_notes import IncomingNotes
from tieline_server.services.incoming_outside import IncomingOutside
from tieline_server.services.incoming_referrals import IncomingReferrals
from tieline_server.services.incoming_reports import IncomingReports
from tieline_server.services.incoming_requests import IncomingRequests
from tieline_server.services.incoming_retractions import IncomingRetractions
from tieline_server.services.incoming_same_as import IncomingSameAs
from tieline_server.services.incoming_splits import IncomingSplits
from tieline_server.services.incoming_tips import IncomingTips
from tieline_server.services.incoming_uploads import IncomingUploads
from tieline_server.services.incoming_watches import IncomingWatches
from tieline_server.services.leading import IncomingLead
from tieline_server.services.message_series import items_of
from tieline_server.services.referring import parse_urgency
from tieline_server.services.standing import Standings, Verdict
from tieline_server.services.standing_words import check_sequence

_ALARMING = ("referral", "escalation", "same_as", "broadcast_answer")
_ERASING = ("retraction", "purge_receipt", "series_split")
_BATCH = "/tieline.v1.DeliveryService/DeliverBatch"
OnRefusal = Callable[[Refusal], None]


class Receiving:
    """Applies messages of peers. ``on_refusal`` hears of messages of a batch that were refused
    before anything could be stored of them."""

    def __init__(self, node: Node, on_refusal: OnRefusal = lambda _refusal: None) -> None:
        self._node, self._on_refusal = node, on_refusal
        self._standings, self._applying = Standings(node), Applying(node)
        referrals, broadcasts = IncomingReferrals(node), IncomingBroadcasts(node)
        uploads, retractions = IncomingUploads(node), IncomingRetractions(node)
        requests = IncomingRequests(node)
        self._handlers: dict[str, Callable[[Message], Handled]] = {
            "referral": referrals.referral,
            "referral_step": referrals.referral_step,
            "broadcast": broadcasts.broadcast,
            "broadcast_answer": broadcasts.broadcast_answer,
            "upload": uploads.upload,
            "upload_step": uploads.upload_step,
            "retraction": retractions.retraction,
            "purge_receipt": retractions.purge_receipt,
            "series_merge": IncomingMerges(node).merge,
            "series_split": IncomingSplits(node).split,
            "note": IncomingNotes(node).note,
            "same_as": IncomingSameAs(node).same_as,
            "referral_correction": IncomingCorrections(node).correction,
            "tip": IncomingTips(node).tip,
            "referral_lead": IncomingLead(node).lead,
            "told_outside": IncomingOutside(node).told_outside,
            "deposit_report": IncomingReports(node).report,
            "watch_notice": IncomingWatches(node).watch_notice,
            "escalation": IncomingEscalations(node).escalation,
            "request_answer": requests.request_answer,
            "release": requests.release,
            "permission_request": requests.permission_request,
            "permission": requests.permission,
            "transfer_notice": requests.transfer_notice,
        }

    def deliver(
        self, peer: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse:
        """Apply one message of ``peer``; the answer is durable when this returns.

        Raises SignatureRefused (nothing can be said of who sent it), RequestIdReused and
        StorageUnavailable.
        """
        said = request.standing if request.HasField("standing") else None
        verdict = self._hear(peer, said)
        if not verdict.ok:
            response = self._applying.reply(Reply.RETRY, verdict.reason, verdict.text)
        else:
            (settled,) = self._apply(peer, [self._judge(peer, request)])
            if isinstance(settled, RequestIdReused):
                raise settled
            response = settled
        if said is not None:
            response.standing.CopyFrom(self._standing(peer, verdict))
        return response

    def take(
        self, peer: str, request: delivery_pb2.DeliverBatchRequest
    ) -> delivery_pb2.DeliverBatchResponse:
        """Apply a batch of ``peer`` and hear how it stands; say how we stand after it."""
        verdict = self._hear(peer, request.standing if request.HasField("standing") else None)
        if verdict.ok:
            replies = self.deliver_batch(peer, request.messages)
        else:
            retry = self._applying.reply(Reply.RETRY, verdict.reason, verdict.text)
            replies = [retry] * len(request.messages)
        return delivery_pb2.DeliverBatchResponse(
            replies=replies, standing=self._standing(peer, verdict)
        )

    def _hear(self, peer: str, said: delivery_pb2.Standing | None) -> Verdict:
        """Hear a standing, before the messages that came with it; write only what is news."""
        standing, node, standings = said or delivery_pb2.Standing(), self._node, self._standings
        if node.store.read(lambda tx: standings.glance(tx, peer, standing)):
            return Verdict(True)
        verdict = node.store.write(lambda tx: standings.heard(tx, peer, standing))
        if verdict.wake:
            node.ready(peer)
        if verdict.again:
            node.contact(peer)
        return verdict

    def _standing(self, peer: str, verdict: Verdict) -> delivery_pb2.Standing:
        mine = self._node.store.read(lambda tx: self._standings.mine(tx, peer).standing)
        return self._standings.marked(mine, verdict)

    def deliver_batch(
        self, peer: str, requests: Sequence[delivery_pb2.DeliverRequest]
    ) -> list[delivery_pb2.DeliverResponse]:
        """Apply messages of ``peer`` in their order; all answers are durable when this returns.

        What `deliver` raises for a message is that message's reply here: RETRY where nothing can be
        said of who signed it, REFUSED for what does not parse and for an id that came with another
        body. Raises StorageUnavailable; nothing was applied then.
        """
        judged: list[Judged | Response] = []
        for request in requests:
            try:
                judged.append(self._judge(peer, request))
            except InvalidInput as error:
                self._tell(peer, error)
                judged.append(self._applying.reply(Reply.REFUSED, error.reason, error.message))
            except TielineError as error:
                self._tell(peer, error)
                judged.append(self._applying.reply(Reply.RETRY, error.reason, error.message))
            except Exception as error:  # noqa: BLE001 - it costs this message, not those behind it
                judged.append(self._applying.fault(error))
        return [
            self._reused(peer, settled) if isinstance(settled, RequestIdReused) else settled
            for settled in self._apply(peer, judged)
        ]

    def _reused(self, peer: str, error: RequestIdReused) -> Response:
        self._tell(peer, error)
        return self._applying.reply(Reply.REFUSED, error.reason, error.message)

    def _tell(self, peer: str, error: TielineError) -> None:
        reason, check = wire_reason(error)
        self._on_refusal(Refusal(peer, "", _BATCH, reason, check, self._node.clock()))

    def _judge(self, peer: str, request: delivery_pb2.DeliverRequest) -> Judged | Response:
        # 3, first: a body of a newer version need not even parse here
        kind = kind_of(request.envelope)
        if kind and kind not in self._handlers:
            return self._applying.reply(
                Reply.UNSUPPORTED, "UNKNOWN_METHOD", f"no {kind[:64]} here yet"
            )
        parse_urgency(request.lane)
        check_sequence(request.sequence)
        # 1
        message = Message(peer, self._verify(peer, request), request)
        digest = hashlib.sha256(request.envelope.payload).digest()
        # 4, 5
        try:
            self._check_group(message.payload)
            subject, effect = self._handlers[message.kind](message)
        except (NotYet, NotFound, InvalidInput, RefusedError, WrongState) as error:
            return Judged(message, digest, error=error)
        return Judged(message, digest, subject, effect)

    def _apply(self, peer: str, judged: Sequence[Judged | Response]) -> list[Settled]:
        settled = self._applying.apply(peer, judged)
        self._after(peer, judged, settled)
        return settled

    def _after(
        self, peer: str, judged: Sequence[Judged | Response], settled: Sequence[Settled]
    ) -> None:
        """What follows once it is durable."""
        woken: set[str] = set()
        items = upload = alarm = retracted = False
        for one, came in zip(judged, settled, strict=True):
            if not isinstance(one, Judged) or isinstance(came, RequestIdReused):
                continue
            reference = items_of(one.message.payload)
            if came.reply == int(Reply.APPLIED):
                woken |= one.message.woken
                items |= reference is not None
                upload |= one.message.kind == "upload"
                alarm |= one.message.kind in _ALARMING
                items |= one.message.kind == "series_split"
                retracted |= one.message.kind in _ERASING or bool(one.message.moved)
            elif came.reply == int(Reply.REFUSED) and reference is not None:
                attachments.drop_incoming(self._node, peer, reference.id)
        for agency in woken:
            self._node.wake(agency)
        if alarm:
            self._node.alarmed()
        if items:
            self._node.store.index.refresh()
        if upload:  # a known series is numbered at once: its step goes out now
            self._node.wake(peer)
        if retracted:
            self._node.purge()

    def _verify(self, peer: str, request: delivery_pb2.DeliverRequest) -> payload_pb2.Payload:
        own = Audience(agency=self._node.agency)

        def ours(audience: Audience) -> bool:
            # Whether we are in the group is judged below, where a refusal ends the sender's tries.
            return audience == own or bool(audience.group and not audience.agency)

        return open_payload(
            request.envelope,
            directory=self._node.directory(),
            issuer=peer,
            audience=ours,
            now=self._node.clock(),
        )

    def _check_group(self, payload: payload_pb2.Payload) -> None:
        """Raise NotYet for a group that our directory does not have yet, PolicyRefused outside."""
        name, version = payload.audience_group, payload.audience_group_version
        if not name:
            return
        try:
            group = self._node.directory().group(name)
        except NotFound as error:
            raise NotYet(error.message) from None
        if self._node.agency in group.members:
            return
        if version > group.version:
            raise NotYet(f"version {version} of group {name} is not known here yet")
        raise PolicyRefused(f"{self._node.agency} is not in group {name}")
