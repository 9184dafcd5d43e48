"""Asking peers which digests they hold: all at once, each in its own thread, none delaying another.

1. Peers: the named ones, or those that policy lists for the purpose, or every member. Policy is
   asked on this side too, since a question shows its digests to whoever is asked.
2. The list comes packed by kind, ascending, without the records of other categories: those the
   person's client left out. It goes to a spool and is held against what its header announces.
3. What is on an exclusion list is told to the client, and nobody is asked.
4. The question is logged durably, with whom policy kept from being asked; only then a signed header
   and the list go to every peer. Without exclusion lists, and when the rest of the list will be
   here in a moment, that is while it still comes in; a list that then turns out to be another is
   broken off everywhere.
5. Each peer's answer is kept until its receipt is checked and its end is logged; then it is shown.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tieline.v1 import digests_pb2, operator_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, LimitExceeded, StorageUnavailable
from tieline_client.identifiers import new_id
from tieline_client.packed import Index

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Rows, Tx
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.list_check import ListCheck
from tieline_server.services.peer_question import PeerQuestion, PeerResult
from tieline_server.services.spool import Spool

Responses = Iterator[operator_pb2.AskOverlapResponse]
_THREADS = ThreadPoolExecutor(limits.PEERS_AT_ONCE, thread_name_prefix="ask")


class Question:
    """One question under way: its list comes in, then it is answered. `close` ends it."""

    def __init__(self, node: Node, person: Person, header: operator_pb2.AskHeader) -> None:
        self._node, self._person, self._header = node, person, header
        node.check_purpose(header.purpose, header.case_ref)
        self._case = clean(header.case_ref)
        if header.deadline_seconds > limits.QUERY_SECONDS_MOST:
            raise InvalidInput(f"a peer is waited for at most {limits.QUERY_SECONDS_MOST} seconds")
        self._deadline = header.deadline_seconds or node.defaults.query_seconds
        self._check = ListCheck(header.counts, header.list_digest)
        self._check_counts()
        self.peers, self._refused = self._choose_peers()
        self._size = sum(kind.width * count for kind, count in self._check.counts.items())
        self._spool = Spool(self._size, node.scratch)
        self._excludes = node.store.read(lambda tx: tx.imports.has_exclusions())
        self._known_good: list[tuple[DigestKind, Index]] = []
        self._results: queue.SimpleQueue[PeerResult] = queue.SimpleQueue()
        self._began = time.monotonic()
        self._came = 0
        self._begun = False
        self._pending: set[str] = set()
        """Peers that were asked and whose end is not logged yet."""

    def _check_counts(self) -> None:
        header, counts = self._header, self._check.counts
        if header.records > limits.RECORDS_PER_QUERY:
            raise LimitExceeded(
                f"a question may hold {limits.RECORDS_PER_QUERY} records; ask in parts"
            )
        if max(counts.values()) > header.records or bool(header.records) != any(counts.values()):
            raise InvalidInput("the header's counts are not those of its records")
        if counts[DigestKind.PDQ] and not header.near:
            raise InvalidInput("perceptual hashes are asked in near questions only")

    # 1
    def _choose_peers(self) -> tuple[list[str], list[operator_pb2.PeerEnd]]:
        node, header = self._node, self._header
        named = list(dict.fromkeys(header.peers))
        if node.agency in named:
            raise InvalidInput(f"{node.agency} is this node; name other agencies")
        candidates = named or [
            member.agency
            for member in node.directory().active_members()
            if member.agency != node.agency
        ]
        chosen, refused = [], []
        for agency in candidates:
            decision = node.policy.decide(
                node.question(Action.ASK, asker=node.agency, holder=agency, purpose=header.purpose)
            )
            if decision.allowed:
                chosen.append(agency)
            elif named or header.all:
                refused.append(
                    operator_pb2.PeerEnd(agency=agency, status="refused", reason=decision.why)
                )
        return chosen, refused

    # 2
    def take(self, batch: digests_pb2.DigestList) -> None:
        """Take the next batch of the list. Raises InvalidInput for what was not announced."""
        kind, packed, before = self._check.take(batch)
        if self._excludes:
            self._look_for_known_good(kind, packed, before)
        self._spool.write(packed)
        self._came += len(packed)
        if not self._excludes and not self._begun and self._rest_is_near():
            self._begin()

    def _rest_is_near(self) -> bool:
        """Whether so much is still to come that it is worth it, and takes but a moment."""
        left = self._size - self._came
        spent = time.monotonic() - self._began
        return left > limits.EARLY_BYTES and left * spent <= self._came * limits.EARLY_SECONDS

    # 3
    def _look_for_known_good(self, kind: DigestKind, packed: bytes, before: int) -> None:
        rows = np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)
        found = _known_good(self._node, kind, rows)
        if len(found):
            self._known_good.append((kind, found + before))

    def answer(self) -> Iterator[Responses]:
        """Ask, once the whole list is here, and yield what is there at the same time as a group.

        That is what is known good, and no more; or first who is asked, then what peers answered as
        they end. Raises InvalidInput when the list is not the announced one.
        """
        self._check.finish()
        if self._known_good:
            yield _known_good_messages(self._known_good)
            return
        if not self._begun:
            self._begin()
        yield self._started()
        while self._pending:
            yield _messages(self._log_results())

    def _started(self) -> Responses:
        header = self._header
        yield operator_pb2.AskOverlapResponse(
            started=operator_pb2.AskStarted(
                asked=header.records,
                excluded=header.excluded,
                peers=[*self.peers, *(one.agency for one in self._refused)],
            )
        )
        for refused in self._refused:
            yield operator_pb2.AskOverlapResponse(end=refused)
        if not self._size:
            for agency in self.peers:
                end = operator_pb2.PeerEnd(
                    agency=agency, status="answered", reason="nothing was asked"
                )
                yield operator_pb2.AskOverlapResponse(end=end)

    def close(self) -> None:
        """End it wherever it stands; who was asked and has not ended is logged as broken off."""
        self._spool.break_off()
        entries = [
            self._result_entry(
                operator_pb2.PeerEnd(
                    agency=agency,
                    status="unreachable",
                    reason="the question was broken off before this peer answered",
                )
            )
            for agency in sorted(self._pending)
        ]
        if not entries:
            return
        self._pending.clear()
        # A node that stops has no storage any more; that it asked is in the log already.
        with contextlib.suppress(StorageUnavailable):
            self._log(entries)

    # 4
    def _begin(self) -> None:
        """Log the question durably, then ask every peer."""
        self._begun = True
        header = self._header
        asked = self.peers if self._size else []
        entry = self._entry(
            "query.asked",
            records=header.records,
            excluded=header.excluded,
            peers=asked,
            refused={one.agency: one.reason for one in self._refused},
            near=header.near,
            list_digest=header.list_digest.hex(),
        )
        self._log([entry])
        self._pending = set(asked)
        for agency in asked:
            _THREADS.submit(self._ask_peer, agency)

    def _ask_peer(self, agency: str) -> None:
        self._results.put(self._peer_question(agency).ask(self._lists))

    def _peer_question(self, agency: str) -> PeerQuestion:
        header = self._header
        counts = list(self._check.counts.values())
        payload = payload_pb2.Payload(
            id=new_id(),
            person=self._person.name,
            purpose=header.purpose,
            case_ref=self._case,
            query=payload_pb2.QueryHeader(
                mode=payload_pb2.QUERY_MODE_NEAR if header.near else payload_pb2.QUERY_MODE_EXACT,
                records=header.records,
                counts=counts,
                list_digest=header.list_digest,
                radius=limits.NEAR_RADIUS if header.near else 0,
            ),
        )
        return PeerQuestion(self._node, agency, payload, counts, self._deadline)

    def _lists(self) -> Iterator[digests_pb2.DigestList]:
        """Yield the list as it travels to a peer, at the peer's pace."""
        offset = 0
        for kind, count in self._check.counts.items():
            for start in range(0, count, limits.DIGESTS_PER_BATCH):
                size = min(limits.DIGESTS_PER_BATCH, count - start) * kind.width
                yield digests_pb2.DigestList(
                    kind=int(kind),  # type: ignore[arg-type]
                    digests=self._spool.read(offset, size),
                )
                offset += size

    # 5
    def _log_results(self) -> list[PeerResult]:
        """Wait for a peer to end; log it, and those that ended meanwhile, in one commit."""
        results = [self._results.get()]
        brief = sum(self._check.counts.values()) <= limits.DIGESTS_BRIEF
        patience = limits.TOGETHER_SECONDS if brief else 0.0
        with contextlib.suppress(queue.Empty):
            while len(results) < len(self._pending):
                results.append(self._results.get(timeout=patience))
        self._log([self._result_entry(one.end, one) for one in results])
        self._pending.difference_update(one.end.agency for one in results)
        return results

    def _result_entry(
        self, end: operator_pb2.PeerEnd, result: PeerResult | None = None
    ) -> AuditEntry:
        return self._entry(
            "query.result",
            peer=end.agency,
            subjects=(end.receipt,) if end.receipt else (),
            status=end.status,
            reason=end.reason,
            overlaps=result.overlaps if result else 0,
            receipt=base64.b64encode(result.receipt).decode() if result else "",
        )

    def _entry(
        self, action: str, *, peer: str = "", subjects: tuple[str, ...] = (), **detail: object
    ) -> AuditEntry:
        return self._node.entry(
            action,
            person=self._person.name,
            peer=peer,
            purpose=self._header.purpose,
            case_ref=self._case,
            subjects=subjects,
            rules=(),
            **detail,
        )

    def _log(self, entries: list[AuditEntry]) -> None:
        def append(tx: Tx) -> None:
            for entry in entries:
                tx.audit.append(entry)

        self._node.store.write(append)


def _messages(results: list[PeerResult]) -> Responses:
    for result in results:
        yield from result.messages()
        result.kept.close()


def _known_good(node: Node, kind: DigestKind, rows: Rows) -> Index:
    """Return the positions of (n, width) digests that an exclusion list names."""
    values = [(kind, row.tobytes()) for row in rows]
    listed = node.store.read(lambda tx: tx.imports.excluded(values))
    return np.flatnonzero([value in listed for value in values])


def _known_good_messages(found: list[tuple[DigestKind, Index]]) -> Responses:
    for kind, positions in found:
        for start in range(0, len(positions), limits.HITS_PER_BATCH):
            part = positions[start : start + limits.HITS_PER_BATCH]
            known = operator_pb2.KnownGood(kind=int(kind), positions=part.tolist())  # type: ignore[arg-type]
            yield operator_pb2.AskOverlapResponse(known_good=known)
