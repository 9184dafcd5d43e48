"""A message that waits for longer than it is valid is signed anew, so that none is lost to time.

A signature holds for 90 days, a partition may last longer, and what waits may be an owner's
withdrawal. So shortly before its time is over a message that is about to go is signed again:

1. Under its own id, in its own place of the lane, with the same body: it is the same message. Only
   the two times, and the key where that was changed meanwhile, are other ones.
2. Should the recipient have it already (its reply was lost, then the line), it sees the id, finds
   nothing but the times different, and gives the stored reply (`payloads.is_renewal`). A body that
   differs is refused and alarmed as ever.
3. All kinds are renewed. What an agency said does not lapse because a peer was away; who no longer
   means it takes it back. The log says `message.renewed`, the outbox since when it waits.
4. What stands inside by somebody else cannot be renewed here. A retraction or a receipt inside is
   taken though it expired, since it only takes away; a passed-on referral is refused by its
   recipient then, and its sender is told.
"""

from __future__ import annotations

from datetime import datetime

from tieline.v1 import payload_pb2
from tieline_client import limits
from tieline_client.errors import TielineError
from tieline_client.payloads import Audience, moment

from tieline_server.domain.messages import OutMessage
from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node


def is_stale(payload: payload_pb2.Payload, now: datetime) -> bool:
    """Whether a recipient whose clock is ahead might find that it has expired."""
    return moment(payload.expire_time) < now + limits.CLOCK_TOLERANCE


def renew(
    node: Node, tx: Tx, message: OutMessage, payload: payload_pb2.Payload, now: datetime
) -> TielineError | None:
    """Sign a queued message again; return what keeps it from being signed, if anything does."""
    audience = Audience(payload.audience, payload.audience_group, payload.audience_group_version)
    issued = moment(payload.issue_time)
    again = payload_pb2.Payload()
    again.CopyFrom(payload)
    try:
        envelope = node.sealer.seal(again, audience, now)
    except TielineError as error:  # a cap that was lowered since: no peer would take it
        return error
    if tx.outbox.renew(message.recipient, message.id, envelope.SerializeToString()):
        tx.audit.append(
            node.entry(
                "message.renewed",
                person=payload.person,
                peer=message.recipient,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                subjects=(message.id, message.subject),
                kind=message.kind,
                signed_before=issued.isoformat(),
            )
        )
    return None
