"""What the peer's answers mean here: one transaction for the answers of one call."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from tieline.v1 import delivery_pb2

from tieline_server.delivery.drafts import Draft
from tieline_server.delivery.waits import wait_seconds
from tieline_server.domain.broadcast import BroadcastRecipientState
from tieline_server.domain.messages import OutState, Reply, Settled
from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node
from tieline_server.services.legal_basis import message_basis
from tieline_server.services.referring import handed_over

Answered = tuple[Draft, delivery_pb2.DeliverResponse]

_STATES = {
    Reply.APPLIED: OutState.DELIVERED,
    Reply.DUPLICATE: OutState.DELIVERED,
    Reply.REFUSED: OutState.REFUSED,
    Reply.UNSUPPORTED: OutState.PARKED,
}


def reply_of(answer: delivery_pb2.DeliverResponse) -> Reply:
    """Return the reply; an answer without one is no answer yet."""
    try:
        return Reply(int(answer.reply))
    except ValueError:
        return Reply.RETRY


def settle(node: Node, tx: Tx, agency: str, answered: Sequence[Answered]) -> None:
    """Write what came of messages, in their order, and how far the queue has come."""
    now = node.clock()
    done: list[Settled] = []
    told: dict[BroadcastRecipientState, list[str]] = {}
    for draft, answer in answered:
        message, reply = draft.message, reply_of(answer)
        if reply is Reply.RETRY:
            until = now + timedelta(seconds=wait_seconds(message.attempts + 1))
            why = answer.text or "the peer asks to try again later"
            tx.outbox.hold(agency, message.id, until, why[:500])
            continue
        state = _STATES[reply]
        if state is OutState.PARKED and not tx.outbox.queued(agency, [message.id]):
            continue  # taken back meanwhile: there is nothing to be sent later
        reason = f"{answer.reason}: {answer.text}" if answer.reason else ""
        done.append(Settled(message.id, state, reason[:2000]))
        delivered = state is OutState.DELIVERED
        if message.kind == "referral" and state is not OutState.PARKED:
            handed_over(node, tx, message.id, message.subject, agency, delivered=delivered)
        if message.kind == "broadcast" and state is not OutState.PARKED:
            states = BroadcastRecipientState
            told.setdefault(states.DELIVERED if delivered else states.REFUSED, []).append(
                message.subject
            )
        tx.audit.append(
            node.entry(
                f"message.{state.value}",
                person=draft.payload.person,
                peer=agency,
                purpose=draft.payload.purpose,
                case_ref=draft.payload.case_ref,
                subjects=(message.id, message.subject),
                kind=message.kind,
                reason=reason,
                **(message_basis(node, agency, draft.payload) if delivered else {}),
            )
        )
    tx.outbox.settle_all(agency, done, now)
    for recipient_state, broadcasts in told.items():
        tx.broadcasts.settle_recipient(broadcasts, agency, recipient_state)
    if tx.outbox.most_urgent(agency) is None:
        tx.outbox.caught_up(agency)
    else:
        tx.outbox.progressed(agency, len(done), now)
