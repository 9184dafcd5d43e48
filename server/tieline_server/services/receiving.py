"""Messages in: from a verified envelope to one durable effect and a stored reply.

1. The envelope is the caller's, for us or for a group, in time.
2. A known id gets its stored reply; a known id with other bytes is refused.
3. Its kind has a handler; without one the message is UNSUPPORTED (looked at first) and nothing is
   stored, so that it can come again after an upgrade.
4. The handler checks what the message says (policy, series, steps) and, in one transaction with the
   inbox row and the audit entry, gives it effect.
5. What will never be applied is REFUSED: stored, logged, and its items erased. What cannot be
   applied yet is RETRY: nothing is stored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from tieline.v1 import delivery_pb2, payload_pb2, series_pb2
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

from tieline_server.domain.messages import InMessage, Reply
from tieline_server.domain.ports import Tx
from tieline_server.services import attachments
from tieline_server.services.context import Node
from tieline_server.services.incoming import Effect, Handled, Message, NotYet
from tieline_server.services.incoming_broadcasts import IncomingBroadcasts
from tieline_server.services.incoming_referrals import IncomingReferrals
from tieline_server.services.incoming_uploads import IncomingUploads
from tieline_server.services.referring import parse_urgency


class Receiving:
    """Applies messages of peers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        referrals, broadcasts = IncomingReferrals(node), IncomingBroadcasts(node)
        uploads = IncomingUploads(node)
        self._handlers: dict[str, Callable[[Message], Handled]] = {
            "referral": referrals.referral,
            "referral_step": referrals.referral_step,
            "broadcast": broadcasts.broadcast,
            "broadcast_answer": broadcasts.broadcast_answer,
            "upload": uploads.upload,
            "upload_step": uploads.upload_step,
        }

    def deliver(
        self, peer: str, request: delivery_pb2.DeliverRequest
    ) -> delivery_pb2.DeliverResponse:
        """Apply one message of ``peer``; the answer is durable when this returns.

        Raises SignatureRefused (nothing can be said of who sent it) and StorageUnavailable.
        """
        # 3, first: a body of a newer version need not even parse here
        kind = kind_of(request.envelope)
        if kind and kind not in self._handlers:
            return self._reply(Reply.UNSUPPORTED, "UNKNOWN_METHOD", f"no {kind[:64]} here yet")
        # 1
        message = Message(peer, self._verify(peer, request), request)
        digest = hashlib.sha256(request.envelope.payload).digest()
        # 2
        known = self._node.store.read(lambda tx: tx.inbox.get(peer, message.payload.id))
        if known is not None:
            return self._again(known, digest)
        # 4, 5
        try:
            parse_urgency(request.lane)
            self._check_group(message.payload)
            subject, effect = self._handlers[message.kind](message)
            response = self._apply(message, digest, subject, effect)
        except (NotYet, NotFound) as error:
            return self._reply(Reply.RETRY, error.reason, error.message)
        except (InvalidInput, RefusedError, WrongState) as error:
            return self._refuse(message, digest, error)
        self._node.store.index.refresh()
        if message.kind == "upload":  # a known series is numbered at once: its step goes out now
            self._node.wake(peer)
        return response

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

    # 2
    def _again(self, known: InMessage, digest: bytes) -> delivery_pb2.DeliverResponse:
        if known.digest != digest:
            raise RequestIdReused(f"message {known.id} came before with another body")
        if known.reply is Reply.APPLIED:
            return self._reply(Reply.DUPLICATE, "", "applied before")
        return self._reply(known.reply, known.reason, "")

    # 4
    def _apply(
        self, message: Message, digest: bytes, subject: str, effect: Effect
    ) -> delivery_pb2.DeliverResponse:
        def work(tx: Tx) -> delivery_pb2.DeliverResponse:
            known = tx.inbox.get(message.peer, message.payload.id)
            if known is not None:
                return self._again(known, digest)
            effect(tx)
            self._store(tx, message, digest, subject, Reply.APPLIED, "")
            return self._reply(Reply.APPLIED, "", "")

        return self._node.store.write(work)

    # 5
    def _refuse(
        self, message: Message, digest: bytes, error: TielineError
    ) -> delivery_pb2.DeliverResponse:
        def work(tx: Tx) -> None:
            if tx.inbox.get(message.peer, message.payload.id) is None:
                self._store(tx, message, digest, "", Reply.REFUSED, error.reason)

        self._node.store.write(work)
        reference = _items_of(message.payload)
        if reference is not None:
            attachments.drop_incoming(self._node, message.peer, reference.id)
        return self._reply(Reply.REFUSED, error.reason, error.message)

    def _store(
        self, tx: Tx, message: Message, digest: bytes, subject: str, reply: Reply, reason: str
    ) -> None:
        payload, request = message.payload, message.request
        tx.inbox.add(
            InMessage(
                id=payload.id,
                sender=message.peer,
                lane=parse_urgency(request.lane),
                sequence=request.sequence,
                kind=message.kind,
                subject=subject,
                digest=digest,
                envelope=request.envelope.SerializeToString(),
                received=self._node.clock(),
                reply=reply,
                reason=reason,
            )
        )
        tx.audit.append(
            self._node.entry(
                f"{message.kind}.received" if reply is Reply.APPLIED else "refusal",
                person=payload.person,
                peer=message.peer,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                subjects=(payload.id, *((subject,) if subject else ())),
                kind=message.kind,
                reply=reply.name.lower(),
                reason=reason,
            )
        )

    def _reply(self, reply: Reply, reason: str, text: str) -> delivery_pb2.DeliverResponse:
        return delivery_pb2.DeliverResponse(
            reply=int(reply),  # type: ignore[arg-type]
            reason=reason,
            text=text[:2000],
            epoch=self._node.epoch,
        )


def _items_of(payload: payload_pb2.Payload) -> series_pb2.AttachmentRef | None:
    body = getattr(payload, payload.WhichOneof("body") or "", None)
    if isinstance(body, payload_pb2.Referral | payload_pb2.Broadcast | payload_pb2.Upload):
        return body.items if body.HasField("items") else None
    return None
