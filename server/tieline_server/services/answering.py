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
body proved to be the announced one, lest one payment buy several lists. So do those of the first
call once it came again. While some left and the list is not whole, the id is good for it alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import Any

from tieline.v1 import envelope_pb2, exchange_pb2, payload_pb2
from tieline_client import limits
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    InvalidDigest,
    InvalidInput,
    LimitExceeded,
    MalformedMessage,
)
from tieline_client.list_salt import SALT_BYTES, is_list
from tieline_client.payloads import Audience, open_payload

from tieline_server.domain.audit import salted
from tieline_server.domain.minhash import Sketcher
from tieline_server.domain.policy import Disclosure
from tieline_server.domain.ports import AnsweredQuery, Record
from tieline_server.domain.request import parse_wish
from tieline_server.services.answer_admission import AnswerAdmission
from tieline_server.services.answer_records import AnswerRecords, distinct_items
from tieline_server.services.answer_state import Answer, Found
from tieline_server.services.budgeting import Beginning
from tieline_server.services.context import Node, about, clean
from tieline_server.services.disclosing import Disclosing
from tieline_server.services.hits import Hits
from tieline_server.services.sketches import SKETCHES
from tieline_server.services.standing import Standings

_HITS_RELEASED = limits.HITS_PER_BATCH // 2
"""Hits from which on a durable entry is made about what they disclose, while reading goes on: what
is left at the end is what the asker waits for."""
_HITS_WAITING = 10 * _HITS_RELEASED
"""Hits that wait at most while an entry is made about those before."""
_NEAR_AT_ONCE = 1_000
"""Perceptual hashes that are looked up before what they found is counted."""
_LOOKUPS = ThreadPoolExecutor(min(os.cpu_count() or 1, 8), thread_name_prefix="look-up")
"""A long batch is looked up here while the next one is read and hashed; a short one takes less
than waking a thread."""
_RELEASES = ThreadPoolExecutor(16, thread_name_prefix="release")
"""What hits disclose is decided and logged here, for each answer one after another."""


