"""What of the hits of one question may be said, decided once for each way of being held.

A hit is an item; the index says by a number under which imports and series the item is held. Few
numbers occur in an answer, so policy is asked once for each import and the answer of a million hits
is made of columns.
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

from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import DisclosableSeries, HeldUnder, Ids, Rows, Tx
from tieline_server.services.context import Node

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
    _imports: dict[int, HeldUnder | None] = field(default_factory=dict)
    _levels: dict[int, Disclosure] = field(default_factory=dict)
    _series: dict[int, int] = field(default_factory=dict)
    _outcomes: dict[int, _Outcome] = field(default_factory=dict)

    def responses(self, hits: Hits) -> tuple[list[exchange_pb2.OverlapResponse], Ids, int]:
        """Return what may be said of hits: messages, the items disclosed, and how many hits."""
        return self.node.store.read(lambda tx: self._responses(tx, hits))

    def _responses(self, tx: Tx, hits: Hits) -> tuple[list[exchange_pb2.OverlapResponse], Ids, int]:
        if self.erasures < 0:
            self.erasures = tx.items.erasures()
        numbers, at = np.unique(self.node.matching.holdings(hits.items), return_inverse=True)
        messages = self._decide(tx, numbers.tolist())
        outcomes = [self._outcomes[number] for number in numbers.tolist()]
        told = np.array([one.level is not Disclosure.NOTHING for one in outcomes], dtype=np.bool_)
        kept = told[at]
        if not kept.any():
            return [], np.empty(0, dtype=np.int64), 0
        kept[kept] = tx.items.confirmed(hits.kind, hits.items[kept], hits.rows[kept])
        disclosed = hits.where(kept)
        ambiguous = _ambiguous(tx, hits, kept) if hits.kind is DigestKind.MD5 else None
        messages += _batches(disclosed, [one.series for one in outcomes], at[kept], ambiguous)
        return messages, disclosed.items, len(disclosed.items)

    def _decide(self, tx: Tx, numbers: Sequence[int]) -> list[exchange_pb2.OverlapResponse]:
        """Settle the outcome of every number; return messages that introduce series."""
        fresh = [number for number in numbers if number not in self._outcomes]
        if not fresh:
            return []
        sets = {number: self.node.matching.holding_set(number) for number in fresh}
        self._learn_imports(tx, {pair[0] for one in sets.values() for pair in one})
        named: dict[int, Disclosure] = {}
        for import_no, series in {pair for one in sets.values() for pair in one}:
            level = self._level(import_no)
            if series and level >= Disclosure.REFERENCE:
                named[series] = max(level, named.get(series, level))
        messages = self._introduce(tx, named)
        for number, one in sets.items():
            levels = [self._level(import_no) for import_no, _ in one]
            told = (
                self._series[series]
                for (_, series), level in zip(one, levels, strict=True)
                if series and level >= Disclosure.REFERENCE
            )
            highest = max(levels, default=Disclosure.NOTHING)
            self._outcomes[number] = _Outcome(highest, tuple(dict.fromkeys(told)))
        return messages

    def _learn_imports(self, tx: Tx, numbers: set[int]) -> None:
        missing = numbers - self._imports.keys()
        if missing:
            known = tx.items.held_under(missing)
            self._imports.update({number: known.get(number) for number in missing})

    def _level(self, import_no: int) -> Disclosure:
        """Return what policy discloses of holdings of one import: all are held under the same."""
        if import_no in self._levels:
            return self._levels[import_no]
        held = self._imports[import_no]
        if held is None:  # staged, or never for peers
            self._levels[import_no] = Disclosure.NOTHING
            return Disclosure.NOTHING
        decision = self.node.policy.highest_disclosure(
            self.node.question(
                Action.LEARN_HIT,
                asker=self.peer,
                holder=self.node.agency,
                purpose=self.purpose,
                handling=held.handling,
            )
        )
        self._levels[import_no] = decision.level
        self.pending |= decision.pending
        self.level = max(self.level, decision.level)
        if decision.level is not Disclosure.NOTHING:
            self.rules.update(decision.decision.rules)
        return decision.level

    def _introduce(
        self, tx: Tx, levels: dict[int, Disclosure]
    ) -> list[exchange_pb2.OverlapResponse]:
        """Give series their indexes in this answer and return the messages that say so."""
        numbers = sorted(levels.keys() - self._series.keys())
        if not numbers:
            return []

        found = tx.series.disclosable(numbers)
        if len(found) < len(numbers):
            raise NotFound("a series was erased while it was being answered; ask again")
        messages: list[exchange_pb2.OverlapResponse] = []
        batch, chars = exchange_pb2.SeriesBatch(), 0
        for number in numbers:
            self._series[number] = index = len(self._series) + 1
            entry = _entry(index, found[number], with_name=levels[number] >= Disclosure.DETAIL)
            size = entry.ByteSize()
            if batch.series and chars + size > _SERIES_TEXT_CHARS:
                messages.append(exchange_pb2.OverlapResponse(batch=batch))
                batch, chars = exchange_pb2.SeriesBatch(), 0
            batch.series.append(entry)
            chars += size
        messages.append(exchange_pb2.OverlapResponse(batch=batch))
        return messages


def _ambiguous(tx: Tx, hits: Hits, kept: npt.NDArray[np.bool_]) -> Ids:
    """Return the positions whose MD5 is held with two different SHA-1s or SHA-256s."""
    positions, counts = np.unique(hits.positions, return_counts=True)
    shared = np.isin(hits.positions, positions[counts > 1])
    shared &= np.isin(hits.positions, hits.positions[kept])
    if not shared.any():
        return np.empty(0, dtype=np.int64)
    items = hits.items[shared].tolist()
    conflicting = tx.items.conflicting(items)
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


def _entry(index: int, series: DisclosableSeries, *, with_name: bool) -> exchange_pb2.SeriesEntry:
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
    )
