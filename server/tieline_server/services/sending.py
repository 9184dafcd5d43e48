"""The last step of every message out: signed and queued, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

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
) -> OutMessage:
    """Sign a payload and queue it for one recipient; delivery takes it from there.

    The same payload object may be sent to several recipients: each gets an id of its own.
    """
    audience = Audience(agency=recipient)
    return tx.outbox.add(_signed(node, tx, payload, audience, lane, subject, items, recipient))


def send_group(
    node: Node,
    tx: Tx,
    payload: payload_pb2.Payload,
    *,
    audience: Audience,
    recipients: Sequence[str],
    lane: Urgency,
    subject: str,
    items: Packed | None = None,
) -> None:
    """Sign a payload for a group, once, and queue the same message for each of its recipients."""
    message = _signed(node, tx, payload, audience, lane, subject, items, "")
    tx.outbox.add_for(message, recipients)


def _signed(
    node: Node,
    tx: Tx,
    payload: payload_pb2.Payload,
    audience: Audience,
    lane: Urgency,
    subject: str,
    items: Packed | None,
    recipient: str,
) -> OutMessage:
    now = node.clock()
    payload.ClearField("id")
    envelope = node.sealer.seal(payload, audience, now)
    if items is not None:
        tx.attachments.add_outgoing(items.attachment, items.chunks)
    return OutMessage(
        id=payload.id,
        recipient=recipient,
        lane=lane,
        kind=payload.WhichOneof("body") or "",
        subject=subject,
        envelope=envelope.SerializeToString(),
        created=now,
        attachment=items.attachment.id if items else "",
    )
