"""The transaction of a batch that came in: effects, inbox, places, audit entries, all or nothing.

All messages go into one transaction, first without a part of its own for each, since that is what
takes the most time; when one fails, everything is undone and done again with a part for each, so
that it costs only itself. Steps 2, 4 and 5 of receiving.py are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from tieline.v1 import delivery_pb2, envelope_pb2, payload_pb2
from tieline_client.errors import (
    InvalidInput,
    NotFound,
    RefusedError,
    RequestIdReused,
    TielineError,
    WrongState,
)
from tieline_client.payloads import is_renewal

from tieline_server.domain.messages import InMessage, Reply, StoredReply
from tieline_server.domain.ports import Tx
from tieline_server.services.context import Node
from tieline_server.services.incoming import Effect, Message, NotYet
from tieline_server.services.message_series import items_of, series_of, told
from tieline_server.services.recovering import catch_up
from tieline_server.services.referring import parse_urgency
from tieline_server.services.restricting import why_excluded
from tieline_server.services.split_items import settle
from tieline_server.services.standing import Gate, Standings

_log = structlog.get_logger(__name__)

Response = delivery_pb2.DeliverResponse


@dataclass(frozen=True, slots=True)
class Judged:
    """A verified message with what its handler said: a subject and an effect, or an error."""

    message: Message
    digest: bytes
    subject: str = ""
    effect: Effect | None = None
    error: TielineError | None = None


Settled = Response | RequestIdReused


class _OneFailed(Exception):
    """A message without a part of its own failed; its cause says why."""


@contextmanager
def _with_the_others() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise _OneFailed from error


class Applying:
    """Gives effect to messages that were judged, and says what came of each."""

    def __init__(self, node: Node) -> None:
        self._node, self._standings = node, Standings(node)

    def apply(self, peer: str, judged: Sequence[Judged | Response]) -> list[Settled]:
        """Settle messages of ``peer`` in their order, in one transaction where there is anything to
        write; all is durable when this returns. Raises StorageUnavailable: nothing is applied."""
        ids = [one.message.payload.id for one in judged if isinstance(one, Judged)]
        if not ids:
            return [one for one in judged if not isinstance(one, Judged)]

        def work(tx: Tx, apart: bool) -> list[Settled]:
            known, gate = tx.inbox.replies(peer, ids), self._standings.gate(tx, peer)
            settled = [
                self._settle(tx, one, known, gate, apart) if isinstance(one, Judged) else one
                for one in judged
            ]
            gate.close()
            return settled

        store = self._node.store
        try:
            return store.write(lambda tx: work(tx, apart=False))
        except _OneFailed:
            return store.write(lambda tx: work(tx, apart=True))

    def _settle(
        self, tx: Tx, one: Judged, known: dict[str, StoredReply], gate: Gate, apart: bool
    ) -> Settled:
        """Settle one message, ``apart``: in a part of the transaction; ``known`` and ``gate`` grow
        by what is stored. Raises _OneFailed when one that has no part of its own fails."""
        message, digest = one.message, one.digest
        # 2
        before = known.get(message.payload.id)
        if before is not None:
            return self._again(tx, message, before, digest)
        request = message.request
        lane = int(parse_urgency(request.lane))
        verdict = gate.check(lane, request.sequence, message.payload.id, request.epoch)
        if not verdict.ok:
            return self.reply(Reply.RETRY, verdict.reason, verdict.text)
        error = one.error
        # 4
        if one.effect is not None:
            try:
                with tx.savepoint() if apart else _with_the_others():
                    one.effect(tx)
                    self._sort(tx, message)
                    self._store(tx, message, digest, one.subject, Reply.APPLIED, "")
                    if self._node.renewed:
                        catch_up(self._node, tx, one.subject)
            except (NotYet, NotFound, InvalidInput, RefusedError, WrongState) as failure:
                error = failure
            except _OneFailed:
                raise
            except TielineError:  # of storage: nothing of the batch is kept
                raise
            except Exception as failure:  # noqa: BLE001 - it costs this message alone
                return self.fault(failure)
            else:
                known[message.payload.id] = StoredReply(digest, Reply.APPLIED)
                gate.take(lane, request.sequence, message.payload.id)
                return self.reply(Reply.APPLIED, "", "")
        # 5
        assert error is not None
        if isinstance(error, NotYet | NotFound):
            return self.reply(Reply.RETRY, error.reason, error.message)
        self._store(tx, message, digest, series_of(message.payload), Reply.REFUSED, error.reason)
        known[message.payload.id] = StoredReply(digest, Reply.REFUSED, error.reason)
        gate.take(lane, request.sequence, message.payload.id)
        return self.reply(Reply.REFUSED, error.reason, error.message)

    def _sort(self, tx: Tx, message: Message) -> None:
        """Items that came under the id they had before a split go where it put them."""
        series = series_of(message.payload) if items_of(message.payload) is not None else ""
        if series and settle(self._node, tx, series):
            message.moved.add(series)

    def _again(self, tx: Tx, message: Message, known: StoredReply, digest: bytes) -> Settled:
        if known.digest != digest and not self._renewed(tx, message):
            why = f"message {message.payload.id} came before with another body"
            self._standings.alarm(tx, message.peer, "reused_id", why, message.payload.id)
            return RequestIdReused(why)
        if known.reply is Reply.APPLIED:
            return self.reply(Reply.DUPLICATE, "", "applied before")
        return self.reply(known.reply, known.reason, "")

    def _renewed(self, tx: Tx, message: Message) -> bool:
        """Whether a message that is known came with nothing but another time. Of one that was
        erased here only the place in its lane is known."""
        before = tx.inbox.get(message.peer, message.payload.id)
        if before is None:
            return False
        if not before.envelope:
            request = message.request
            return (int(before.lane), before.sequence) == (request.lane, request.sequence)
        stored = envelope_pb2.Envelope.FromString(before.envelope)
        return is_renewal(payload_pb2.Payload.FromString(stored.payload), message.payload)

    def _kept(self, tx: Tx, message: Message, reply: Reply) -> bytes:
        """The envelope as it is stored: of a series that may not be kept here, nothing."""
        series = "" if reply is Reply.APPLIED else series_of(message.payload)
        if series and why_excluded(tx, series, self._node.agency):
            return b""
        return message.request.envelope.SerializeToString()

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
                envelope=self._kept(tx, message, reply),
                received=self._node.clock(),
                reply=reply,
                reason=reason,
            )
        )
        series, numbers = told(payload) if reply is Reply.APPLIED else ((), {})
        tx.audit.append(
            self._node.entry(
                f"{message.kind}.received" if reply is Reply.APPLIED else "refusal",
                person=payload.person,
                peer=message.peer,
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                subjects=(payload.id, *((subject,) if subject else ()), *series),
                kind=message.kind,
                reply=reply.name.lower(),
                reason=reason,
                **numbers,
            )
        )

    def reply(self, reply: Reply, reason: str, text: str) -> Response:
        """Return what the peer is told of a message."""
        return Response(
            reply=int(reply),  # type: ignore[arg-type]
            reason=reason,
            text=text[:2000],
            epoch=self._node.epoch,
        )

    def fault(self, error: Exception) -> Response:
        """A fault of this program: its log says more than the peer learns."""
        _log.error("receiving.fault", exc_info=error)
        return self.reply(Reply.RETRY, TielineError.reason, "a fault of this node; try later")
