"""What of the hits of one question may be said, decided once for each way of being held.

A hit is an item; the index says by a number under which imports and series the item is held. Few
numbers occur in an answer, so policy is asked once for each pair of import and series and the
answer of a million hits is made of columns. Where an item is held in several ways,
domain/holding.py says which of them decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tieline.v1 import exchange_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import NotFound

from tieline_server.domain.holding import Way, decided
from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import DisclosableSeries, HoldingSet, Ids, Rows
from tieline_server.services.context import Node
from tieline_server.services.held_under import Pair, Under, held_under

Distances = npt.NDArray[np.int32]
_SERIES_TEXT_CHARS = limits.FREE_TEXT_PER_MESSAGE_CHARS // 2
"""Text of the series of one message; the cap on a message's text is twice that."""


@dataclass(frozen=True, slots=True)
class Hits:
    """Pairs of position in the asked list and item, positions ascending; ``rows`` (n, width) are
    the digests that matched, ``distances`` (n,) those of near hits."""

    kind: DigestKind
    positions: Ids
    items: Ids
    rows: Rows
    distances: Distances | None

    @classmethod
    def joined(cls, parts: Sequence[Hits]) -> Hits:
        """Return hits of one kind, one after another."""
        if len(parts) == 1:
            return parts[0]
        near = [one.distances for one in parts if one.distances is not None]
        return cls(
            parts[0].kind,
            np.concatenate([one.positions for one in parts]),
            np.concatenate([one.items for one in parts]),
            np.concatenate([one.rows for one in parts]),
            np.concatenate(near) if near else None,
        )

    def where(self, kept: npt.NDArray[np.bool_]) -> Hits:
        distances = None if self.distances is None else self.distances[kept]
        return Hits(self.kind, self.positions[kept], self.items[kept], self.rows[kept], distances)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What may be said of items that are held in one way; nothing at all when ``level`` is."""

    level: Disclosure
    series: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What policy says of holdings of one import and series, all of which are held under the same;
    ``level`` None where they do not count."""

    level: Disclosure | None
    pending: bool = False
    rules: tuple[str, ...] = ()
    case_ref: str = ""


_NEVER = _Verdict(None)
"""Staged, not for peers, or withdrawn."""


