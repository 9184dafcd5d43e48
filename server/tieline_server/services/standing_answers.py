"""What a peer gets that contacts us: our standing, what it once sent, and an archive to fill gaps.

Begun here, too: a new epoch, by the operator's word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tieline.v1 import delivery_pb2
from tieline_client import limits
from tieline_client.errors import InvalidInput

from tieline_server.domain.ports import Store, Tx
from tieline_server.services.context import Node
from tieline_server.services.generations import hear
from tieline_server.services.recovering import sent_by
from tieline_server.services.referring import parse_urgency
from tieline_server.services.standing import Standings, Verdict

_BLANKED_AT_ONCE = 1_000


class StandingAnswers:
    """Answers Contact and FetchSent."""

    def __init__(self, node: Node) -> None:
        self._node, self._standings = node, Standings(node)

    def contact(
        self, peer: str, request: delivery_pb2.ContactRequest
    ) -> delivery_pb2.ContactResponse:
        """Hear a peer's standing and say ours. What is held against it is said, not raised."""

        def work(tx: Tx) -> tuple[Verdict, delivery_pb2.Standing]:
            verdict = self._standings.heard(tx, peer, request.standing)
            answer = self._standings.mine(tx, peer).standing
            return verdict, self._standings.marked(answer, verdict)

        verdict, standing = self._node.store.write(work)
        if verdict.ok:
            hear(self._node, peer, request.standing.epoch, request)
        if verdict.wake:
            self._node.ready(peer)
        if verdict.again:
            self._node.contact(peer)
        generation = self._node.store.index.stored()
        return delivery_pb2.ContactResponse(standing=standing, generation=generation)

    def fetch_sent(
        self, peer: str, request: delivery_pb2.FetchSentRequest
    ) -> Iterator[delivery_pb2.FetchSentResponse]:
        """Yield messages that ``peer`` signed, lane by lane; the log says so first, since whoever
        has a node's leaf without its signing key gets them too. Raises Quarantined, InvalidInput.
        """
        self._standings.check_peer(peer)
        lanes = {parse_urgency(one.lane).name.lower(): one.first for one in request.lanes}
        entry = self._node.entry("message.given-back", peer=peer, first=lanes)
        self._node.store.note(lambda tx: tx.audit.append(entry))
        for one in request.lanes:
            lane, first = int(parse_urgency(one.lane)), one.first
            if first >= 2**62:
                raise InvalidInput("the sequence is out of range")
            while page := sent_by(self._node, peer, lane, first, limits.SENT_PAGE):
                yield from _in_messages(page)
                first = page[-1].sequence + 1


def _in_messages(
    page: list[delivery_pb2.SentMessage],
) -> Iterator[delivery_pb2.FetchSentResponse]:
    """As many at once as fit."""
    response, size = delivery_pb2.FetchSentResponse(), 0
    for one in page:
        if response.messages and size + one.ByteSize() > limits.SENT_PAGE_BYTES:
            yield response
            response, size = delivery_pb2.FetchSentResponse(), 0
        response.messages.append(one)
        size += one.ByteSize()
    yield response


def begin_new_epoch(store: Store, log: Callable[[Tx, str], None] = lambda _tx, _epoch: None) -> str:
    """Leave all that peers know of this node behind; return the new epoch.

    For a node that was restored, or of which several images lived: what peers hold beyond it is
    replayed and fetched at the next contact with each (delivery/contacts.py). ``log`` says who
    wanted it, in the same transaction.
    """

    def work(tx: Tx) -> str:
        epoch = tx.standings.begin_epoch()
        log(tx, epoch)
        return epoch

    return store.write(work)


def blank_archive(node: Node) -> int:
    """Erase envelopes that were settled longer ago than any backup is old; return how many.

    Their rows stay: what a peer lacks of them is told as void.
    """
    before, count = node.clock() - limits.ARCHIVE_LIFE, 0
    while old := node.store.read(lambda tx: tx.standings.settled_before(before, _BLANKED_AT_ONCE)):
        node.store.write(lambda tx, some=old: tx.standings.blank(some))  # type: ignore[misc]
        count += len(old)
    return count
