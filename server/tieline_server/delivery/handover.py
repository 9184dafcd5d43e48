"""The calls: chunks of attachments one by one, envelopes in batches or, to v1.0 peers, singly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog
from tieline.v1 import delivery_pb2
from tieline_client.errors import (
    InvalidInput,
    PolicyRefused,
    RequestIdReused,
    SignatureRefused,
    TielineError,
    UnknownMethod,
)
from tieline_client.peer_client import STANDING

from tieline_server.delivery.drafts import Draft, answer_of
from tieline_server.domain.messages import Reply
from tieline_server.domain.ports import Attachment
from tieline_server.services.context import Node
from tieline_server.services.standing import Said, Standings

_log = structlog.get_logger(__name__)

Answer = delivery_pb2.DeliverResponse


Word = tuple[delivery_pb2.Standing, Said]


@dataclass(frozen=True, slots=True)
class Part:
    """Answers to messages, in their order, and the standing that they came with: how the peer
    stands, and what was said to it."""

    answers: Sequence[Answer]
    word: Word | None = None


@dataclass(frozen=True, slots=True)
class Handed:
    """The peer's answers to the first messages, and what kept it from answering the rest."""

    parts: Sequence[Part]
    error: TielineError | None = None


class Handover:
    """Hands messages to one peer. Used by its loop alone."""

    def __init__(self, node: Node, agency: str, stopping: threading.Event) -> None:
        self._node, self._agency, self._stopping = node, agency, stopping
        self._standings = Standings(node)
        self._batches = True

    # --- envelopes ---

    def deliver(self, drafts: Sequence[Draft]) -> Handed:
        """Deliver messages in their order; one that the peer will never take costs only itself."""
        if len(drafts) == 1 or not self._batches:
            return self._one_by_one(drafts)
        said = self._say()
        epoch = said.standing.epoch
        requests = [self._request(draft, epoch) for draft in drafts]
        try:
            response = self._node.peers.deliver_batch(
                self._agency,
                delivery_pb2.DeliverBatchRequest(messages=requests, standing=said.standing),
            )
        except UnknownMethod:
            self._batches = False
            return self._one_by_one(drafts)
        except TielineError as error:
            if only_this(error):  # of one of them: which, shows when they go singly
                return self._one_by_one(drafts)
            return Handed((), error)
        came = Part(response.replies, (response.standing, said))
        if len(came.answers) < len(drafts):  # asked again at once, it would be asked for ever
            short = f"{self._agency} answered {len(came.answers)} of {len(drafts)} messages"
            return Handed([came], TielineError(short))
        return Handed([came])

    def _say(self) -> Said:
        return self._node.store.read(lambda tx: self._standings.mine(tx, self._agency))

    def look_again(self) -> None:
        """A peer that was away may have come back as another version."""
        self._batches = True

    def _one_by_one(self, drafts: Sequence[Draft]) -> Handed:
        parts: list[Part] = []
        plain: list[Answer] = []
        for draft in drafts:
            if self._stopping.is_set():
                break
            try:
                said = self._say()
                request = self._request(draft, said.standing.epoch)
                if STANDING in self._node.peers.abilities(self._agency)[1]:
                    request.standing.CopyFrom(said.standing)
                answer = self._node.peers.deliver(self._agency, request)
                plain.append(answer)
                if answer.HasField("standing"):
                    parts.append(Part(plain, (answer.standing, said)))
                    plain = []
            except (InvalidInput, RequestIdReused, PolicyRefused) as error:
                plain.append(answer_of(Reply.REFUSED, error))
            except TielineError as error:
                if not only_this(error):
                    return Handed([*parts, Part(plain)], error)
                plain.append(answer_of(Reply.RETRY, error))
        return Handed([*parts, Part(plain)])

    def _request(self, draft: Draft, epoch: str) -> delivery_pb2.DeliverRequest:
        message = draft.message
        return delivery_pb2.DeliverRequest(
            envelope=draft.envelope,
            lane=int(message.lane),
            sequence=message.sequence,
            epoch=epoch,
        )

    # --- chunks ---

    def attachment(self, draft: Draft) -> Attachment | None:
        """Return the attachment that goes before a message, if there is one."""
        name = draft.message.attachment
        return self._node.store.read(lambda tx: tx.attachments.outgoing(name)) if name else None

    def send_chunks(
        self, draft: Draft, attachment: Attachment, overtaken: Callable[[], bool]
    ) -> bool:
        """Send the chunks that the peer lacks; False when something more urgent came meanwhile.

        A refusal of chunks is not the end: the peer judges the message itself, and its word on that
        is kept and lets the queue move on.
        """
        try:
            return self._send_chunks(draft, attachment, overtaken)
        except (InvalidInput, PolicyRefused) as error:
            _log.warning("delivery.chunks_refused", peer=self._agency, text=error.message)
            return True

    def _send_chunks(
        self, draft: Draft, attachment: Attachment, overtaken: Callable[[], bool]
    ) -> bool:
        request = delivery_pb2.PutChunkRequest(
            attachment=attachment.id,
            chunks=attachment.chunks,
            items=attachment.items,
            kind=draft.message.kind,
            purpose=draft.payload.purpose,
            series=attachment.series,
        )
        if attachment.chunks == 1:  # no need to ask which is next
            request.chunk = self._chunk(attachment.id, 0)
        index = self._node.peers.put_chunk(self._agency, request).next_index
        while index < attachment.chunks:
            if self._stopping.is_set() or overtaken():
                return False
            request.index, request.chunk = index, self._chunk(attachment.id, index)
            reached = self._node.peers.put_chunk(self._agency, request).next_index
            if reached <= index:
                break
            index = reached
        return True

    def _chunk(self, attachment: str, index: int) -> bytes:
        return self._node.store.read(lambda tx: tx.attachments.chunk(attachment, index)) or b""


def only_this(error: TielineError) -> bool:
    """Whether an error concerns one message rather than the peer as a whole.

    A signature that the peer does not accept is the message's: its key may have been retired since.
    So is a fault of the peer's program, which the next message may not meet.
    """
    only = ("INVALID_ARGUMENT", "ALREADY_EXISTS", "PERMISSION_DENIED", "INTERNAL")
    return error.status in only or isinstance(error, SignatureRefused)