@dataclass(slots=True)
class Disclosing:
    """The disclosures of one answer to ``peer``. ``level`` is the highest so far, ``rules`` the
    policies that decided, ``pending`` whether more waits for a person."""

    node: Node
    peer: str
    purpose: str
    level: Disclosure = Disclosure.NOTHING
    pending: bool = False
    rules: set[str] = field(default_factory=set)
    erasures: int = -1
    """How often holdings had been erased when the first hits were looked at."""
    _judged: dict[Pair, _Verdict] = field(default_factory=dict)
    _series: dict[int, int] = field(default_factory=dict)
    _outcomes: dict[int, _Outcome] = field(default_factory=dict)

    def responses(self, hits: Hits) -> tuple[list[exchange_pb2.OverlapResponse], Ids, int]:
        """Return what may be said of hits: messages, the items disclosed, and how many hits."""
        store, matching = self.node.store, self.node.matching
        if self.erasures < 0:
            self.erasures = store.recall("erasures", lambda tx: tx.items.erasures())
        numbers, at = np.unique(matching.holdings(hits.items), return_inverse=True)
        messages = self._decide(numbers.tolist())
        outcomes = [self._outcomes[number] for number in numbers.tolist()]
        told = np.array([one.level is not Disclosure.NOTHING for one in outcomes], dtype=np.bool_)
        kept = told[at]
        if not kept.any():
            return [], np.empty(0, dtype=np.int64), 0
        if store.recall("staged", lambda tx: tx.imports.any_staged()):
            sure = store.read(
                lambda tx: tx.items.confirmed(hits.kind, hits.items[kept], hits.rows[kept])
            )
            kept[kept] = sure
        disclosed = hits.where(kept)
        ambiguous = self._ambiguous(hits, kept) if hits.kind is DigestKind.MD5 else None
        messages += _batches(disclosed, [one.series for one in outcomes], at[kept], ambiguous)
        return messages, disclosed.items, len(disclosed.items)

    def _decide(self, numbers: Sequence[int]) -> list[exchange_pb2.OverlapResponse]:
        """Settle the outcome of every number; return messages that introduce series."""
        fresh = [number for number in numbers if number not in self._outcomes]
        if not fresh:
            return []
        sets = {number: self.node.matching.holding_set(number) for number in fresh}
        pairs = {pair for one in sets.values() for pair in one}
        self._judged.update(self._verdicts(pairs - self._judged.keys()))
        levels = {number: self._levels(one) for number, one in sets.items()}
        named: dict[int, Disclosure] = {}
        for number, one in sets.items():
            for (_, series), level in zip(one, levels[number], strict=True):
                if series and level >= Disclosure.REFERENCE:
                    named[series] = max(level, named.get(series, level))
        messages = self._introduce(named)
        for number, one in sets.items():
            told = (
                self._series[series]
                for (_, series), level in zip(one, levels[number], strict=True)
                if series and level >= Disclosure.REFERENCE
            )
            highest = max(levels[number], default=Disclosure.NOTHING)
            self._outcomes[number] = _Outcome(highest, tuple(dict.fromkeys(told)))
        return messages

    def _levels(self, held: HoldingSet) -> tuple[Disclosure, ...]:
        """Return what may be said of each way in which an item is held."""
        verdicts = [self._judged[pair] for pair in held]
        ways = [
            Way(series, verdict.case_ref, verdict.level)
            for (_, series), verdict in zip(held, verdicts, strict=True)
        ]
        levels = decided(ways)
        for verdict, level in zip(verdicts, levels, strict=True):
            self.level = max(self.level, level)
            if verdict.level is level:  # nothing stricter stands beside it
                self.pending |= verdict.pending
                self.rules.update(verdict.rules)
        return levels

    def _verdicts(self, pairs: set[Pair]) -> dict[Pair, _Verdict]:
        """Learn of each pair of import and series what policy discloses of its holdings."""
        node, memory = self.node, self.node.store.remembered()
        about = (self.peer, self.purpose, node.directory().version, node.policy.version)
        missing = [one for one in pairs if (one, about) not in memory]
        held = held_under(node, missing)
        for pair in missing:
            under = held.get(pair)
            memory[pair, about] = _NEVER if under is None else self._verdict(under)
        return {pair: memory[pair, about] for pair in pairs}

    def _verdict(self, held: Under) -> _Verdict:
        if held.excludes(self.peer):
            return _Verdict(Disclosure.NOTHING, case_ref=held.case_ref)
        decision = self.node.policy.highest_disclosure(
            self.node.question(
                Action.LEARN_HIT,
                asker=self.peer,
                holder=self.node.agency,
                purpose=self.purpose,
                handling=held.handling,
            )
        )
        told = decision.level is not Disclosure.NOTHING
        rules = decision.decision.rules if told else ()
        return _Verdict(decision.level, decision.pending, rules, held.case_ref)

    def _introduce(self, levels: dict[int, Disclosure]) -> list[exchange_pb2.OverlapResponse]:
        """Give series their indexes in this answer and return the messages that say so."""
        numbers = sorted(levels.keys() - self._series.keys())
        if not numbers:
            return []
        found, items = self._disclosable(numbers), self._items_of(numbers)
        messages: list[exchange_pb2.OverlapResponse] = []
        batch, chars = exchange_pb2.SeriesBatch(), 0
        for number in numbers:
            self._series[number] = index = len(self._series) + 1
            named = levels[number] >= Disclosure.DETAIL
            told = items[number] if items[number] >= self.node.defaults.count_least else None
            entry = _entry(index, found[number], told, with_name=named)
            size = entry.ByteSize()
            if batch.series and chars + size > _SERIES_TEXT_CHARS:
                messages.append(exchange_pb2.OverlapResponse(batch=batch))
                batch, chars = exchange_pb2.SeriesBatch(), 0
            batch.series.append(entry)
            chars += size
        messages.append(exchange_pb2.OverlapResponse(batch=batch))
        return messages

    def _items_of(self, numbers: Sequence[int]) -> dict[int, int]:
        """Return how many items of series the peer may know of: those that are held under imports
        whose series it may learn. Whoever learns a reference learns counts."""
        matching = self.node.matching
        pairs = {(one, number) for number in numbers for one in matching.imports_of(number)}
        shown: dict[int, set[int]] = {number: set() for number in numbers}
        for (import_no, number), told in self._verdicts(pairs).items():
            if told.level is not None and told.level >= Disclosure.REFERENCE:
                shown[number].add(import_no)
        return {number: matching.count_of(number, shown[number]) for number in numbers}

    def _disclosable(self, numbers: Sequence[int]) -> dict[int, DisclosableSeries]:
        store = self.node.store
        memory = store.remembered()
        missing = [number for number in numbers if ("series", number) not in memory]
        read = store.read(lambda tx: tx.series.disclosable(missing)) if missing else {}
        memory.update({("series", number): series for number, series in read.items()})
        if len(read) < len(missing):
            raise NotFound("a series was erased while it was being answered; ask again")
        return {number: memory["series", number] for number in numbers}

    def _ambiguous(self, hits: Hits, kept: npt.NDArray[np.bool_]) -> Ids:
        """Return the positions whose MD5 is held with two different SHA-1s or SHA-256s."""
        positions, counts = np.unique(hits.positions, return_counts=True)
        shared = np.isin(hits.positions, positions[counts > 1])
        shared &= np.isin(hits.positions, hits.positions[kept])
        if not shared.any():
            return np.empty(0, dtype=np.int64)
        items = hits.items[shared].tolist()
        conflicting = self.node.store.read(lambda tx: tx.items.conflicting(items))
        return np.unique(hits.positions[np.isin(hits.items, list(conflicting)) & kept])


