"""Everything that this agency holds, asked of peers and compared series by series.

1. The own items are read in parts (own_items.py), each a list of its own for those peers that may
   learn of the same items.
2. A part is asked of every such peer that has not failed (peer_round.py): logged, signed,
   receipted. A peer that may learn of nothing is not asked, and its end says so.
3. Each answer is brought back from digests to items, and items are counted by pairs of an own
   series and one of the peer's.
4. At the end come the pairs of each peer. A peer that failed in any part has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.errors import MalformedMessage
from tieline_client.identifiers import series_owner
from tieline_client.overlap_answers import Gathering, PeerAnswer, SharedSeries

from tieline_server.domain.policy import Disclosure
from tieline_server.domain.same_as import Overlap
from tieline_server.services.context import Node, Person
from tieline_server.services.own_items import OwnItems, Part
from tieline_server.services.peer_question import PeerResult
from tieline_server.services.peer_round import Announced, Chosen, PeerRound, Terms, choose_peers
from tieline_server.services.proposing import propose

Responses = Iterator[operator_pb2.CompareCollectionResponse]
_LEVELS = {one.label: one for one in Disclosure}


@dataclass(slots=True)
class _Compared:
    """One peer's answers so far. ``pairs`` counts items by own series number and id of the peer's
    series, 0 and "" for none; ``series`` are the peer's, by id."""

    end: operator_pb2.PeerEnd
    asked: int = 0
    withheld: int = 0
    totals: Counter[int] = field(default_factory=Counter)
    """Items asked, by own series number."""
    shared: int = 0
    pairs: Counter[tuple[int, str]] = field(default_factory=Counter)
    series: dict[str, SharedSeries] = field(default_factory=dict)


