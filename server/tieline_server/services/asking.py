"""Asking peers which records they hold: all at once, each in its own thread, none delaying another.

1. The records of listed categories become one asked list; the rest, and what is known good, is
   counted and stays here.
2. Peers: the named ones, or those that policy lists for the purpose, or every member. Policy is
   asked on this side too, since a question shows its digests to whoever is asked.
3. The question is logged durably, with whom policy kept from being asked; then a signed header and
   the list go to every peer.
4. Each peer's hits are brought back to records: any shared digest is one overlap of that record.
   The receipt must be the peer's, for this request and these hits.
5. Each peer's end, with its receipt or the reason, is logged before it is shown.
"""

from __future__ import annotations

import base64
import hashlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tieline.v1 import exchange_pb2, operator_pb2, payload_pb2, series_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import (
    DirectoryExpired,
    InvalidInput,
    LimitExceeded,
    MalformedMessage,
    RefusedError,
    SignatureRefused,
    TielineError,
    Unreachable,
)
from tieline_client.formats.record import Record
from tieline_client.identifiers import new_id
from tieline_client.payloads import Audience, open_payload

from tieline_server.domain.policy import Action
from tieline_server.services.asked_list import AskedList, strength
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.importing import (
    belongs,
    category_of,
    has_digest,
    without_junk,
    without_known_good,
)

_OVERLAPS_PER_MESSAGE = 2_000


@dataclass(slots=True)
class _Match:
    kind: DigestKind
    position: int
    distance: int
    ambiguous: bool
    series: list[int] = field(default_factory=list)


@dataclass(slots=True)
class _PeerResult:
    agency: str
    end: operator_pb2.PeerEnd
    matches: dict[int, _Match] = field(default_factory=dict)
    series: dict[int, exchange_pb2.SeriesEntry] = field(default_factory=dict)
    disclosure: str = "hit"
    receipt: bytes = b""


