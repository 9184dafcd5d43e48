"""A person's question: the list as it comes in, and what goes back.

1. The list comes packed by kind, ascending, without the records of other categories: those the
   person's client left out. It goes to a spool and is held against what its header announces.
2. What is on an exclusion list is told to the client, and nobody is asked.
3. Otherwise peers are asked (peer_round.py), each reading the spool at its own pace. Without
   exclusion lists, and when the rest of a large list will be here in a moment, that is while it
   still comes in; a list that then turns out to be another is broken off everywhere. Whether it is,
   by its SHA-256, the peers find out that give no receipt for another; only for one that gave none
   is it looked at here. Nobody is asked before the SHA-256 is announced: a person's client may
   still be working it out while the list comes in.
4. Each peer's answer is kept until its receipt is checked and its end is logged; then it is shown.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future

from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch, per_batch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, LimitExceeded, MalformedMessage
from tieline_client.packed import Index

from tieline_server.services.admission import listed
from tieline_server.services.context import Node, Person
from tieline_server.services.list_check import ListCheck
from tieline_server.services.peer_question import PeerResult
from tieline_server.services.peer_round import Announced, PeerRound, Terms, choose_peers
from tieline_server.services.spool import Spool

Responses = Iterator[operator_pb2.AskOverlapResponse]


class Question:
    """One question under way: its list comes in, then it is answered. `close` ends it."""

    def __init__(self, node: Node, person: Person, header: operator_pb2.AskHeader) -> None:
        self._node, self._header = node, header
        terms = Terms.of(node, person, header)
        self._check = ListCheck(header.counts, header.list_digest)
        self._counts = self._check.counts
        self._check_counts()
        self._chosen = choose_peers(
            node, header.purpose, header.peers, everyone=header.all, case_ref=header.case_ref
        )
        self._size = sum(kind.width * count for kind, count in self._counts.items())
        self._spool = Spool(self._size, node.scratch)
        self._excludes = node.store.recall("exclusions", lambda tx: tx.imports.has_exclusions())
        self._hashes = self._excludes or self._size <= limits.EARLY_BYTES
        """Whether the list is hashed as it comes in, rather than when it has to be, if at all."""
        if not self._hashes:
            self._check.hash_later()
        self._known_good: list[tuple[DigestKind, Index]] = []
        announced = Announced(
            header.records, header.excluded, tuple(self._counts.values()), header.list_digest
        )
        self._round = PeerRound(node, terms, self._chosen, announced)
        self._beginning: Future[None] | None = None
        self._began = time.monotonic()
        self._came = 0

    def _check_counts(self) -> None:
        header, counts = self._header, self._counts
        if header.records > limits.RECORDS_PER_QUERY:
            raise LimitExceeded(
                f"a question may hold {limits.RECORDS_PER_QUERY} records; ask in parts"
            )
        if max(counts.values()) > header.records or bool(header.records) != any(counts.values()):
            raise InvalidInput("the header's counts are not those of its records")
        if counts[DigestKind.PDQ] and not header.near:
            raise InvalidInput("perceptual hashes are asked in near questions only")

    # 1
    def announce(self, digest: bytes) -> None:
        """Take the list's SHA-256, which the header left out. Raises MalformedMessage."""
        if self._check.digest or not digest:
            raise MalformedMessage("a list has one digest, in its header or after it")
        self._check.digest = digest
        self._round.announce(digest)
        self._begin_early()

    def take(self, batch: DigestBatch) -> None:
        """Take the next batch of the list. Raises InvalidInput for what was not announced."""
        before = self._check.take(batch)
        if self._excludes:
            self._look_for_known_good(batch, before)
        self._spool.write(batch)
        self._came += len(batch.digests)
        if self._beginning is None:
            self._begin_early()
        elif self._beginning.done():
            self._beginning.result()  # it could not be logged: the rest need not come

    def _begin_early(self) -> None:
        """Ask the peers while the list comes in, where so much is still to come that it is worth
        it, and takes but a moment. What is here whole is held against its digest first."""
        left, spent = self._size - self._came, time.monotonic() - self._began
        if self._hashes or not self._check.digest or left <= limits.EARLY_BYTES:
            return
        if left * spent <= self._came * limits.EARLY_SECONDS:
            self._beginning = self._round.begin_aside(self._lists, self._verify)

    # 2
    def _look_for_known_good(self, batch: DigestBatch, before: int) -> None:
        found = listed(self._node.store, batch.kind, batch.rows)
        if len(found):
            self._known_good.append((batch.kind, found + before))

    # 3, 4
    def answer(self) -> Iterator[Responses]:
        """Ask, once the whole list is here, and yield what is there at the same time as a group.

        That is what is known good, and no more; or first who is asked, then what peers answered as
        they end. Raises InvalidInput when the list is not the announced one.
        """
        if not self._check.digest:
            raise MalformedMessage("the digest of the list did not come; send it with the list")
        self._check.finish()
        if self._known_good:
            yield _known_good_messages(self._known_good)
            return
        if self._beginning is None:
            if not self._hashes:
                self._check.check_digest(self._lists())
            self._round.begin(self._lists)
        else:
            self._beginning.result()
        yield self._started()
        while self._round.pending:
            yield _messages(self._round.ended())

    def _started(self) -> Responses:
        header = self._header
        yield operator_pb2.AskOverlapResponse(
            started=operator_pb2.AskStarted(
                asked=header.records, excluded=header.excluded, peers=self._chosen.everyone
            )
        )
        for refused in self._chosen.refused:
            yield operator_pb2.AskOverlapResponse(end=refused)
        if not self._size:
            for agency in self._chosen.peers:
                end = operator_pb2.PeerEnd(
                    agency=agency, status="answered", reason="nothing was asked"
                )
                yield operator_pb2.AskOverlapResponse(end=end)

    def close(self) -> None:
        """End it wherever it stands. A list that was here, and went to peers, is kept all the same:
        whoever asked for it need not stay until they answer."""
        if self._came == self._size:
            self._begun()
            self._round.keep()
        self._spool.break_off()
        self._begun()
        self._round.close()

    def _begun(self) -> None:
        if self._beginning is not None:
            with contextlib.suppress(Exception):  # told already, or told by what ended it
                self._beginning.result()

    def _verify(self) -> None:
        self._check.finish()
        self._check.check_digest(self._lists())

    def _lists(self) -> Iterator[DigestBatch]:
        """Yield the list as it travels to a peer, at the peer's pace."""
        offset = 0
        for kind, count in self._counts.items():
            most = per_batch(kind)
            for start in range(0, count, most):
                size = min(most, count - start) * kind.width
                yield self._spool.read(kind, offset, size)
                offset += size


def _messages(results: list[PeerResult]) -> Responses:
    for result in results:
        yield from result.messages()
        result.kept.close()


def _known_good_messages(found: list[tuple[DigestKind, Index]]) -> Responses:
    for kind, positions in found:
        for start in range(0, len(positions), limits.HITS_PER_BATCH):
            part = positions[start : start + limits.HITS_PER_BATCH]
            known = operator_pb2.KnownGood(kind=int(kind), positions=part.tolist())  # type: ignore[arg-type]
            yield operator_pb2.AskOverlapResponse(known_good=known)
