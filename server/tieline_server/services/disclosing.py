"""What of the hits of one question may be said, decided once for each way of being held.

A hit is an item; the index says by a number under which imports and series the item is held. Few
numbers occur in an answer, so policy is asked once for each pair of import and series and the
answer of a million hits is made of columns. Where an item is held in several ways,
domain/holding.py says which of them decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt
from tieline.v1 import exchange_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import NotFound
from tieline_client.handling import Handling, stricter

from tieline_server.domain.holding import Way, decided
from tieline_server.domain.policy import Action, Disclosure, Question
from tieline_server.domain.ports import DisclosableSeries, HoldingSet, Ids, Rows
from tieline_server.domain.request import DEFAULT_WISH, Grant
from tieline_server.services.context import Node
from tieline_server.services.held_under import Pair, Under, held_under
from tieline_server.services.hits import Hits, hit_batches
from tieline_server.services.notices import handling_out

_FURTHER_AT_ONCE = 100
_FURTHER_ANSWERS = 10 * limits.NEAR_ANSWERS_PER_HASH
"""Digests that are looked further for at once, and items that each may find then."""
_SERIES_TEXT_CHARS = limits.FREE_TEXT_PER_MESSAGE_CHARS // 2
"""Text of the series of one message; the cap on a message's text is twice that."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What may be said of items that are held in one way; nothing at all when ``level`` is."""

    level: Disclosure
    series: Mapping[int, Disclosure]
    """What may be said of each series that may be named, by number."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What policy says of holdings of one import and series, all of which are held under the same;
    ``level`` None where they do not count; ``generation`` from which on they do."""

    level: Disclosure | None
    pending: bool = False
    rules: tuple[str, ...] = ()
    case_ref: str = ""
    handling: Handling | None = None
    generation: int = 0


_NEVER = _Verdict(None)
"""Staged, not for peers, or withdrawn."""