class Answerer(AnswerAdmission, AnswerRecords):
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
        answer = self._open(peer, first.header, first.list_salt)
        try:
            for batch in _parts(incoming):
                self._take(answer, batch)
                self._found(answer, ahead=limits.LOOKUPS_AHEAD)
                yield from self._released(answer, wait=answer.found_count >= _HITS_WAITING)
                if self._holds(answer):
                    if answer.found_count > limits.REPEATED_HITS_MOST:
                        raise LimitExceeded(
                            f"a question that is asked again may find {limits.REPEATED_HITS_MOST}"
                            " items at most; ask it as a new one"
                        )
                elif answer.found_count >= _HITS_RELEASED:
                    self._release(peer, answer)
            self._check_body(answer)
            self._found(answer, ahead=0)
            yield from self._released(answer, wait=True)
            self._disclose(answer, *answer.taken())
            yield from self._end(peer, answer)
        except InvalidInput:
            answer.logged()
            self._node.budgets.spoil(answer.charge)
            raise
        except BaseException:
            charge = answer.charge
            if answer.logged() and not (charge.repeat or answer.kept):
                told = Beginning(answer.size, answer.list_digest.digest())
                self._node.budgets.told_in_part(charge, told)
            elif not (charge.repeat or charge.stored or answer.reserved):
                self._node.budgets.keep(charge)
            raise
        finally:
            if answer.came and not answer.kept:
                self._broke_off(peer, answer)

    # 1
    def _open(self, peer: str, header: envelope_pb2.Envelope, salt: bytes) -> Answer:
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
        if query.salted and len(salt) != SALT_BYTES:
            raise InvalidInput("the header is of a salted list, and its salt did not come")
        if not payload.person:
            raise InvalidInput("the query names no person")
        node.check_purpose(payload.purpose, payload.case_ref)
        with about(payload.purpose, payload.case_ref, payload.person):
            request_digest = hashlib.sha256(header.payload).digest()
            charge, decision, stated = self._admit(peer, payload, request_digest)
        # Before the index is as new as storage: what is erased from now on ends this answer.
        erasures = node.store.recall("erasures", lambda tx: tx.items.erasures())
        life = node.matching.life
        generation = node.store.index.refresh()
        known = query.since_epoch == node.epoch and query.since_generation <= generation
        disclosing = Disclosing(
            node,
            peer,
            payload.purpose,
            clean(payload.case_ref),
            parse_wish(query.wish),
            with_handling=query.reads_handling,
            radius=query.radius,
            endangered=stated and self._answers_endangered(peer, payload),
            since=query.since_generation if known else 0,
        )
        sketcher = None
        if sum(query.counts) >= limits.LISTS_SKETCHED:
            sketcher = Sketcher(node.key_for(SKETCHES), node.matching.least_of_bins)
        return Answer(
            *(payload, header, decision.rules, generation, disclosing, sketcher, charge),
            *(request_digest, salt, erasures, life),
        )

    # 2
    def _take(self, answer: Answer, batch: DigestBatch) -> None:
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
        if answer.counts[kind] > answer.announced(kind):
            raise InvalidInput("more digests came than the header announces")
        self._check_beginning(answer, batch)
        look_up = partial(self._look_up, answer, batch, offset)
        brief = len(batch) <= limits.DIGESTS_BRIEF
        answer.looked_up.append(look_up if brief else _LOOKUPS.submit(look_up).result)
        answer.list_digest.update(batch.digests)
        answer.came += len(batch)
        answer.size += len(batch.digests)

    @staticmethod
    def _check_beginning(answer: Answer, batch: DigestBatch) -> None:
        """Hold the list against the part of it that was answered before."""
        told = answer.charge.told
        if told is None or not answer.size < told.size <= answer.size + len(batch.digests):
            return
        digest = answer.list_digest.copy()
        digest.update(batch.digests[: told.size - answer.size])
        if digest.digest() != told.digest:
            raise _another_list()

    def _found(self, answer: Answer, *, ahead: int) -> None:
        """Take what was found, in order; ``ahead`` batches may still be looked up."""
        while len(answer.looked_up) > ahead:
            hits, least = answer.looked_up.popleft()()
            if answer.sketcher is not None and least is not None:
                answer.sketcher.keep(least)
            if len(hits.positions):
                answer.found.append(hits)
                answer.found_count += len(hits.positions)

    # 3
    @staticmethod
    def _disclose(answer: Answer, *found: Hits) -> None:
        """Turn what was found into what may be said, many batches' hits at once."""
        for _, of_kind in groupby(found, key=lambda one: one.kind):
            messages, items, count = answer.disclosing.responses(Hits.joined(list(of_kind)))
            answer.waiting += messages
            answer.waiting_items.append(items)
            answer.hits += count

    def _look_up(self, answer: Answer, batch: DigestBatch, offset: int) -> Found:
        kind, rows = batch.kind, batch.rows
        self._node.watch.asked(answer.charge.peer, answer.payload.id, kind, rows)
        least = None if answer.sketcher is None else answer.sketcher.least_of(kind, rows)
        if kind is not DigestKind.PDQ:
            exact = self._node.matching.exact(kind, rows)
            at = exact.positions
            return Found(Hits(kind, at + offset, exact.item_ids, rows[at], None), least)
        radius = answer.payload.query.radius
        near = self._node.matching.near(rows, radius=radius, cap=limits.NEAR_ANSWERS_PER_HASH)
        at = near.positions
        capped = near.truncated + offset
        return Found(
            Hits(kind, at + offset, near.item_ids, rows[at], near.distances, capped), least
        )

    # 4
    def _holds(self, answer: Answer) -> bool:
        """Whether nothing may leave before the whole list is here."""
        if answer.charge.repeat or answer.found_count < _HITS_RELEASED:
            return answer.charge.repeat
        so_far = Beginning(answer.size, answer.list_digest.digest())
        return not self._node.budgets.tells(answer.charge, so_far)

    def _release(self, peer: str, answer: Answer) -> None:
        """Begin to decide what may be said of what was found, and to log it durably, unless that
        is being done for what was found before."""
        if answer.releasing is not None:
            return
        found = answer.taken()

        def work() -> bool:
            self._disclose(answer, *found)
            if not any(map(len, answer.waiting_items)):
                return False
            self._node.store.note(lambda tx: self._log_early(tx, peer, answer))
            answer.reserved = answer.early = True
            return True

        answer.releasing = _RELEASES.submit(work)

    def _released(self, answer: Answer, *, wait: bool) -> Iterator[exchange_pb2.OverlapResponse]:
        """Let go what was logged meanwhile."""
        if answer.releasing is not None and (wait or answer.releasing.done()):
            logged = answer.releasing.result()
            answer.releasing = None
            if logged:
                yield from self._let_go(answer)

    def _let_go(self, answer: Answer) -> Iterator[exchange_pb2.OverlapResponse]:
        waiting = answer.waiting
        answer.items += answer.waiting_items
        answer.waiting, answer.waiting_items = [], []
        for response in waiting:
            answer.answer_digest.update(response.SerializeToString(deterministic=True))
            yield response

    # 5
    @staticmethod
    def _check_body(answer: Answer) -> None:
        query = answer.payload.query
        announced = {DigestKind(at): count for at, count in enumerate(query.counts, 1) if count}
        came = answer.list_digest.digest()
        if answer.counts != announced or not is_list(
            query.list_digest, came, salted=query.salted, salt=answer.salt
        ):
            raise InvalidInput("the digests are not those that the header announces; no receipt")
        if answer.charge.told is not None and answer.size < answer.charge.told.size:
            raise _another_list()

    def _end(self, peer: str, answer: Answer) -> Iterator[exchange_pb2.OverlapResponse]:
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
                    request_digest=answer.request_digest,
                    generation=answer.generation,
                    hits=answer.hits,
                    answer_digest=digest.digest(),
                    disclosure=answer.disclosing.level.label,
                    epoch=node.epoch,
                ),
            ),
            Audience(agency=peer),
            now,
        )

        waiting = answer.disclosing.waiting()
        met = self._met(peer, answer)
        basis: Any = self._basis(peer, answer) if answer.hits else {}
        sketch = self._sketch(peer, answer)
        kept = payload.query.salted
        """Whether header and receipt may stay: of an older asker both name the bare digest."""
        again = False
        """Whether only what is new of a list was answered that was looked up whole before."""

        def settle(tx: Record) -> None:
            nonlocal again
            if answer.disclosing.since and sketch is not None:
                again = tx.sketches.asked_before(sketch)
            self._log_items(tx, peer, answer)
            self._settle_id(tx, peer, answer)
            answer.request = self._wait(tx, peer, answer, *waiting)
            tx.queries.finish(
                AnsweredQuery(
                    request=payload.id,
                    peer=peer,
                    person=payload.person,
                    purpose=payload.purpose,
                    case_ref=payload.case_ref,
                    header_digest=answer.charge.header_digest,
                    header=answer.header.SerializeToString() if kept else b"",
                    records=payload.query.records,
                    hits=answer.hits,
                    receipt=receipt.SerializeToString() if kept else b"",
                    at=now,
                )
            )
            for alarm in met:
                tx.alarms.set(alarm)
            if sketch is not None:
                tx.sketches.put(sketch)
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
                    **salted(self._logged_digest(answer)),
                    **({"since": answer.disclosing.since} if answer.disclosing.since else {}),
                    **basis,
                )
            )

        node.store.note(settle)
        if met:
            node.alarmed()
        answer.reserved = answer.kept = True
        if answer.known:
            node.budgets.refund(answer.charge)
        else:
            # Few hits in what is new are no sign: that list was judged by its first answer.
            judged = 0 if again else payload.query.records
            day = node.budgets.settled(answer.charge, judged, answer.hits)
            node.watch.ended(peer, payload.id, payload.query.records, day)
        yield from self._let_go(answer)
        end = exchange_pb2.OverlapEnd(
            receipt=receipt,
            disclosure=answer.disclosing.level.label,
            pending=bool(answer.request),
            request=answer.request,
            truncated=answer.disclosing.truncated,
        )
        if (
            answer.disclosing.level >= Disclosure.COUNT
            and payload.query.records >= node.defaults.count_least
        ):
            end.count = len(distinct_items(answer.items))
        if answer.charge.budget:
            end.budget.CopyFrom(node.budgets.word(answer.charge, now))
        yield exchange_pb2.OverlapResponse(end=end)


def _another_list() -> InvalidInput:
    return InvalidInput("the digests are not those that were answered in part before; no receipt")


def _parts(
    requests: Iterator[exchange_pb2.OverlapRequest | DigestBatch],
) -> Iterator[DigestBatch]:
    """Yield the batches; perceptual hashes, each of which may find many items, some at a time."""
    for batch in map(_batch_of, requests):
        if batch.kind is not DigestKind.PDQ or len(batch) <= _NEAR_AT_ONCE:
            yield batch
            continue
        width = batch.kind.width
        for start in range(0, len(batch.digests), _NEAR_AT_ONCE * width):
            yield DigestBatch.of(batch.kind, batch.digests[start : start + _NEAR_AT_ONCE * width])


def _batch_of(request: exchange_pb2.OverlapRequest | DigestBatch) -> DigestBatch:
    if isinstance(request, DigestBatch):
        return request
    if not request.HasField("batch"):
        raise MalformedMessage("after its header a query holds digest batches only")
    return DigestBatch.from_wire(request.batch)