class Question:
    """One question under way: records are added, then it is asked."""

    def __init__(self, node: Node, person: Person, header: operator_pb2.AskHeader) -> None:
        self._node, self._person, self._header = node, person, header
        node.check_purpose(header.purpose, header.case_ref)
        self._case = clean(header.case_ref)
        self._stated = category_of(header.category_scheme, header.category_code)
        if header.deadline_seconds > limits.QUERY_SECONDS_MOST:
            raise InvalidInput(f"a peer is waited for at most {limits.QUERY_SECONDS_MOST} seconds")
        self._deadline = header.deadline_seconds or node.defaults.query_seconds
        self._asked = AskedList(near=header.near)
        self._excluded = 0
        self.peers, self._refused = self._choose_peers()

    def add(self, records: Sequence[Record]) -> None:
        """Add those of a batch that may be asked abroad."""
        cleaned = [without_junk(record)[0] for record in records]
        wanted = [record for record in cleaned if self._may_go(record)]
        added = sum(map(self._asked.add, without_known_good(self._node.store, wanted)))
        self._excluded += len(records) - added

    def _may_go(self, record: Record) -> bool:
        return (
            not record.deleted
            and has_digest(record)
            and belongs(record, self._node.defaults.categories, self._stated)
        )

    # 2
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

    def ask(self) -> Iterator[operator_pb2.AskOverlapResponse]:
        """Ask, and yield what comes: who is asked, overlaps peer by peer, each peer's end."""
        self._asked.close()
        self._log_asked()
        yield operator_pb2.AskOverlapResponse(
            started=operator_pb2.AskStarted(
                asked=len(self._asked),
                excluded=self._excluded,
                peers=[*self.peers, *(one.agency for one in self._refused)],
            )
        )
        for refused in self._refused:
            yield operator_pb2.AskOverlapResponse(end=refused)
        if not len(self._asked):
            for agency in self.peers:
                yield operator_pb2.AskOverlapResponse(
                    end=operator_pb2.PeerEnd(
                        agency=agency, status="answered", reason="nothing was asked"
                    )
                )
            return
        results: queue.Queue[_PeerResult] = queue.Queue()
        for agency in self.peers:
            threading.Thread(
                target=lambda one=agency: results.put(self._ask_peer(one)), daemon=True
            ).start()
        for _ in self.peers:
            result = results.get()
            self._log_result(result)
            yield from self._overlaps(result)
            yield operator_pb2.AskOverlapResponse(end=result.end)

    # 3
    def _log_asked(self) -> None:
        node, header = self._node, self._header
        entry = node.entry(
            "query.asked",
            person=self._person.name,
            purpose=header.purpose,
            case_ref=self._case,
            records=len(self._asked),
            excluded=self._excluded,
            peers=self.peers if len(self._asked) else [],
            refused={one.agency: one.reason for one in self._refused},
            near=header.near,
            list_digest=self._asked.digest().hex(),
        )
        node.store.write(lambda tx: tx.audit.append(entry))

    def _ask_peer(self, agency: str) -> _PeerResult:
        end = operator_pb2.PeerEnd(agency=agency)
        result = _PeerResult(agency, end)
        try:
            self._exchange(result)
        except (Unreachable, DirectoryExpired) as error:
            end.status, end.reason = "unreachable", error.message
        except (RefusedError, LimitExceeded) as error:
            end.status, end.reason = "refused", error.message
        except TielineError as error:
            about = "" if error.message.startswith(agency) else f"{agency}: "
            end.status, end.reason = "refused", f"{about}{error.message}"
        except Exception as error:  # noqa: BLE001 - one peer's failure is that peer's answer
            end.status, end.reason = (
                "unreachable",
                f"asking {agency} failed: {type(error).__name__}",
            )
        if end.status != "answered":
            result.matches.clear()
        end.reason = end.reason[: limits.FREE_TEXT_CHARS]
        return result

    # 4
    def _exchange(self, result: _PeerResult) -> None:
        node, header = self._node, self._header
        near = header.near
        payload = payload_pb2.Payload(
            id=new_id(),
            person=self._person.name,
            purpose=header.purpose,
            case_ref=self._case,
            query=payload_pb2.QueryHeader(
                mode=payload_pb2.QUERY_MODE_NEAR if near else payload_pb2.QUERY_MODE_EXACT,
                records=len(self._asked),
                counts=self._asked.counts(),
                list_digest=self._asked.digest(),
                radius=limits.NEAR_RADIUS if near else 0,
            ),
        )
        envelope = node.sealer.seal(
            payload, Audience(agency=result.agency), node.clock(), limits.QUERY_LIFE
        )
        digest = hashlib.sha256()
        end: exchange_pb2.OverlapEnd | None = None
        responses = node.peers.overlap(
            result.agency, envelope, self._asked.batches(), self._deadline
        )
        for response in responses:
            part = response.WhichOneof("part")
            if part == "end":
                end = response.end
                break
            digest.update(response.SerializeToString(deterministic=True))
            if part == "series":
                self._take_series(result, response.series)
            elif part == "hits":
                self._bring_back(result, response.hits)
        if end is None:
            raise MalformedMessage(f"{result.agency} ended its answer without a receipt")
        request_digest = hashlib.sha256(envelope.payload).digest()
        receipt = self._check_receipt(result.agency, end, payload.id, request_digest, digest)
        result.receipt = end.receipt.SerializeToString()
        result.disclosure = end.disclosure
        result.end.receipt = receipt.id
        result.end.truncated = end.truncated
        if end.HasField("count"):
            result.end.count = end.count
        nothing = not result.matches
        result.end.status = "pending" if end.pending and nothing else "answered"
        if end.pending:
            result.end.reason = f"more waits for a person at {result.agency}"

    @staticmethod
    def _take_series(result: _PeerResult, entry: exchange_pb2.SeriesEntry) -> None:
        if len(result.series) >= limits.SERIES_PER_ANSWER:
            raise LimitExceeded(
                f"{result.agency} names over {limits.SERIES_PER_ANSWER} series; ask for less"
            )
        if entry.index in result.series or not entry.index:
            raise MalformedMessage(f"{result.agency} gives two series one index")
        result.series[entry.index] = entry

    def _check_receipt(
        self,
        agency: str,
        end: exchange_pb2.OverlapEnd,
        request: str,
        request_digest: bytes,
        answer: hashlib._Hash,
    ) -> payload_pb2.Payload:
        payload = open_payload(
            end.receipt,
            directory=self._node.directory(),
            issuer=agency,
            audience=Audience(agency=self._node.agency),
            now=self._node.clock(),
        )
        receipt = payload.receipt
        if (
            payload.WhichOneof("body") != "receipt"
            or receipt.request != request
            or receipt.request_digest != request_digest
            or receipt.answer_digest != answer.digest()
            or receipt.disclosure != end.disclosure
        ):
            raise SignatureRefused(f"{agency}'s receipt is not for this question and its answer")
        return payload

    def _bring_back(self, result: _PeerResult, hits: exchange_pb2.HitBatch) -> None:
        try:
            kind = DigestKind(hits.kind)
            column = self._asked.columns[kind]
        except (ValueError, KeyError):
            raise MalformedMessage(f"{result.agency} answered a kind that was not asked") from None
        count = len(hits.positions)
        near = kind is DigestKind.PDQ
        if len(hits.series) not in (0, count) or len(hits.distances) != (count if near else 0):
            raise MalformedMessage(f"{result.agency}'s hit columns differ in length")
        if any(distance > limits.NEAR_RADIUS for distance in hits.distances):
            raise MalformedMessage(f"{result.agency} answered a distance beyond the radius")
        ambiguous = set(hits.ambiguous)
        for index, position in enumerate(hits.positions):
            if position >= len(column.digests):
                raise MalformedMessage(f"{result.agency} answered a position that was not asked")
            series = hits.series[index] if hits.series else 0
            if series and series not in result.series:
                raise MalformedMessage(f"{result.agency} names a series that it did not send")
            found = _Match(
                kind,
                position,
                hits.distances[index] if near else 0,
                position in ambiguous,
                [series] if series else [],
            )
            for record in self._asked.records_at(kind, position):
                _merge(result.matches, record, found)

    # 5
    def _log_result(self, result: _PeerResult) -> None:
        node, header = self._node, self._header
        entry = node.entry(
            "query.result",
            person=self._person.name,
            peer=result.agency,
            purpose=header.purpose,
            case_ref=self._case,
            subjects=(result.end.receipt,) if result.end.receipt else (),
            status=result.end.status,
            reason=result.end.reason,
            overlaps=len(result.matches),
            receipt=base64.b64encode(result.receipt).decode(),
        )
        node.store.write(lambda tx: tx.audit.append(entry))

    def _overlaps(self, result: _PeerResult) -> Iterator[operator_pb2.AskOverlapResponse]:
        message = operator_pb2.PeerOverlaps(agency=result.agency)
        for record in sorted(result.matches):
            match = result.matches[record]
            near = match.kind is DigestKind.PDQ
            overlap = message.overlaps.add(
                asked=self._asked.name_of(record),
                record=self._asked.numbers[record],
                matched=match.kind.label,
                match="near" if near else "exact",
                distance=match.distance,
                disclosure=result.disclosure,
                ambiguous=match.ambiguous,
            )
            for index in match.series:
                overlap.series.append(_disclosed(result.series[index]))
            if len(message.overlaps) >= _OVERLAPS_PER_MESSAGE:
                yield operator_pb2.AskOverlapResponse(overlaps=message)
                message = operator_pb2.PeerOverlaps(agency=result.agency)
        if message.overlaps:
            yield operator_pb2.AskOverlapResponse(overlaps=message)


def _merge(matches: dict[int, _Match], record: int, found: _Match) -> None:
    """Keep the strongest evidence of a record, and every series that any of its digests led to."""
    known = matches.get(record)
    if known is None:
        matches[record] = _Match(
            found.kind, found.position, found.distance, found.ambiguous, list(found.series)
        )
        return
    known.series.extend(one for one in found.series if one not in known.series)
    if (strength(found.kind), found.distance) < (strength(known.kind), known.distance):
        known.kind, known.position = found.kind, found.position
        known.distance, known.ambiguous = found.distance, found.ambiguous


def _disclosed(entry: exchange_pb2.SeriesEntry) -> operator_pb2.DisclosedSeries:
    return operator_pb2.DisclosedSeries(
        id=entry.id,
        name=entry.name,
        status=entry.status,
        references=list(entry.references),
        contact=series_pb2.DutyContact(
            name=entry.contact_name, email=entry.contact_email, phone=entry.contact_phone
        ),
    )
