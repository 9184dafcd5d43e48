"""Logs that watch one another: checkpoints swapped, countersigned, and passed on.

In every contact with a peer (delivery/contacts.py: at the start of a connection, on catch-up,
hourly):

1. The peer states its newest checkpoint with the proof that it extends the one held here. It is
   judged (domain/witness.py); what follows becomes the head that is held.
2. Both sides tell the heads that they hold of others. One of a third agency that differs from what
   is held here at the same size is proof at once; one of another size is kept in doubt, and that
   agency is asked to prove that one extends the other. One of this node's own log is held against
   the log itself.
3. What is in doubt of this peer is settled: it proves both, or it has equivocated.
4. This node's newest checkpoint goes out with the proof from the one the peer holds, and this
   node's countersignature of the peer's; the peer's countersignature comes back and is kept.

Proof of equivocation (two signed checkpoints that no log can have) is kept for ever, with an entry
``alarm.equivocation``, a line in the node's log and in `node status`. From then on nothing of that
agency and epoch is countersigned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from tieline.v1 import audit_pb2, envelope_pb2, payload_pb2
from tieline_client import limits
from tieline_client.checkpoints import (
    Checkpoint,
    checkpoint_digest,
    open_checkpoint,
    open_countersignature,
)
from tieline_client.errors import InvalidInput, MalformedMessage, SignatureRefused, TielineError
from tieline_client.payloads import Audience

from tieline_server.domain.ports import Tx
from tieline_server.domain.witness import (
    BROKEN,
    FOLLOWED,
    Equivocation,
    Finding,
    clearly_later,
    follows,
    judge,
    judge_moved,
    words,
)
from tieline_server.services.context import Node
from tieline_server.services.witness_words import envelopes_of, heads_told, stated

_log = structlog.get_logger(__name__)


class Witnessing:
    """Both sides of it. What is kept stands in storage; memory only knows which heads are old news:
    with fifty members each contact tells of fifty, nearly all of them heard before."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._old_news: dict[tuple[str, str, int, bytes], None] = {}
        self._asked: dict[str, datetime] = {}

    # --- answering a peer ---

    def swap(
        self, peer: str, request: audit_pb2.SwapCheckpointsRequest
    ) -> audit_pb2.SwapCheckpointsResponse:
        """Steps 1 and 2, answered."""
        self._hear(peer, request.held)
        own, proof = self._own(request.since)

        def work(tx: Tx) -> tuple[int, list[Checkpoint]]:
            known = tx.witness.head(peer)
            return known.size if known else 0, heads_told(tx, peer)

        known, heads = self._node.store.read(work)
        return audit_pb2.SwapCheckpointsResponse(
            checkpoint=own, proof=proof, known=known, held=envelopes_of(heads)
        )

    def countersign(
        self, peer: str, request: audit_pb2.CountersignRequest
    ) -> audit_pb2.CountersignResponse:
        """Step 4, answered."""
        node = self._node
        said = open_checkpoint(request.checkpoint, node.directory(), issuer=peer, now=node.clock())
        if request.HasField("countersignature"):
            self._take_countersignature(peer, request.countersignature)
        known = node.store.read(lambda tx: tx.witness.head(peer))
        fits = known is None or said.size == known.size or follows(known, said, request.proof)
        if not fits:
            # It may only be late, or prove another size: a contact of our own finds out.
            node.contact(peer)
            return audit_pb2.CountersignResponse()
        finding = node.store.write(lambda tx: self._judge(tx, known, said, request.proof, peer))
        if finding not in FOLLOWED:
            return audit_pb2.CountersignResponse()
        return audit_pb2.CountersignResponse(countersignature=self._sign(said))

    def consistency(
        self, request: audit_pb2.GetConsistencyRequest
    ) -> audit_pb2.GetConsistencyResponse:
        """Prove that one size extends another. Raises InvalidInput for sizes that are not there."""

        def work(tx: Tx) -> list[bytes]:
            if not 0 < request.first <= request.second <= tx.audit.size():
                raise InvalidInput("the log has no such sizes; ask for two from 1 up to its own")
            return tx.audit.consistency(request.first, request.second)

        return audit_pb2.GetConsistencyResponse(proof=self._node.store.read(work))

    def checkpoint(self) -> envelope_pb2.Envelope:
        """Return the newest checkpoint of the own log, signed now."""
        return self._own(0)[0]

    # --- a contact of our own ---

    def contact(self, peer: str) -> None:
        """Steps 1 to 4. Raises a TielineError when the peer does not answer as it should."""
        node = self._node

        def work(tx: Tx) -> tuple[Checkpoint | None, list[Checkpoint]]:
            return tx.witness.head(peer), heads_told(tx, peer)

        known, heads = node.store.read(work)
        answer = node.peers.swap_checkpoints(
            peer,
            audit_pb2.SwapCheckpointsRequest(
                since=known.size if known else 0, held=envelopes_of(heads)
            ),
        )
        # 1
        said = open_checkpoint(answer.checkpoint, node.directory(), issuer=peer, now=node.clock())
        finding = node.store.write(lambda tx: self._judge(tx, known, said, answer.proof, peer))
        # 2
        self._hear(peer, answer.held)
        # 3
        self._settle(peer, said)
        # 4
        own, proof = self._own(answer.known)
        request = audit_pb2.CountersignRequest(checkpoint=own, proof=proof)
        if finding in FOLLOWED and not self._accused(said):
            request.countersignature.CopyFrom(self._sign(said))
        reply = node.peers.countersign(peer, request)
        if reply.HasField("countersignature"):
            self._take_countersignature(peer, reply.countersignature)

    def _judge(
        self,
        tx: Tx,
        known: Checkpoint | None,
        said: Checkpoint,
        proof: Sequence[bytes],
        source: str,
    ) -> Finding:
        """Judge; ``known`` is the head that the proof was asked for."""
        head = tx.witness.head(said.agency)
        if head is not None and (known is None or head.envelope != known.envelope):
            finding, known = judge_moved(known, head, said, proof)
        else:
            finding = judge(known, said, proof)
        now = self._node.clock()
        if finding in BROKEN and known is not None:
            self._accuse(tx, finding, known, said, source)
            if finding is Finding.RESTORED:
                tx.witness.follow(said, now)
        elif finding in FOLLOWED and self._accused_in(tx, said):
            return Finding.FORK  # one history of two: which, nobody can tell
        elif finding in FOLLOWED:
            tx.witness.follow(said, now)
        return finding

    def _sign(self, said: Checkpoint) -> envelope_pb2.Envelope:
        node = self._node
        return node.sealer.seal(
            payload_pb2.Payload(
                countersignature=payload_pb2.Countersignature(
                    agency=said.agency,
                    size=said.size,
                    root=said.root,
                    checkpoint_digest=checkpoint_digest(said.envelope),
                )
            ),
            Audience(agency=said.agency),
            node.clock(),
        )

    def _own(self, since: int) -> tuple[envelope_pb2.Envelope, list[bytes]]:
        """Return our newest checkpoint, and the proof from ``since`` where there is one."""
        node = self._node

        def work(tx: Tx) -> tuple[int, bytes, list[bytes]]:
            size = tx.audit.size()
            proof = tx.audit.consistency(since, size) if 0 < since <= size else []
            return size, tx.audit.root(), proof

        size, root, proof = node.store.read(work)
        checkpoint = payload_pb2.Checkpoint(size=size, root=root, epoch=node.epoch)
        payload = payload_pb2.Payload(checkpoint=checkpoint)
        return node.sealer.seal(payload, Audience(), node.clock()), proof

    def _take_countersignature(self, peer: str, envelope: envelope_pb2.Envelope) -> None:
        """Keep what a peer signed of our log. Raises SignatureRefused when it is of another one."""
        node = self._node
        by = open_countersignature(
            envelope, node.directory(), agency=node.agency, issuer=peer, now=node.clock()
        )

        def work(tx: Tx) -> None:
            if by.size > tx.audit.size() or tx.audit.root_at(by.size) != by.root:
                raise SignatureRefused(f"{peer} countersigned what this node's log never was")
            tx.witness.countersigned(by)

        node.store.write(work)

    # --- 2: what peers hold of others ---

    def _hear(self, peer: str, held: Sequence[envelope_pb2.Envelope]) -> None:
        node = self._node
        heard: dict[tuple[str, str, int, bytes], Checkpoint] = {}
        for envelope in held:
            news = stated(envelope)
            if news in self._old_news:
                continue
            try:
                heard[news] = open_checkpoint(envelope, node.directory())
            except (SignatureRefused, MalformedMessage) as error:
                _log.warning("checkpoint.refused", peer=peer, text=error.message)
        fresh = node.store.read(
            lambda tx: [one for one in heard.values() if not self._is_known(tx, one)]
        )
        if fresh:
            asked = node.store.write(
                lambda tx: {one.agency for one in fresh if self._heard(tx, one, peer)}
            )
            for agency in asked - {peer}:
                self._ask(agency)
        for news, said in heard.items():
            if said.agency != node.agency:  # the own log is looked at each time
                self._remember(news)

    def _ask(self, agency: str) -> None:
        """Have an agency prove what was told of it: at once, but not for each peer that tells of
        its growth. In a federation of hundreds that would be a contact for every word."""
        now = self._node.clock()
        last = self._asked.get(agency)
        if last is None or not timedelta(0) <= now - last < limits.DOUBT_AGAIN:
            self._asked[agency] = now
            self._node.contact(agency)

    def _remember(self, news: tuple[str, str, int, bytes]) -> None:
        """It was verified and dealt with; the same head again tells nothing."""
        if len(self._old_news) >= limits.HEADS_REMEMBERED:
            self._old_news = {}
        self._old_news[news] = None

    def _is_known(self, tx: Tx, said: Checkpoint) -> bool:
        """Whether it says nothing new: the usual case, at the cost of a read."""
        if said.agency == self._node.agency:
            size = tx.audit.size()
            return said.size <= size and tx.audit.root_at(said.size) == said.root
        known = tx.witness.head(said.agency)
        return known is not None and (known.size, known.root) == (said.size, said.root)

    def _heard(self, tx: Tx, said: Checkpoint, peer: str) -> bool:
        """Take one; whether its agency is to be asked."""
        now = self._node.clock()
        if said.agency == self._node.agency:
            if not self._is_known(tx, said):
                self._own_is_other(tx, said, peer)
            return False
        known = tx.witness.head(said.agency)
        if known is not None and known.epoch != said.epoch and said.issued < known.issued:
            return False  # of before a restore that is known already
        if known is not None and known.size == said.size and known.epoch == said.epoch:
            if known.root != said.root:
                self._accuse(tx, Finding.FORK, known, said, peer)
            return False
        return tx.witness.doubt(said, now)

    def _own_is_other(self, tx: Tx, said: Checkpoint, peer: str) -> None:
        """A peer holds a head of our log that our log does not have."""
        if said.epoch != self._node.epoch:
            return  # of before this node was restored: its peers were told then
        own, _ = self._head_in(tx)
        kind = Finding.SET_BACK if said.size > own.size else Finding.FORK
        self._accuse(tx, kind, said, own, peer)

    def _head_in(self, tx: Tx) -> tuple[Checkpoint, envelope_pb2.Envelope]:
        node = self._node
        body = payload_pb2.Checkpoint(size=tx.audit.size(), root=tx.audit.root(), epoch=node.epoch)
        envelope = node.sealer.seal(payload_pb2.Payload(checkpoint=body), Audience(), node.clock())
        return open_checkpoint(envelope, node.directory()), envelope

    # 3
    def _settle(self, peer: str, said: Checkpoint) -> None:
        """Have the peer prove what others showed of it; ``said`` is its newest word."""
        node = self._node
        for doubt in node.store.read(lambda tx: list(tx.witness.doubted(peer))):
            holds = self._proven(peer, doubt, said)
            if holds is None:
                continue
            node.store.write(
                lambda tx, one=doubt, ok=holds: self._settled(tx, one, said, holds=ok)  # type: ignore[misc]
            )

    def _proven(self, peer: str, doubt: Checkpoint, said: Checkpoint) -> bool | None:
        """Whether one extends the other; None: it cannot be told yet."""
        if doubt.epoch != said.epoch:
            return True  # the restore between them was judged by itself
        first, second = sorted((doubt, said), key=lambda one: one.size)
        if first.size == second.size:
            return first.root == second.root
        if first.size == 0:
            return True
        if second is doubt:  # its own newest word is shorter than one that it signed before
            return False if clearly_later(said, doubt) else None
        try:
            answer = self._node.peers.log_consistency(
                peer, audit_pb2.GetConsistencyRequest(first=first.size, second=second.size)
            )
        except InvalidInput:
            return False
        return follows(first, second, answer.proof)

    def _settled(self, tx: Tx, doubt: Checkpoint, said: Checkpoint, *, holds: bool) -> None:
        tx.witness.settle(doubt, holds=holds)
        if not holds:
            kind = Finding.SET_BACK if doubt.size > said.size else Finding.FORK
            self._accuse(tx, kind, doubt, said, "a peer")

    # --- proofs ---

    def _accused(self, said: Checkpoint) -> bool:
        return self._node.store.read(lambda tx: self._accused_in(tx, said))

    @staticmethod
    def _accused_in(tx: Tx, said: Checkpoint) -> bool:
        return any(
            one.agency == said.agency and one.epoch == said.epoch
            for one in tx.witness.equivocations()
            if one.kind is not Finding.RESTORED
        )

    def _accuse(
        self, tx: Tx, kind: Finding, first: Checkpoint, second: Checkpoint, source: str
    ) -> None:
        """Keep the proof and say so, once for each agency and epoch."""
        number = hashlib.sha256(first.envelope + second.envelope).hexdigest()[:32]
        why = f"{second.agency}: {words(kind, first, second)}"
        proof = Equivocation(
            number,
            second.agency,
            kind,
            second.epoch,
            first.envelope,
            second.envelope,
            source,
            self._node.clock(),
            why,
        )
        if not tx.witness.accuse(proof):
            return
        name = "alarm.log_restored" if kind is Finding.RESTORED else "alarm.equivocation"
        _log.error(name, peer=second.agency, proof=number, why=why)
        tx.audit.append(
            self._node.entry(
                name, peer=second.agency, subjects=(number,), kind=kind.value, reason=why[:500]
            )
        )


def try_contact(witnessing: Witnessing, peer: str) -> None:
    """`Witnessing.contact` for the end of another contact, which it must not make fail."""
    try:
        witnessing.contact(peer)
    except TielineError as error:
        _log.info("witnessing.failed", peer=peer, reason=error.reason, text=error.message)
