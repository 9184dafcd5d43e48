"""Answering a peer's overlap query.

1. The signed header: its issuer is the caller, it is for us, and the request id is new or known
   with this very header. What it asks is taken off the caller's budget, durably and before anything
   is looked up (budgeting.py), and policy lets this agency ask for this purpose, that much.
2. Batches, each checked (typed, strictly ascending across batches), looked up as they come.
3. Policy decides per way of being held what may be said (disclosing.py); series travel once, hits
   name them by index. Nothing that is only staged is disclosed.
4. Hits wait until what they disclose is logged durably, which goes on beside the reading of the
   rest; then they leave. The log gets the items disclosed and the digest of the list, never the
   misses. What was erased meanwhile does not leave.
5. The body must be what the header announced; then a signed receipt closes the answer. A body that
   differs gets no receipt, is charged all the same, and uses its request id up.

The same question again, after a call that broke off, costs nothing; its hits wait until the whole
body proved to be the announced one, lest one payment buy several lists.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    InvalidDigest,
    InvalidInput,
    MalformedMessage,
    StorageUnavailable,
    TielineError,
    WrongState,
)
from tieline_client.identifiers import new_id
from tieline_client.packed import distinct
from tieline_client.payloads import Audience, open_payload

from tieline_server.domain.audit import salted
from tieline_server.domain.budget import units_of
from tieline_server.domain.minhash import U32, Sketcher
from tieline_server.domain.policy import Action, Decision, Disclosure
from tieline_server.domain.ports import AnsweredQuery, Ids, Record
from tieline_server.domain.ports.sketches import AskedSketch
from tieline_server.domain.request import Request, RequestKind, Side, parse_wish
from tieline_server.services.budgeting import Charge
from tieline_server.services.context import Node, about, clean
from tieline_server.services.disclosing import Disclosing, Hits
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.sketches import SKETCHES
from tieline_server.services.standing import Standings
from tieline_server.services.vital_interests import (
    check_stated,
    endangered,
    standing,
    stated_out,
)

_ITEMS_LOGGED = 10_000
"""Item ids named in one audit entry; more go into further entries."""
_HITS_RELEASED = limits.HITS_PER_BATCH
"""Hits from which on a durable entry is made about what they disclose, while reading goes on."""
_HITS_WAITING = 5 * _HITS_RELEASED
"""Hits that wait at most while an entry is made about those before."""
_LOOKUPS = ThreadPoolExecutor(min(os.cpu_count() or 1, 8), thread_name_prefix="look-up")
"""A long batch is looked up here while the next one is read and hashed; a short one takes less
than waking a thread."""
_RELEASES = ThreadPoolExecutor(16, thread_name_prefix="release")
"""What hits disclose is decided and logged here, for each answer one after another."""


class _Found(NamedTuple):
    """What a batch led to, whether near answers were capped, and its part of the sketch."""

    hits: Hits
    truncated: bool
    least: U32


@dataclass(slots=True)
class _Answer:
    """One answer under way."""

    payload: payload_pb2.Payload
    header: envelope_pb2.Envelope
    rules: tuple[str, ...]
    generation: int
    disclosing: Disclosing
    sketcher: Sketcher
    charge: Charge
    list_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    answer_digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    counts: dict[DigestKind, int] = field(default_factory=dict)
    last: tuple[DigestKind, bytes] | None = None
    looked_up: deque[Callable[[], _Found]] = field(default_factory=deque)
    """Returns, for each batch in order, what it led to."""
    found: list[Hits] = field(default_factory=list)
    found_count: int = 0
    waiting: list[exchange_pb2.OverlapResponse] = field(default_factory=list)
    waiting_items: list[Ids] = field(default_factory=list)
    releasing: Future[bool] | None = None
    """Makes what waits ready to leave; until it is over, nobody else touches what waits."""
    items: list[Ids] = field(default_factory=list)
    hits: int = 0
    truncated: bool = False
    reserved: bool = False
    came: int = 0
    """Digests that were looked up for it."""
    kept: bool = False
    """Whether it is recorded whole."""
    known: bool = False
    """Whether the request id stood in storage already, with this header."""
    request: str = ""
    """The request that waits for a person, once it is noted."""

    def logged(self) -> bool:
        """Whether anything that was to leave is in the log, once what is under way is over."""
        if self.releasing is not None:
            self.releasing.exception()
        return self.reserved


class Answerer:
    """Answers queries from the index, as far as policy allows."""

    def __init__(self, node: Node) -> None:
        self._node, self._standings = node, Standings(node)

    def answer(
        self, peer: str, requests: Iterable[exchange_pb2.OverlapRequest | DigestBatch]
    ) -> Iterator[exchange_pb2.OverlapResponse]:
        """Yield the answer to one query of ``peer``. Raises a TielineError on refusal."""
        incoming = iter(requests)
        first = next(incoming, None)
        if not isinstance(first, exchange_pb2.OverlapRequest) or not first.HasField("header"):
            raise MalformedMessage("a query starts with its signed header")
        self._standings.check_peer(peer)
        answer = self._open(peer, first.header)
        try:
            for request in incoming:
                self._take(answer, _batch_of(request))
                self._found(answer, ahead=limits.LOOKUPS_AHEAD)
                yield from self._released(answer, wait=answer.found_count >= _HITS_WAITING)
                if answer.found_count >= _HITS_RELEASED and not answer.charge.repeat:
                    self._release(peer, answer)
            self._check_body(answer)
            self._found(answer, ahead=0)
            yield from self._released(answer, wait=True)
            self._disclose(answer, *_taken(answer))
            yield from self._end(peer, answer)
        except InvalidInput:
            answer.logged()
            self._node.budgets.spoil(answer.charge)
            raise
        except BaseException:
            if not (answer.charge.repeat or answer.charge.stored or answer.logged()):
                self._node.budgets.keep(answer.charge)
            raise
        finally:
            if answer.came and not answer.kept:
                self._broke_off(peer, answer)

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
        self._standings.check_epoch(peer, query.epoch)
        if not payload.person:
            raise InvalidInput("the query names no person")
        node.check_purpose(payload.purpose, payload.case_ref)
        with about(payload.purpose, payload.case_ref, payload.person):
            charge, decision, stated = self._admit(peer, payload, header)
        generation = node.store.index.refresh()
        disclosing = Disclosing(
            node,
            peer,
            payload.purpose,
            clean(payload.case_ref),
            parse_wish(query.wish),
            with_handling=query.reads_handling,
            endangered=stated and self._answers_endangered(peer, payload),
        )
        sketcher = Sketcher(node.key_for(SKETCHES))
        rules = decision.rules
        return _Answer(payload, header, rules, generation, disclosing, sketcher, charge)

    def _admit(
        self, peer: str, payload: payload_pb2.Payload, header: envelope_pb2.Envelope
    ) -> tuple[Charge, Decision, bool]:
        """Take the units, then ask policy; what policy refuses costs nothing.

        Returns also whether it is allowed on the vital interests that the asker states alone.
        """
        node, query = self._node, payload.query
        units = units_of(query.records, query.counts)
        charge = node.budgets.charge(
            peer, payload.purpose, payload.id, hashlib.sha256(header.payload).digest(), units
        )
        try:
            decision = node.may_ask(
                *(peer, node.agency, payload.purpose),
                asked=units,
                spent=charge.spent,
                budget=charge.budget,
            )
            stated = not decision.allowed and query.HasField("vital_interests")
            if stated:
                check_stated(query.vital_interests)
                question = node.question(
                    Action.ASK, asker=peer, holder=node.agency, purpose=payload.purpose
                )
                question = replace(question, asked=units, spent=charge.spent, budget=charge.budget)
                decision = node.policy.decide(endangered(question))
            node.allowed(decision, f"{peer} may not ask {node.agency}")
        except TielineError:
            node.budgets.refund(charge, forget=True)
            raise
        return charge, decision, stated

    def _answers_endangered(self, peer: str, payload: payload_pb2.Payload) -> bool:
        """Whether the answer to a question that was asked on the exception may go on it too.

        Into the union it may, on the asker's word: no rule of the union keeps data out. Out of it
        two officers of this agency have to say so (`tieline requests vital-interests`).
        """
        node = self._node
        if node.party(peer).union:
            return True
        case_ref = clean(payload.case_ref)
        return (
            node.store.read(lambda tx: standing(node, tx, peer, payload.purpose, case_ref))
            is not None
        )

    # 2
    def _take(self, answer: _Answer, batch: DigestBatch) -> None:
        """Hold a batch against the header, and begin to look it up."""
        kind = batch.kind
        if kind is DigestKind.PDQ and answer.payload.query.mode != payload_pb2.QUERY_MODE_NEAR:
            raise InvalidInput("perceptual hashes are sent in near queries only")
        if not len(batch):
            return
        if answer.last is not None:
            if kind < answer.last[0]:
                raise MalformedMessage("the kinds of digest come in order")
            if kind == answer.last[0] and batch.first <= answer.last[1]:
                raise InvalidDigest(
                    f"{kind.label} digests are not strictly ascending across batches"
                )
        answer.last = (kind, batch.last)
        offset = answer.counts.get(kind, 0)
        answer.counts[kind] = offset + len(batch)
        if answer.counts[kind] > _announced(answer, kind):
            raise InvalidInput("more digests came than the header announces")
        look_up = partial(self._look_up, answer, batch, offset)
        brief = len(batch) <= limits.DIGESTS_BRIEF
        answer.looked_up.append(look_up if brief else _LOOKUPS.submit(look_up).result)
        answer.list_digest.update(batch.digests)
        answer.came += len(batch)

    def _found(self, answer: _Answer, *, ahead: int) -> None:
        """Take what was found, in order; ``ahead`` batches may still be looked up."""
        while len(answer.looked_up) > ahead:
            hits, truncated, least = answer.looked_up.popleft()()
            answer.sketcher.keep(least)
            answer.truncated |= truncated
            if len(hits.positions):
                answer.found.append(hits)
                answer.found_count += len(hits.positions)

    # 3
    @staticmethod
    def _disclose(answer: _Answer, *found: Hits) -> None:
        """Turn what was found into what may be said, many batches' hits at once."""
        for _, of_kind in groupby(found, key=lambda one: one.kind):
            messages, items, count = answer.disclosing.responses(Hits.joined(list(of_kind)))
            answer.waiting += messages
            answer.waiting_items.append(items)
            answer.hits += count

    def _look_up(self, answer: _Answer, batch: DigestBatch, offset: int) -> _Found:
        kind, rows = batch.kind, batch.rows
        self._node.watch.asked(answer.charge.peer, answer.payload.id, kind, rows)
        least = answer.sketcher.least_of(kind, rows)
        if kind is not DigestKind.PDQ:
            exact = self._node.matching.exact(kind, rows)
            at = exact.positions
            return _Found(Hits(kind, at + offset, exact.item_ids, rows[at], None), False, least)
        radius = answer.payload.query.radius
        near = self._node.matching.near(rows, radius=radius, cap=limits.NEAR_ANSWERS_PER_HASH)
        at = near.positions
        hits = Hits(kind, at + offset, near.item_ids, rows[at], near.distances)
        return _Found(hits, bool(len(near.truncated)), least)

    # 4
    def _release(self, peer: str, answer: _Answer) -> None:
        """Begin to decide what may be said of what was found, and to log it durably, unless that
        is being done for what was found before."""
        if answer.releasing is not None:
            return
        found = _taken(answer)

        def work() -> bool:
            self._disclose(answer, *found)
            if not any(map(len, answer.waiting_items)):
                return False
            self._node.store.note(lambda tx: self._log_items(tx, peer, answer))
            answer.reserved = True
            return True

        answer.releasing = _RELEASES.submit(work)

    def _released(self, answer: _Answer, *, wait: bool) -> Iterator[exchange_pb2.OverlapResponse]:
        """Let go what was logged meanwhile."""
        if answer.releasing is not None and (wait or answer.releasing.done()):
            logged = answer.releasing.result()
            answer.releasing = None
            if logged:
                yield from self._let_go(answer)

    def _let_go(self, answer: _Answer) -> Iterator[exchange_pb2.OverlapResponse]:
        waiting = answer.waiting
        answer.items += answer.waiting_items
        answer.waiting, answer.waiting_items = [], []
        for response in waiting:
            answer.answer_digest.update(response.SerializeToString(deterministic=True))
            yield response

    def _log_items(self, tx: Record, peer: str, answer: _Answer) -> None:
        """Log the items that waiting hits disclose, unless some may have been erased meanwhile."""
        payload = answer.payload
        if answer.waiting_items and tx.erasures() != answer.disclosing.erasures:
            raise WrongState("holdings were erased while the question was answered; ask again")
        items = _distinct(answer.waiting_items).tolist()
        if not (answer.reserved or answer.charge.stored):
            answer.known = not tx.queries.reserve(
                payload.id, peer, answer.charge.header_digest, self._node.clock()
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
                    rules=tuple(sorted(answer.disclosing.rules)),
                    disclosure=answer.disclosing.level.label,
                    items=items[start : start + _ITEMS_LOGGED],
                )
            )

    # 5
    @staticmethod
    def _check_body(answer: _Answer) -> None:
        query = answer.payload.query
        announced = {DigestKind(at): count for at, count in enumerate(query.counts, 1) if count}
        if answer.counts != announced or answer.list_digest.digest() != query.list_digest:
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
                    request_digest=answer.charge.header_digest,
                    generation=answer.generation,
                    hits=answer.hits,
                    answer_digest=digest.digest(),
                    disclosure=answer.disclosing.level.label,
                ),
            ),
            Audience(agency=peer),
            now,
        )

        waiting = answer.disclosing.waiting()
        basis: Any = self._basis(peer, answer) if answer.hits else {}

        def settle(tx: Record) -> None:
            self._log_items(tx, peer, answer)
            answer.request = self._wait(tx, peer, answer, *waiting)
            tx.queries.finish(
                AnsweredQuery(
                    request=payload.id,
                    peer=peer,
                    person=payload.person,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    header_digest=answer.charge.header_digest,
                    header=answer.header.SerializeToString(),
                    records=payload.query.records,
                    hits=answer.hits,
                    receipt=receipt.SerializeToString(),
                    at=now,
                )
            )
            tx.sketches.put(self._sketch(peer, answer))
            tx.audit.append(
                node.entry(
                    "query.answered",
                    person=payload.person,
                    peer=peer,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    subjects=(payload.id, *((answer.request,) if answer.request else ())),
                    rules=tuple(sorted({*answer.rules, *answer.disclosing.rules})),
                    records=payload.query.records,
                    hits=answer.hits,
                    disclosure=answer.disclosing.level.label,
                    generation=answer.generation,
                    **salted(payload.query.list_digest),
                    **basis,
                )
            )

        node.store.note(settle)
        answer.reserved = answer.kept = True
        if answer.known:
            node.budgets.refund(answer.charge)
        else:
            day = node.budgets.settled(answer.charge, payload.query.records, answer.hits)
            node.watch.ended(peer, payload.id, payload.query.records, day)
        yield from self._let_go(answer)
        end = exchange_pb2.OverlapEnd(
            receipt=receipt,
            disclosure=answer.disclosing.level.label,
            pending=bool(answer.request),
            request=answer.request,
            truncated=answer.truncated,
        )
        if (
            answer.disclosing.level >= Disclosure.COUNT
            and payload.query.records >= node.defaults.count_least
        ):
            end.count = len(_distinct(answer.items))
        if answer.charge.budget:
            end.budget.CopyFrom(node.budgets.word(answer.charge, now))
        yield exchange_pb2.OverlapResponse(end=end)

    def _sketch(self, peer: str, answer: _Answer) -> AskedSketch:
        payload = answer.payload
        return AskedSketch(
            peer,
            payload.id,
            payload.person,
            payload.purpose,
            payload.query.records,
            answer.sketcher.sketch(),
            self._node.clock(),
        )

    def _broke_off(self, peer: str, answer: _Answer) -> None:
        """Keep the sketch of a list that did not come to its end: it was looked up all the same."""
        for look_up in answer.looked_up:
            with contextlib.suppress(Exception):  # what failed was not looked up
                answer.sketcher.keep(look_up().least)
        answer.looked_up.clear()
        with contextlib.suppress(StorageUnavailable):  # what was told is in the log before it left
            self._node.store.note(lambda tx: tx.sketches.put(self._sketch(peer, answer)))

    def _basis(self, peer: str, answer: _Answer) -> dict[str, object]:
        """On what law an answer goes outside the union."""
        node, payload = self._node, answer.payload
        if node.party(peer).union or not answer.disclosing.endangered:
            return legal_basis(node, [peer])
        own = node.store.read(
            lambda tx: standing(node, tx, peer, payload.purpose, clean(payload.case_ref))
        )
        return legal_basis(node, [peer], stated_out(own) if own else None)

    def _wait(
        self, tx: Record, peer: str, answer: _Answer, items: int, series: dict[int, int]
    ) -> str:
        """Note what waits for a person, where something does; return the request's id."""
        if not items:
            return ""
        payload, now = answer.payload, self._node.clock()
        request = Request(
            id=new_id(),
            kind=RequestKind.RELEASE,
            side=Side.IN,
            peer=peer,
            person=payload.person,
            purpose=payload.purpose,
            case_ref=clean(payload.case_ref),
            created=now,
            expires=now + limits.REQUEST_LIFE,
            level=answer.disclosing.wish,
            items=items,
        )
        return tx.requests.wait(request, series)


def _taken(answer: _Answer) -> list[Hits]:
    """Take what was found so far."""
    found, answer.found, answer.found_count = answer.found, [], 0
    return found


def _batch_of(request: exchange_pb2.OverlapRequest | DigestBatch) -> DigestBatch:
    if isinstance(request, DigestBatch):
        return request
    if not request.HasField("batch"):
        raise MalformedMessage("after its header a query holds digest batches only")
    return DigestBatch.from_wire(request.batch)


def _announced(answer: _Answer, kind: DigestKind) -> int:
    counts = answer.payload.query.counts
    return counts[kind - 1] if kind <= len(counts) else 0  # kinds are numbered from 1


def _distinct(items: Sequence[Ids]) -> Ids:
    return distinct(np.concatenate(items)) if items else np.empty(0, dtype=np.int64)
