"""Messages out: one loop per destination, so that a slow or dead peer costs only itself.

A message's life here: a service queued it in the transaction of its effect and woke its
destination. The loop takes what is due, by urgency and then in order, sends the chunks of its
attachment from wherever the receiver stands, delivers the signed envelope, and settles it in one
transaction with what the delivery means (a referral is ``delivered``) and the audit entry.

Replies: APPLIED and DUPLICATE settle; REFUSED settles for good and the operator is told in the
outbox; UNSUPPORTED parks the message and those behind it of the same subject; RETRY leaves it
queued, to come again later with those behind it of the same subject, while all others go on. A
status that no retry changes counts as REFUSED, and so does a message that expired here. Whoever
cannot be reached is left alone for a while: the back-off doubles up to five minutes, with jitter,
is kept in storage, and ends when the peer is heard from.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable
from datetime import timedelta

import structlog
from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.errors import (
    InvalidInput,
    PolicyRefused,
    RefusedError,
    RequestIdReused,
    SignatureRefused,
    TielineError,
    UnknownMethod,
)
from tieline_client.identifiers import new_id
from tieline_client.payloads import moment

from tieline_server.domain.broadcast import BroadcastRecipientState
from tieline_server.domain.messages import OutMessage, OutState, Reply
from tieline_server.domain.ports import Tx
from tieline_server.domain.referral import ReferralState, ReferralStep
from tieline_server.services.context import Node

_log = structlog.get_logger(__name__)


class DeliveryEngine:
    """Runs the loops. ``wake`` may be called from any thread, at any time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._loops: dict[str, _Loop] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start a loop for every destination that has mail from before."""
        for destination in self._node.store.read(lambda tx: list(tx.outbox.destinations())):
            self.wake(destination.agency)

    def wake(self, agency: str) -> None:
        """A destination has mail."""
        if self._stopping.is_set():
            return
        with self._lock:
            loop = self._loops.get(agency)
            if loop is None:
                loop = self._loops[agency] = _Loop(self._node, agency, self._stopping)
                loop.thread.start()
        loop.signal.set()

    def heard_from(self, agency: str) -> None:
        """A peer called us, so it is there: its back-off ends."""
        with self._lock:
            loop = self._loops.get(agency)
        if loop is not None:
            loop.end_wait()

    def stop(self) -> None:
        """End every loop after the call it is in."""
        self._stopping.set()
        with self._lock:
            loops = list(self._loops.values())
        for loop in loops:
            loop.end_wait()
        for loop in loops:
            loop.thread.join(limits.STOP_SECONDS)


class _Loop:
    """One destination."""

    def __init__(self, node: Node, agency: str, stopping: threading.Event) -> None:
        self._node, self._agency, self._stopping = node, agency, stopping
        self.signal = threading.Event()
        self._heard = threading.Event()
        self._later: dict[str, float] = {}
        """Messages that the peer would not take yet, and when to try them again (monotonic)."""
        self.thread = threading.Thread(target=self._run, name=f"to-{agency}", daemon=True)

    def end_wait(self) -> None:
        """End the back-off, now or as it begins: the peer was heard from, or the node stops."""
        self._heard.set()
        self.signal.set()

    def _run(self) -> None:
        attempts = self._stored_attempts()
        while not self._stopping.is_set():
            self.signal.clear()
            self._heard.clear()
            if self._stopping.is_set():  # its signal may just have been cleared
                return
            try:
                attempts = self._round(attempts)
            except Exception as error:  # noqa: BLE001 - a loop that ends would strand its messages
                _log.error("delivery.failed", peer=self._agency, error=type(error).__name__)
                attempts += 1
                self._pause(attempts)

    def _stored_attempts(self) -> int:
        for one in self._node.store.read(lambda tx: list(tx.outbox.destinations())):
            if one.agency == self._agency:
                wait = (one.next_attempt - self._node.clock()) if one.next_attempt else None
                if wait is not None and wait > timedelta(0):
                    self._pause(one.attempts, wait.total_seconds())
                return one.attempts
        return 0

    def _round(self, attempts: int) -> int:
        """Deliver what is due; return the failed attempts in a row."""
        due = self._due()
        if not due:
            self._wait_for_mail()
            return attempts
        waiting: set[str] = set()
        for message in due:
            if self._stopping.is_set():
                return attempts
            if message.subject in waiting:
                continue
            try:
                why = self._deliver(message)
            except TielineError as error:
                _log.warning(
                    "delivery.refused" if isinstance(error, RefusedError) else "delivery.waits",
                    peer=self._agency,
                    reason=error.reason,
                    text=error.message,
                )
                if not _only_this(error):
                    return self._back_off(attempts + 1, error.message)
                why = error.message
            self._later.pop(message.id, None)
            if why:
                self._put_off(message, why)
                waiting.add(message.subject)
        if attempts:
            self._node.store.write(lambda tx: tx.outbox.clear_back_off(self._agency))
        return 0

    def _due(self) -> list[OutMessage]:
        """What may be tried now: a message that was put off holds back its subject, no other."""
        limit = limits.DELIVERY_BATCH + len(self._later)
        queued = list(self._node.store.read(lambda tx: tx.outbox.due(self._agency, limit)))
        now = time.monotonic()
        held = {one.subject for one in queued if self._later.get(one.id, 0.0) > now}
        return [one for one in queued if one.subject not in held]

    def _wait_for_mail(self) -> None:
        """Sleep until woken, or until the first message that was put off is due again."""
        if not self._later:
            self.signal.wait()
            return
        self.signal.wait(max(min(self._later.values()) - time.monotonic(), 0.0))
        self._forget(one for one, due in self._later.items() if due <= time.monotonic())

    def _forget(self, messages: Iterable[str]) -> None:
        for one in list(messages):
            del self._later[one]

    def _put_off(self, message: OutMessage, why: str) -> None:
        """Leave a message queued, with the reason for the operator, and try it again later."""
        now = self._node.clock()
        self._node.store.write(
            lambda tx: tx.outbox.settle(message.id, OutState.QUEUED, now, why[:500])
        )
        self._later[message.id] = time.monotonic() + _jittered(_wait_seconds(message.attempts + 1))

    def _back_off(self, attempts: int, why: str) -> int:
        """Leave the peer alone for a while; return the failed attempts in a row."""
        self._remember(attempts, why)
        if not self._pause(attempts):
            return attempts
        self._node.store.write(lambda tx: tx.outbox.clear_back_off(self._agency))
        return 0

    def _remember(self, attempts: int, failure: str) -> None:
        until = self._node.clock() + timedelta(seconds=_wait_seconds(attempts))
        self._node.store.write(
            lambda tx: tx.outbox.back_off(self._agency, attempts, until, failure[:500])
        )

    def _pause(self, attempts: int, seconds: float | None = None) -> bool:
        """Wait out a back-off; True when the peer was heard from meanwhile, or the node stops.

        Meanwhile includes the attempt that failed, so that a word at the wrong moment is not lost.
        """
        wait = _wait_seconds(attempts) if seconds is None else seconds
        return self._heard.wait(_jittered(wait))

    # --- one message ---

    def _deliver(self, message: OutMessage) -> str:
        """Deliver and settle one message; return why it stays queued, or ""."""
        answer = self._hopeless(message) or self._hand_over(message)
        reply = Reply(answer.reply) if answer.reply else Reply.RETRY
        if reply is Reply.RETRY:
            return answer.text or "the peer asks to try again later"
        self._node.store.write(lambda tx: self._settle(tx, message, reply, answer))
        return ""

    def _hopeless(self, message: OutMessage) -> delivery_pb2.DeliverResponse | None:
        """What every peer would say of a message that is too old, or behind a parked one."""
        expires = moment(_payload(message).expire_time)
        if expires < self._node.clock() - limits.CLOCK_TOLERANCE:
            return _answer(Reply.REFUSED, SignatureRefused("it expired while it waited"))
        before = self._node.store.read(lambda tx: tx.outbox.of_subject(message.subject))
        if any(one.state is OutState.PARKED and one.recipient == self._agency for one in before):
            return _answer(Reply.UNSUPPORTED, UnknownMethod("it waits behind a parked message"))
        return None

    def _hand_over(self, message: OutMessage) -> delivery_pb2.DeliverResponse:
        """Send chunks and envelope; return the peer's word, be it a reply or a status.

        A refusal of chunks is not the end: the peer judges the message itself, and its word on that
        is kept and lets the queue move on.
        """
        try:
            if message.attachment:
                self._send_chunks(message)
        except (InvalidInput, PolicyRefused) as error:
            _log.warning("delivery.chunks_refused", peer=self._agency, text=error.message)
        try:
            return self._node.peers.deliver(
                self._agency,
                delivery_pb2.DeliverRequest(
                    envelope=envelope_pb2.Envelope.FromString(message.envelope),
                    lane=int(message.lane),
                    sequence=message.sequence,
                    epoch=self._node.epoch,
                ),
            )
        except (InvalidInput, RequestIdReused, PolicyRefused) as error:
            return _answer(Reply.REFUSED, error)

    def _send_chunks(self, message: OutMessage) -> None:
        attachment = self._node.store.read(lambda tx: tx.attachments.outgoing(message.attachment))
        if attachment is None:
            return
        payload = _payload(message)
        request = delivery_pb2.PutChunkRequest(
            attachment=attachment.id,
            chunks=attachment.chunks,
            items=attachment.items,
            kind=message.kind,
            purpose=payload.purpose,
            series=attachment.series,
        )
        index = self._node.peers.put_chunk(self._agency, request).next_index
        while index < attachment.chunks and not self._stopping.is_set():
            chunk = self._chunk(attachment.id, index)
            request.index, request.chunk = index, chunk or b""
            reached = self._node.peers.put_chunk(self._agency, request).next_index
            if reached <= index:
                break
            index = reached

    def _chunk(self, attachment: str, index: int) -> bytes | None:
        return self._node.store.read(lambda tx: tx.attachments.chunk(attachment, index))

    def _settle(
        self, tx: Tx, message: OutMessage, reply: Reply, answer: delivery_pb2.DeliverResponse
    ) -> None:
        now = self._node.clock()
        states = {
            Reply.APPLIED: OutState.DELIVERED,
            Reply.DUPLICATE: OutState.DELIVERED,
            Reply.REFUSED: OutState.REFUSED,
            Reply.UNSUPPORTED: OutState.PARKED,
        }
        state = states[reply]
        reason = f"{answer.reason}: {answer.text}" if answer.reason else ""
        tx.outbox.settle(message.id, state, now, reason[:2000])
        if message.kind == "referral" and state is OutState.DELIVERED:
            tx.referrals.add_step(
                ReferralStep(
                    id=new_id(),
                    referral=message.subject,
                    state=ReferralState.DELIVERED,
                    agency=self._agency,
                    person="",
                    at=now,
                )
            )
        if message.kind == "broadcast" and state is not OutState.PARKED:
            delivered = state is OutState.DELIVERED
            tx.broadcasts.set_recipient(
                message.subject,
                self._agency,
                BroadcastRecipientState.DELIVERED if delivered else BroadcastRecipientState.REFUSED,
            )
        payload = _payload(message)
        tx.audit.append(
            self._node.entry(
                f"message.{state.value}",
                person=payload.person,
                peer=self._agency,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                subjects=(message.id, message.subject),
                kind=message.kind,
                reason=reason,
            )
        )


def _answer(reply: Reply, error: TielineError) -> delivery_pb2.DeliverResponse:
    """An error that will not change by itself, as the reply that it amounts to."""
    return delivery_pb2.DeliverResponse(
        reply=int(reply),  # type: ignore[arg-type]
        reason=error.reason,
        text=error.message[: limits.FREE_TEXT_CHARS],
    )


def _payload(message: OutMessage) -> payload_pb2.Payload:
    """What this agency signed."""
    return payload_pb2.Payload.FromString(
        envelope_pb2.Envelope.FromString(message.envelope).payload
    )


def _wait_seconds(attempts: int) -> float:
    """The back-off before the next attempt, before jitter."""
    doubled = limits.RETRY_FIRST_SECONDS * 2.0 ** min(max(attempts, 1) - 1, 20)
    return min(doubled, limits.RETRY_MOST_SECONDS)


def _jittered(seconds: float) -> float:
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, no secret


def _only_this(error: TielineError) -> bool:
    """Whether an error concerns one message rather than the peer as a whole.

    A signature that the peer does not accept is the message's: its key may have been retired since.
    """
    only = ("INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED")
    return error.status in only or isinstance(error, SignatureRefused)