def _batches(
    hits: Hits, series: Sequence[tuple[int, ...]], at: Ids, ambiguous: Ids | None
) -> list[exchange_pb2.OverlapResponse]:
    """Return hits as messages; one in several series repeats. ``at`` leads from a hit to its
    entry of ``series``."""
    lengths = np.array([max(len(one), 1) for one in series], dtype=np.int64)
    flat = np.array([index for one in series for index in one or (0,)], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    repeats = lengths[at]
    row = np.repeat(np.arange(len(at)), repeats)
    within = np.arange(len(row)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    named = flat[starts[at][row] + within]
    positions = hits.positions[row]
    messages = []
    for start in range(0, len(row), limits.HITS_PER_BATCH):
        part = slice(start, start + limits.HITS_PER_BATCH)
        batch = exchange_pb2.HitBatch(kind=int(hits.kind), positions=positions[part].tolist())  # type: ignore[arg-type]
        if named[part].any():
            batch.series.extend(named[part].tolist())
        if hits.distances is not None:
            batch.distances.extend(hits.distances[row[part]].tolist())
        if ambiguous is not None:
            batch.ambiguous.extend(ambiguous[np.isin(ambiguous, positions[part])].tolist())
        messages.append(exchange_pb2.OverlapResponse(hits=batch))
    return messages


def _entry(
    index: int, series: DisclosableSeries, items: int | None, *, with_name: bool
) -> exchange_pb2.SeriesEntry:
    numbers = [f"repository:{series.number}"] if series.number else []
    numbers += [f"{scheme}:{value}" for scheme, value in series.references]
    return exchange_pb2.SeriesEntry(
        index=index,
        id=series.id,
        name=series.name if with_name else "",
        status=series.status,
        references=numbers[: limits.REFERENCES_PER_SERIES],
        contact_name=series.contact_name,
        contact_email=series.contact_email,
        contact_phone=series.contact_phone,
        items=items,
    )