class Comparison:
    """One comparison under way; `close` ends it."""

    def __init__(
        self, node: Node, person: Person, request: operator_pb2.CompareCollectionRequest
    ) -> None:
        self._node = node
        self._terms = Terms.of(node, person, request)
        self._chosen = choose_peers(node, request.purpose, request.peers, everyone=request.all)
        self._own = OwnItems(node, request.purpose, self._chosen.peers, near=request.near)
        self._peers = {
            agency: _Compared(operator_pb2.PeerEnd(agency=agency, status="answered"))
            for agency in self._chosen.peers
        }
        self._round: PeerRound | None = None

    def compare(self) -> Responses:
        """Ask, and yield how far it has come; then each peer's rows and end."""
        self._node.store.index.refresh()
        items = self._node.store.read(lambda tx: tx.items.stats()).items
        started = operator_pb2.CollectionStarted(items=items, peers=self._chosen.everyone)
        yield operator_pb2.CompareCollectionResponse(started=started)
        looked_at = 0
        if self._waiting():
            for span in self._own.spans():
                for part in span:
                    self._count(part)
                    self._ask(part)
                looked_at += len(span[0].asked) + span[0].withheld
                progress = operator_pb2.CollectionProgress(items=looked_at)
                yield operator_pb2.CompareCollectionResponse(progress=progress)
                if not self._waiting():
                    break
        for refused in self._chosen.refused:
            yield _end(_Compared(refused))
        names = self._own_series()
        propose(self._node, self._overlaps(names))
        for agency, compared in self._peers.items():
            if compared.end.status == "answered" and compared.withheld and not compared.asked:
                compared.end.status = "refused"
                compared.end.reason = f"none of {compared.withheld} items may be shown to {agency}"
            if compared.end.status == "answered" and compared.end.reason and not compared.shared:
                compared.end.status = "pending"
            yield from _rows(agency, compared, names)
            yield _end(compared)

    def close(self) -> None:
        """End it wherever it stands."""
        if self._round is not None:
            self._round.close()

    def _waiting(self) -> set[str]:
        """The peers that have not failed."""
        return {agency for agency, one in self._peers.items() if one.end.status == "answered"}

    # 1
    def _count(self, part: Part) -> None:
        numbers, counts = np.unique(part.held, return_counts=True)
        totals: Counter[int] = Counter()
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            for series in self._own.series_of(number, part.peers[0]):
                totals[series] += count
        for agency in part.peers:
            compared = self._peers[agency]
            compared.asked += len(part.asked)
            compared.withheld += part.withheld
            compared.totals.update(totals)

    # 2
    def _ask(self, part: Part) -> None:
        asked, waiting = part.asked, self._waiting()
        peers = tuple(one for one in part.peers if one in waiting)
        if not len(asked) or not peers:
            return
        announced = Announced(len(asked), part.withheld, tuple(asked.counts()), asked.digest)
        chosen = Chosen(peers, self._chosen.refused)
        self._round = PeerRound(self._node, self._terms, chosen, announced)
        self._round.begin(asked.batches)
        while self._round.pending:
            for result in self._round.ended():
                self._take(part, result)
                result.kept.close()

    # 3
    def _take(self, part: Part, result: PeerResult) -> None:
        answer = gathered(part.asked, result)
        compared = self._peers[answer.agency]
        _add_end(compared.end, answer)
        if compared.end.status != "answered":
            compared.shared = 0
            compared.pairs.clear()
            return
        compared.shared += len(answer.matches)
        compared.series.update((one.id, one) for one in answer.series.values())
        matches = answer.matches
        named = np.diff(matches.series_starts)
        rows = np.arange(len(matches))
        # A match without a series is one with series 0.
        row = np.concatenate([np.repeat(rows, named), rows[named == 0]])
        theirs = np.concatenate([matches.series, np.zeros(int((named == 0).sum()), dtype=np.int64)])
        held = part.held[matches.records[row]].astype(np.int64)
        pairs, counts = np.unique(held << 32 | theirs, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            index = pair & 0xFFFFFFFF
            series_id = answer.series[index].id if index else ""
            for own in self._own.series_of(pair >> 32, answer.agency):
                compared.pairs[own, series_id] += count

    # 4
    def _own_series(self) -> dict[int, tuple[str, str]]:
        """Return id and name of the own series that occur, by number."""
        numbers = sorted({own for one in self._peers.values() for own, _ in one.pairs} - {0})
        found = self._node.store.read(lambda tx: tx.series.disclosable(numbers))
        return {0: ("", ""), **{number: (one.id, one.name) for number, one in found.items()}}

    def _overlaps(self, names: dict[int, tuple[str, str]]) -> Iterator[Overlap]:
        """Yield what own series share with series that peers name, where they tell their size."""
        for agency, compared in self._peers.items():
            if compared.end.status != "answered":
                continue
            for (own, theirs), shared in compared.pairs.items():
                items = compared.series[theirs].items if theirs else None
                if own and items and series_owner(theirs) == agency:
                    yield Overlap(names[own][0], theirs, shared, compared.totals[own], items)


def _rows(agency: str, compared: _Compared, names: dict[int, tuple[str, str]]) -> Responses:
    if compared.end.status not in ("answered", "pending"):
        return
    message = operator_pb2.CollectionRows(agency=agency)
    size = 0
    for (own, theirs), shared in sorted(
        compared.pairs.items(), key=lambda pair: (names.get(pair[0][0], ("", "")), pair[0][1])
    ):
        own_id, own_name = names.get(own, ("", ""))
        row = operator_pb2.CollectionRow(
            own=own_id,
            own_name=own_name,
            own_items=compared.totals[own],
            theirs=compared.series[theirs].entry() if theirs else None,
            shared=shared,
        )
        length = row.ByteSize()
        if message.rows and (
            size + length > limits.RECORD_BATCH_BYTES or len(message.rows) >= limits.COLLECTION_ROWS
        ):
            yield operator_pb2.CompareCollectionResponse(rows=message)
            message, size = operator_pb2.CollectionRows(agency=agency), 0
        message.rows.append(row)
        size += length
    if message.rows:
        yield operator_pb2.CompareCollectionResponse(rows=message)


def _end(compared: _Compared) -> operator_pb2.CompareCollectionResponse:
    return operator_pb2.CompareCollectionResponse(
        end=operator_pb2.CollectionEnd(
            end=compared.end,
            asked=compared.asked,
            withheld=compared.withheld,
            shared=compared.shared,
        )
    )


def gathered(asked: AskedList, result: PeerResult) -> PeerAnswer:
    """Bring a peer's answer back from positions to items."""
    gathering = Gathering(asked)
    started = operator_pb2.AskStarted(peers=[result.end.agency])
    gathering.take(operator_pb2.AskOverlapResponse(started=started))
    for message in result.messages():
        event = gathering.take(message)
        if isinstance(event, PeerAnswer):
            return event
    raise MalformedMessage(f"{result.end.agency}'s answer has no end")


def _add_end(end: operator_pb2.PeerEnd, answer: PeerAnswer) -> None:
    """Fold how a peer ended a part into how it ended so far."""
    if answer.status not in ("answered", "pending"):
        end.Clear()
        end.agency, end.status, end.reason = answer.agency, answer.status, answer.reason
        return
    end.reason = answer.reason or end.reason
    if answer.count is not None:
        end.count += answer.count
    end.truncated |= answer.truncated
    end.receipt = answer.receipt or end.receipt
    end.request = answer.request or end.request
    end.disclosure = max(end.disclosure, answer.disclosure, key=lambda one: _LEVELS.get(one, 0))
