"""The last step of every message out: signed and queued, in the caller's transaction."""

from __future__ import annotations

from tieline.v1 import payload_pb2
from tieline_client.payloads import Audience

from tieline_server.domain.messages import OutMessage
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import Urgency
from tieline_server.services.attachments import Packed
from tieline_server.services.context import Node


def send(
    node: Node,
    tx: Tx,
    payload: payload_pb2.Payload,
    *,
    recipient: str,
    lane: Urgency,
    subject: str,
    items: Packed | None = None,
    audience: Audience | None = None,
) -> OutMessage:
    """Sign a payload and queue it for one recipient; delivery takes it from there.

    ``audience`` is the recipient unless a group is addressed. The same payload object may be sent
    to several recipients: each gets an id of its own.
    """
    now = node.clock()
    payload.ClearField("id")
    envelope = node.sealer.seal(payload, audience or Audience(agency=recipient), now)
    if items is not None:
        tx.attachments.add_outgoing(items.attachment, items.chunks)
    return tx.outbox.add(
        OutMessage(
            id=payload.id,
            recipient=recipient,
            lane=lane,
            kind=payload.WhichOneof("body") or "",
            subject=subject,
            envelope=envelope.SerializeToString(),
            created=now,
            attachment=items.attachment.id if items else "",
        )
    )