@dataclass(slots=True)
class Disclosing:
    """The disclosures of one answer to ``peer``. ``wish`` is what the peer asks for where a person
    has to confirm; ``endangered`` that vital interests are stated, and confirmed, for this answer.
    ``level`` is the highest so far, ``rules`` the policies that decided."""

    node: Node
    peer: str
    purpose: str
    case_ref: str = ""
    wish: Disclosure = DEFAULT_WISH
    with_handling: bool = False
    endangered: bool = False
    since: int = 0
    """Items none of whose holdings came to count after this generation are passed over."""
    radius: int = 0
    """How far near hits may be, in bits."""
    level: Disclosure = Disclosure.NOTHING
    rules: set[str] = field(default_factory=set)
    truncated: bool = False
    """Whether more may be said of what is near to a digest than an answer holds."""
    _judged: dict[Pair, _Verdict] = field(default_factory=dict)
    _series: dict[int, int] = field(default_factory=dict)
    _outcomes: dict[int, _Outcome] = field(default_factory=dict)
    _indexes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By number, the indexes of the series that its items are in, once hits of it are told."""
    _waits: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """Of a number, the series (0: none) whose release waits for a person."""
    met: set[int] = field(default_factory=set)
    """Series, by number, in which items are that the peer learns are here."""
    _hit: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By number, the series in which its items are known to the peer to be here."""
    _waiting: list[tuple[Ids, Ids]] = field(default_factory=list)
    """Items of which more waits for a person, and their numbers."""
    _decided: tuple[Mapping[int, Grant], Mapping[int, datetime]] | None = None

    def responses(self, hits: Hits) -> tuple[list[exchange_pb2.OverlapResponse], Ids, int]:
        """Return what may be said of hits: messages, the items disclosed, and how many hits."""
        hits = self._past_withheld(hits) if len(hits.capped) else self._certain(hits)
        numbers, at, kept = self._judge(hits)
        waits = np.array([bool(self._waits[one]) for one in numbers], dtype=np.bool_)[at]
        self._wait(hits, np.array(numbers, dtype=np.uint32)[at], waits)
        if not kept.any():
            return [], np.empty(0, dtype=np.int64), 0
        told = {numbers[one] for one in np.unique(at[kept]).tolist()}
        for number in told:
            self.met.update(self._hit[number])
        messages = self._introduce_all(told - self._indexes.keys())
        series = [self._indexes.get(number, ()) for number in numbers]
        disclosed = hits.where(kept)
        ambiguous = self._ambiguous(disclosed) if hits.kind is DigestKind.MD5 else None
        messages += hit_batches(disclosed, series, at[kept], ambiguous)
        return messages, disclosed.items, len(disclosed.items)

    def _certain(self, hits: Hits) -> Hits:
        """Leave out what was found by a digest that an import has only staged."""
        store = self.node.store
        if not len(hits.items) or not store.recall("staged", lambda tx: tx.imports.any_staged()):
            return hits
        if hits.distances is None:
            return hits.where(
                store.read(lambda tx: tx.items.confirmed(hits.kind, hits.items, hits.rows))
            )
        far = hits.distances
        far = store.read(lambda tx: tx.items.confirmed_distances(hits.items, hits.rows, far))
        order = np.lexsort((hits.items, far, hits.positions))
        return replace(hits, distances=far).where(order[far[order] <= self.radius])

    def _judge(self, hits: Hits) -> tuple[list[int], Ids, npt.NDArray[np.bool_]]:
        """Return the numbers under which the items are held, which of them each hit has, and of
        which hits anything may be said."""
        found, at = np.unique(self.node.matching.holdings(hits.items), return_inverse=True)
        numbers = found.tolist()
        self._decide(numbers)
        levels = [self._outcomes[number].level for number in numbers]
        told = np.array([one is not Disclosure.NOTHING for one in levels], dtype=np.bool_)
        return numbers, at, told[at]

    def _past_withheld(self, hits: Hits) -> Hits:
        """Look further where the index gave only the nearest, so that what is withheld neither
        takes the place of what may be told nor shows by an answer that says it is cut off."""
        capped, rows = hits.capped, hits.rows[np.searchsorted(hits.positions, hits.capped)]
        hits = self._certain(hits)
        parts = [hits.where(~np.isin(hits.positions, capped) | ~self._judge(hits)[2])]
        for start in range(0, len(rows), _FURTHER_AT_ONCE):
            some = slice(start, start + _FURTHER_AT_ONCE)
            parts += self._further(hits.kind, capped[some], rows[some])
        joined = Hits.joined(parts)
        return joined.where(np.argsort(joined.positions, kind="stable"))

    def _further(self, kind: DigestKind, positions: Ids, rows: Rows) -> Iterator[Hits]:
        """Yield the nearest that may be told of digests, past all that may not.

        Each look passes over the ways of being held of which nothing may be said, as far as they
        have shown. What it found is final unless the index had more, not enough of it may be told,
        and another such way has shown.
        """
        over: set[int] = set()
        while len(positions):
            near = self.node.matching.near(
                rows, radius=self.radius, cap=_FURTHER_ANSWERS, passed_over=over
            )
            at = near.positions
            found = Hits(kind, positions[at], near.item_ids, rows[at], near.distances)
            found = self._certain(found)
            found = found.where(self._judge(found)[2])
            withheld = self._withheld(near.item_ids)
            fresh = bool(withheld - over)
            over |= withheld
            starts = np.searchsorted(found.positions, found.positions)
            nearest = np.arange(len(starts)) - starts < limits.NEAR_ANSWERS_PER_HASH
            told = np.searchsorted(found.positions, positions, side="right")
            told -= np.searchsorted(found.positions, positions)
            again = np.zeros(len(positions), dtype=np.bool_)
            again[near.truncated] = fresh
            again &= told <= limits.NEAR_ANSWERS_PER_HASH
            final = ~np.isin(found.positions, positions[again])
            self.truncated = self.truncated or not nearest[final].all()
            yield found.where(final & nearest)
            positions, rows = positions[again], rows[again]

    def _withheld(self, items: Ids) -> set[int]:
        """Return the numbers under which some of these items are held and of which nothing may be
        said: so it was decided, or they do not count."""
        numbers = set(np.unique(self.node.matching.holdings(items)).tolist())
        sets = {one: self.node.matching.holding_set(one) for one in numbers - self._outcomes.keys()}
        verdicts = self._verdicts({pair for one in sets.values() for pair in one})
        never = {n for n, one in sets.items() if all(verdicts[p].level is None for p in one)}
        decided = numbers & self._outcomes.keys()
        return never | {n for n in decided if self._outcomes[n].level is Disclosure.NOTHING}

    def _wait(
        self, hits: Hits, numbers: npt.NDArray[np.uint32], waits: npt.NDArray[np.bool_]
    ) -> None:
        if waits.any():
            self._waiting.append((hits.items[waits], numbers[waits].astype(np.int64)))

    def waiting(self) -> tuple[int, dict[int, int]]:
        """Return how many items wait for a person, and how many of them are in each series."""
        if not self._waiting:
            return 0, {}
        items, first = np.unique(
            np.concatenate([items for items, _ in self._waiting]), return_index=True
        )
        numbers = np.concatenate([numbers for _, numbers in self._waiting])[first]
        series: dict[int, int] = {}
        found, counts = np.unique(numbers, return_counts=True)
        for number, count in zip(found.tolist(), counts.tolist(), strict=True):
            for one in self._waits[number]:
                series[one] = series.get(one, 0) + count
        return len(items), series

    def _decide(self, numbers: Sequence[int]) -> None:
        """Settle the outcome of every number."""
        fresh = [number for number in numbers if number not in self._outcomes]
        if not fresh:
            return
        sets = {number: self.node.matching.holding_set(number) for number in fresh}
        pairs = {pair for one in sets.values() for pair in one}
        self._judged.update(self._verdicts(pairs - self._judged.keys()))
        for number in [one for one in fresh if self.since and not self._is_new(sets[one])]:
            self._outcomes[number], self._waits[number] = _Outcome(Disclosure.NOTHING, {}), ()
            del sets[number]
        for number, one in sets.items():
            levels = self._levels(number, one)
            named: dict[int, Disclosure] = {}
            for (_, series), level in zip(one, levels, strict=True):
                if series and level >= Disclosure.REFERENCE:
                    named[series] = max(level, named.get(series, level))
            self._hit[number] = tuple(
                series
                for (_, series), level in zip(one, levels, strict=True)
                if series and level > Disclosure.NOTHING
            )
            highest = max(levels, default=Disclosure.NOTHING)
            self._outcomes[number] = _Outcome(highest, named)

    def _introduce_all(self, numbers: Collection[int]) -> list[exchange_pb2.OverlapResponse]:
        """Return messages that introduce the series of items of which hits are told."""
        named: dict[int, Disclosure] = {}
        for number in numbers:
            for series, level in self._outcomes[number].series.items():
                named[series] = max(level, named.get(series, level))
        messages = self._introduce(named)
        for number in numbers:
            series_of = self._outcomes[number].series
            self._indexes[number] = tuple(self._series[series] for series in series_of)
        return messages

    def _is_new(self, held: HoldingSet) -> bool:
        """Whether any way in which an item is held came to count after ``since``.

        Imports are numbered as they come to count, so no look at the changes is needed, and what
        more is held of an old item is new.
        """
        return any(self._judged[pair].generation > self.since for pair in held)

    def _levels(self, number: int, held: HoldingSet) -> tuple[Disclosure, ...]:
        """Return what may be said of each way in which an item is held."""
        verdicts = [self._judged[pair] for pair in held]
        ways = [
            Way(series, verdict.case_ref, verdict.level)
            for (_, series), verdict in zip(held, verdicts, strict=True)
        ]
        levels = decided(ways)
        waits = []
        for (_, series), verdict, level in zip(held, verdicts, levels, strict=True):
            self.level = max(self.level, level)
            if verdict.level is level:  # nothing stricter stands beside it
                if verdict.pending:
                    waits.append(series)
                self.rules.update(verdict.rules)
        self._waits[number] = tuple(dict.fromkeys(waits))
        return levels

    def _verdicts(self, pairs: set[Pair]) -> dict[Pair, _Verdict]:
        """Learn of each pair of import and series what policy discloses of its holdings."""
        node, memory = self.node, self.node.store.remembered()
        grants, used = self._decided_before()
        about = (
            *(self.peer, self.purpose, self.wish, self.endangered),
            *(node.directory().version, node.policy.version),
        )
        if grants or used:  # what was decided of this case alone is not for others to remember
            apart = {one for one in pairs if one[1] in grants or one[1] in used}
            held = held_under(node, apart)
            own = {pair: self._verdict(held.get(pair), pair[1]) for pair in apart}
            pairs = pairs - apart
        else:
            own = {}
        known = memory.setdefault(("verdicts", about), {})
        missing = [one for one in pairs if one not in known]
        held = held_under(node, missing)
        for pair in missing:
            known[pair] = self._verdict(held.get(pair), None)
        return own | {pair: known[pair] for pair in pairs}

    def _decided_before(self) -> tuple[Mapping[int, Grant], Mapping[int, datetime]]:
        """Return what persons decided before of this asker, by series."""
        if self._decided is None:
            now = self.node.clock()
            grants, used = self.node.store.recall(
                ("decided", self.peer, self.purpose, self.case_ref),
                lambda tx: (
                    tx.requests.grants(self.peer, self.purpose, self.case_ref, now),
                    tx.requests.used(self.peer, self.purpose, now),
                ),
            )
            self._decided = (
                {series: one for series, one in grants.items() if one.expires > now},
                {series: until for series, until in used.items() if until > now},
            )
        return self._decided

    def _verdict(self, held: Under | None, series: int | None) -> _Verdict:
        """Say what may be told of holdings; with what was decided of their series, where given."""
        if held is None:
            return _NEVER
        if held.excludes(self.peer):
            return _Verdict(Disclosure.NOTHING, case_ref=held.case_ref, generation=held.generation)
        grants, used = self._decided_before()
        grant = None if series is None else grants.get(series)
        question = learning(self.node, self.peer, self.purpose, held)
        question = replace(
            question,
            permission=series is not None and series in used,
            vital_interests=self.endangered,
            second_officer=self.endangered,
        )
        decision = self.node.policy.highest_disclosure(question)
        level, rules = decision.level, decision.decision.rules
        if grant is not None and grant.level > level:
            confirmed = self.node.policy.highest_disclosure(replace(question, confirmed=True))
            if min(grant.level, confirmed.level) > level:
                level = min(grant.level, confirmed.level)
                rules = confirmed.decision.rules
        refused = grant is not None and grant.level is Disclosure.NOTHING
        waits = not refused and min(decision.confirmable, self.wish) > level
        told = level is not Disclosure.NOTHING
        return _Verdict(
            *(level, waits, rules if told else (), held.case_ref, held.handling, held.generation)
        )

    def _introduce(self, levels: dict[int, Disclosure]) -> list[exchange_pb2.OverlapResponse]:
        """Give series their indexes in this answer and return the messages that say so."""
        numbers = sorted(levels.keys() - self._series.keys())
        if not numbers:
            return []
        found, items = self._disclosable(numbers), self._items_of(numbers)
        handlings = self._handling_of(numbers) if self.with_handling else {}
        messages: list[exchange_pb2.OverlapResponse] = []
        batch, chars = exchange_pb2.SeriesBatch(), 0
        for number in numbers:
            self._series[number] = index = len(self._series) + 1
            named = levels[number] >= Disclosure.DETAIL
            told = items[number] if items[number] >= self.node.defaults.count_least else None
            entry = series_entry(index, found[number], told, handlings.get(number), with_name=named)
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
        shown: dict[int, set[int]] = {number: set() for number in numbers}
        for (import_no, number), _ in self._told(numbers):
            shown[number].add(import_no)
        return {number: self.node.matching.count_of(number, shown[number]) for number in numbers}

    def _handling_of(self, numbers: Sequence[int]) -> dict[int, Handling]:
        """Return under what series are held, as far as the peer learns of it: the strictest."""
        found: dict[int, Handling] = {}
        for (_, number), verdict in self._told(numbers):
            if verdict.handling is not None:
                known = found.get(number)
                handling = verdict.handling
                found[number] = handling if known is None else stricter(known, handling)
        return found

    def _told(self, numbers: Sequence[int]) -> Iterable[tuple[Pair, _Verdict]]:
        """Yield the pairs of import and series of which the peer may learn references."""
        imports_of = self.node.matching.imports_of
        pairs = {(one, number) for number in numbers for one in imports_of(number)}
        for pair, verdict in self._verdicts(pairs).items():
            if verdict.level is not None and verdict.level >= Disclosure.REFERENCE:
                yield pair, verdict

    def _disclosable(self, numbers: Sequence[int]) -> dict[int, DisclosableSeries]:
        store = self.node.store
        memory = store.remembered()
        missing = [number for number in numbers if ("series", number) not in memory]
        read = store.read(lambda tx: tx.series.disclosable(missing)) if missing else {}
        memory.update({("series", number): series for number, series in read.items()})
        if len(read) < len(missing):
            raise NotFound("a series was erased while it was being answered; ask again")
        return {number: memory["series", number] for number in numbers}

    def _ambiguous(self, disclosed: Hits) -> Ids:
        """Return the positions whose MD5 is held with two different SHA-1s or SHA-256s, as far as
        both are told: of what is withheld a flag tells nothing."""
        positions, counts = np.unique(disclosed.positions, return_counts=True)
        shared = np.isin(disclosed.positions, positions[counts > 1])
        if not shared.any():
            return np.empty(0, dtype=np.int64)
        items = disclosed.items[shared].tolist()
        conflicting = self.node.store.read(lambda tx: tx.items.conflicting(items))
        return np.unique(disclosed.positions[np.isin(disclosed.items, list(conflicting)) & shared])


def learning(node: Node, peer: str, purpose: str, held: Under) -> Question:
    """Return the question what a peer may learn of holdings."""
    return node.question(
        Action.LEARN_HIT,
        asker=peer,
        holder=node.agency,
        purpose=purpose,
        handling=held.handling,
        owner=held.owner,
    )


def series_entry(
    index: int,
    series: DisclosableSeries,
    items: int | None,
    handling: Handling | None,
    *,
    with_name: bool,
) -> exchange_pb2.SeriesEntry:
    """Return a series as it is told; its handling where the asker reads it."""
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
        handling=None if handling is None else handling_out(handling),
    )
