"""Answering a peer's overlap query.

1. The signed header: its issuer is the caller, it is for us, policy lets this agency ask for this
   purpose, and the request id is new or known with this very header.
2. Batches, each checked (typed, strictly ascending across batches), looked up as they come. Storage
   confirms every hit of the index, so that nothing erased or staged is disclosed.
3. Policy decides per holding what may be said; series travel once, hits name them by index.
4. Hits wait until what they disclose is logged durably; then they leave. The log gets the items
   disclosed and the digest of the list, never the misses.
5. The body must be what the header announced; then a signed receipt closes the answer. A body that
   differs gets no receipt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind, unpack
from tieline_client.errors import InvalidInput, MalformedMessage, NotFound
from tieline_client.payloads import Audience, open_payload

from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import AnsweredQuery, HoldingView, Ids, Rows, Tx
from tieline_server.domain.series import Series
from tieline_server.services.context import Node, about
from tieline_server.services.indexing import IndexKeeper

_ITEMS_LOGGED = 10_000
"""Item ids named in one audit entry; more go into further entries."""


@dataclass(slots=True)
class _Answer:
    """One answer under way."""

    payload: payload_pb2.Payload
    header: envelope_pb2.Envelope
    rules: tuple[str, ...]
    generation: int
    list_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    answer_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    counts: dict[DigestKind, int] = field(default_factory=dict)
    last: tuple[DigestKind, bytes] | None = None
    waiting: list[exchange_pb2.OverlapResponse] = field(default_factory=list)
    waiting_items: set[int] = field(default_factory=set)
    items: set[int] = field(default_factory=set)
    hits: int = 0
    series: dict[str, int] = field(default_factory=dict)
    levels: dict[str, Disclosure] = field(default_factory=dict)
    level: Disclosure = Disclosure.NOTHING
    pending: bool = False
    truncated: bool = False
    decided: set[str] = field(default_factory=set)
    reserved: bool = False


class Answerer:
    """Answers queries from the index, as far as policy allows."""

    def __init__(self, node: Node, keeper: IndexKeeper) -> None:
        self._node, self._keeper = node, keeper

    def answer(
        self, peer: str, requests: Iterable[exchange_pb2.OverlapRequest]
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Yield the answer to one query of ``peer``. Raises a TielineError on refusal."""
        incoming = iter(requests)
        first = next(incoming, None)
        if first is None or first.WhichOneof("part") != "header":
            raise MalformedMessage("a query starts with its signed header")
        answer = self._open(peer, first.header)
        for request in incoming:
            if request.WhichOneof("part") != "batch":
                raise MalformedMessage("after its header a query holds digest batches only")
            self._batch(peer, answer, request)
            if answer.hits and len(answer.waiting_items) >= limits.HITS_PER_BATCH:
                yield from self._release(peer, answer)
        self._check_body(answer)
        yield from self._end(peer, answer)

    # 1
    def _open(self, peer: str, header: envelope_pb2.Envelope) -> _Answer:
        node = self._node
        payload = open_payload(
            header,
            directory=node.directory(),
            issuer=peer,
            audience=Audience(agency=node.agency),
            now=node.clock(),
        )
        if payload.WhichOneof("body") != "query":
            raise MalformedMessage("a query starts with a query header")
        query = payload.query
        if query.mode not in (payload_pb2.QUERY_MODE_EXACT, payload_pb2.QUERY_MODE_NEAR):
            raise InvalidInput("the query's mode is neither exact nor near")
        if query.records > limits.RECORDS_PER_QUERY or query.radius > limits.NEAR_RADIUS:
            raise InvalidInput(
                f"at most {limits.RECORDS_PER_QUERY} records and radius {limits.NEAR_RADIUS}"
            )
        if not payload.person:
            raise InvalidInput("the query names no person")
        node.check_purpose(payload.purpose, payload.case_ref)
        question = node.question(
            Action.ASK, asker=peer, holder=node.agency, purpose=payload.purpose
        )
        with about(payload.purpose, payload.case_ref, payload.person):
            rules = node.allow(question, f"{peer} may not ask {node.agency}")
        return _Answer(payload, header, rules, self._keeper.refresh())

    # 2
    def _batch(self, peer: str, answer: _Answer, request: exchange_pb2.OverlapRequest) -> None:
        try:
            kind = DigestKind(request.batch.kind)
        except ValueError:
            raise MalformedMessage("a batch names no kind of digest") from None
        if kind is DigestKind.PDQ and answer.payload.query.mode != payload_pb2.QUERY_MODE_NEAR:
            raise InvalidInput("perceptual hashes are sent in near queries only")
        after = None
        if answer.last is not None:
            if kind < answer.last[0]:
                raise MalformedMessage("the kinds of digest come in order")
            after = answer.last[1] if kind == answer.last[0] else None
        rows = unpack(kind, request.batch.digests, after=after)
        if not len(rows):
            return
        answer.last = (kind, rows[-1].tobytes())
        answer.list_digest.update(request.batch.digests)
        offset = answer.counts.get(kind, 0)
        answer.counts[kind] = offset + len(rows)
        if answer.counts[kind] > _announced(answer, kind):
            raise InvalidInput("more digests came than the header announces")
        positions, items, distances = self._look_up(answer, kind, rows)
        if len(positions):
            self._disclose(peer, answer, kind, positions + offset, items, distances)

    def _look_up(
        self, answer: _Answer, kind: DigestKind, rows: Rows
    ) -> tuple[Ids, Ids, np.typing.NDArray[np.int32] | None]:
        if kind is not DigestKind.PDQ:
            exact = self._node.matching.exact(kind, rows)
            return exact.positions, exact.item_ids, None
        near = self._node.matching.near(
            rows, radius=answer.payload.query.radius, cap=limits.NEAR_ANSWERS_PER_HASH
        )
        answer.truncated |= bool(len(near.truncated))
        return near.positions, near.item_ids, near.distances

    # 3
    def _disclose(
        self,
        peer: str,
        answer: _Answer,
        kind: DigestKind,
        positions: Ids,
        items: Ids,
        distances: np.typing.NDArray[np.int32] | None,
    ) -> None:
        held = self._holdings(np.unique(items).tolist(), kind is DigestKind.MD5)
        batch = exchange_pb2.HitBatch(kind=int(kind))  # type: ignore[arg-type]
        ambiguous: set[int] = set()
        for index, item in enumerate(items.tolist()):
            views = held.get(item)
            if not views:
                continue
            disclosed, level = self._series_disclosed(peer, answer, views)
            if level is Disclosure.NOTHING:
                continue
            position = int(positions[index])
            for series in disclosed or [0]:
                if len(batch.positions) >= limits.HITS_PER_BATCH:
                    self._queue(answer, batch, ambiguous)
                    batch = exchange_pb2.HitBatch(kind=int(kind))  # type: ignore[arg-type]
                batch.positions.append(position)
                batch.series.append(series)
                if distances is not None:
                    batch.distances.append(int(distances[index]))
            if kind is DigestKind.MD5 and views[0].md5_conflict:
                ambiguous.add(position)
            answer.waiting_items.add(item)
            answer.hits += 1
        self._queue(answer, batch, ambiguous)

    def _holdings(self, items: list[int], by_md5: bool) -> dict[int, list[HoldingView]]:
        held: dict[int, list[HoldingView]] = {}
        for view in self._node.store.read(
            lambda tx: tx.items.holdings(items, answerable_only=True, flag_conflicts=by_md5)
        ):
            held.setdefault(view.item, []).append(view)
        return held

    def _series_disclosed(
        self, peer: str, answer: _Answer, views: list[HoldingView]
    ) -> tuple[list[int], Disclosure]:
        """Return the series indexes that may be named, and the highest level over the holdings."""
        indexes: list[int] = []
        highest = Disclosure.NOTHING
        for view in views:
            level = self._level(peer, answer, view)
            highest = max(highest, level)
            if level >= Disclosure.REFERENCE and view.series:
                index = self._series_index(answer, view.series, level)
                if index not in indexes:
                    indexes.append(index)
        return indexes, highest

    def _level(self, peer: str, answer: _Answer, view: HoldingView) -> Disclosure:
        """Return what policy discloses of holdings of one import: all are held under the same."""
        known = answer.levels.get(view.import_id)
        if known is not None:
            return known
        node = self._node
        decision = node.policy.highest_disclosure(
            node.question(
                Action.LEARN_HIT,
                asker=peer,
                holder=node.agency,
                purpose=answer.payload.purpose,
                handling=view.handling,
            )
        )
        answer.levels[view.import_id] = decision.level
        answer.pending |= decision.pending
        answer.level = max(answer.level, decision.level)
        if decision.level is not Disclosure.NOTHING:
            answer.decided.update(decision.decision.rules)
        return decision.level

    def _series_index(self, answer: _Answer, series_id: str, level: Disclosure) -> int:
        known = answer.series.get(series_id)
        if known is not None:
            return known
        series = self._node.store.read(lambda tx: tx.series.get(series_id))
        if series is None:
            raise NotFound(f"series {series_id} was erased while it was being answered; ask again")
        answer.series[series_id] = index = len(answer.series) + 1
        entry = _series_entry(index, series, with_name=level >= Disclosure.DETAIL)
        answer.waiting.append(exchange_pb2.OverlapResponse(series=entry))
        return index

    @staticmethod
    def _queue(answer: _Answer, batch: exchange_pb2.HitBatch, ambiguous: set[int]) -> None:
        if batch.positions:
            batch.ambiguous.extend(sorted(ambiguous))
            ambiguous.clear()
            if not any(batch.series):
                batch.ClearField("series")
            answer.waiting.append(exchange_pb2.OverlapResponse(hits=batch))

    # 4
    def _release(self, peer: str, answer: _Answer) -> Iterator[exchange_pb2.OverlapResponse]:
        """Log what waits, durably, then let it go."""
        items = sorted(answer.waiting_items)
        self._node.store.write(lambda tx: self._log_items(tx, peer, answer, items))
        answer.reserved = True
        yield from self._let_go(answer)

    def _let_go(self, answer: _Answer) -> Iterator[exchange_pb2.OverlapResponse]:
        waiting = answer.waiting
        answer.items |= answer.waiting_items
        answer.waiting, answer.waiting_items = [], set()
        for response in waiting:
            answer.answer_digest.update(response.SerializeToString(deterministic=True))
            yield response

    def _log_items(self, tx: Tx, peer: str, answer: _Answer, items: list[int]) -> None:
        payload = answer.payload
        if not answer.reserved:
            tx.queries.reserve(
                payload.id, peer, hashlib.sha256(answer.header.payload).digest(), self._node.clock()
            )
        for start in range(0, len(items), _ITEMS_LOGGED):
            tx.audit.append(
                self._node.entry(
                    "query.disclosed",
                    person=payload.person,
                    peer=peer,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    subjects=(payload.id,),
                    rules=tuple(sorted(answer.decided)),
                    disclosure=answer.level.label,
                    items=items[start : start + _ITEMS_LOGGED],
                )
            )

    # 5
    @staticmethod
    def _check_body(answer: _Answer) -> None:
        query = answer.payload.query
        counts = [answer.counts.get(kind, 0) for kind in DigestKind]
        announced = [*query.counts, *([0] * (len(counts) - len(query.counts)))]
        if counts != announced or answer.list_digest.digest() != query.list_digest:
            raise InvalidInput("the digests are not those that the header announces; no receipt")

    def _end(self, peer: str, answer: _Answer) -> Iterator[exchange_pb2.OverlapResponse]:
        node, payload = self._node, answer.payload
        now = node.clock()
        digest = answer.answer_digest.copy()
        for response in answer.waiting:
            digest.update(response.SerializeToString(deterministic=True))
        receipt = node.sealer.seal(
            payload_pb2.Payload(
                person="",
                purpose=payload.purpose,
                case_ref=payload.case_ref,
                receipt=payload_pb2.Receipt(
                    request=payload.id,
                    request_digest=hashlib.sha256(answer.header.payload).digest(),
                    generation=answer.generation,
                    hits=answer.hits,
                    answer_digest=digest.digest(),
                    disclosure=answer.level.label,
                ),
            ),
            Audience(agency=peer),
            now,
        )
        last_items = sorted(answer.waiting_items)

        def settle(tx: Tx) -> None:
            self._log_items(tx, peer, answer, last_items)
            tx.queries.finish(
                AnsweredQuery(
                    request=payload.id,
                    peer=peer,
                    person=payload.person,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    header_digest=hashlib.sha256(answer.header.payload).digest(),
                    header=answer.header.SerializeToString(),
                    records=payload.query.records,
                    hits=answer.hits,
                    receipt=receipt.SerializeToString(),
                    at=now,
                )
            )
            tx.audit.append(
                node.entry(
                    "query.answered",
                    person=payload.person,
                    peer=peer,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    subjects=(payload.id,),
                    rules=tuple(sorted({*answer.rules, *answer.decided})),
                    records=payload.query.records,
                    hits=answer.hits,
                    disclosure=answer.level.label,
                    generation=answer.generation,
                    list_digest=payload.query.list_digest.hex(),
                )
            )

        node.store.write(settle)
        answer.reserved = True
        yield from self._let_go(answer)
        end = exchange_pb2.OverlapEnd(
            receipt=receipt,
            disclosure=answer.level.label,
            pending=answer.pending,
            truncated=answer.truncated,
        )
        if answer.level >= Disclosure.COUNT:
            end.count = len(answer.items)
        yield exchange_pb2.OverlapResponse(end=end)


def _announced(answer: _Answer, kind: DigestKind) -> int:
    counts = answer.payload.query.counts
    index = list(DigestKind).index(kind)
    return counts[index] if index < len(counts) else 0


def _series_entry(index: int, series: Series, *, with_name: bool) -> exchange_pb2.SeriesEntry:
    numbers = [f"repository:{series.number}"] if series.number else []
    numbers += [f"{reference.scheme}:{reference.value}" for reference in series.references]
    return exchange_pb2.SeriesEntry(
        index=index,
        id=series.id,
        name=series.name if with_name else "",
        status=series.status.value,
        references=numbers[: limits.REFERENCES_PER_SERIES],
        contact_name=series.contact.name,
        contact_email=series.contact.email,
        contact_phone=series.contact.phone,
    )
