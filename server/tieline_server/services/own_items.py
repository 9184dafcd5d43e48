"""What this agency holds, read in parts that fit into memory and may be asked of certain peers.

An item is asked of a peer when one of its holdings is such that this peer may learn of it and be
asked about it: asking shows the digest, where an answer says of one that the asker has that it is
here. Peers that may learn of the same are asked the same list.
What is known good stays at home.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.digests import EXACT_KINDS, DigestKind

from tieline_server.domain.holding import Way, decided
from tieline_server.domain.policy import Action, Disclosure
from tieline_server.domain.ports import Ids, Rows
from tieline_server.services.admission import listed
from tieline_server.services.context import Node
from tieline_server.services.held_under import Pair, Under, held_under

Numbers = npt.NDArray[np.uint32]
Shown = tuple[int, ...] | None
"""The own series in which a peer may learn that an item is; None: not even that it is here."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Items of a span of ids, for peers that may learn of the same ones. ``held`` (n,) are the
    numbers of the holding sets of those that are asked, in the order of the list; ``withheld``
    counts those that stay at home."""

    peers: tuple[str, ...]
    asked: AskedList
    held: Numbers
    withheld: int


class OwnItems:
    """Yields parts; ``series_of`` says in which own series the items of a holding set are."""

    def __init__(self, node: Node, purpose: str, peers: Sequence[str], *, near: bool) -> None:
        self._node, self._purpose = node, purpose
        self._peers = {agency: place for place, agency in enumerate(peers)}
        self._kinds = (*EXACT_KINDS, DigestKind.PDQ) if near else EXACT_KINDS
        self._excludes = node.store.read(lambda tx: tx.imports.has_exclusions())
        self._ways: dict[Pair, tuple[Way, ...]] = {}
        """What each peer may learn of holdings of one import and series, in their order."""
        self._sets: dict[int, tuple[Shown, ...]] = {}
        """What each peer may learn of the items of a holding set."""

    def series_of(self, held: int, peer: str) -> tuple[int, ...]:
        """Return the numbers of the own series of a holding set, as far as a peer may learn of
        them; (0,) where it is in none."""
        return self._sets[held][self._peers[peer]] or (0,)

    def spans(self) -> Iterator[list[Part]]:
        """Yield everything, by item id: parts of the same items, each peer in one of them."""
        cursors = {kind: _Cursor(self._node, kind) for kind in self._kinds}
        while heads := [head for one in cursors.values() if (head := one.head()) is not None]:
            last = min(heads) + limits.COLLECTION_PART_ITEMS - 1
            yield self._span({kind: cursor.upto(last) for kind, cursor in cursors.items()})

    def _span(self, found: dict[DigestKind, tuple[Ids, Rows]]) -> list[Part]:
        items = np.unique(np.concatenate([ids for ids, _ in found.values()]))
        held = self._node.matching.holdings(items)
        numbers, at = np.unique(held, return_inverse=True)
        known_good = np.zeros(len(items), dtype=np.bool_)
        if self._excludes:
            for kind in EXACT_KINDS:
                known_good |= np.isin(items, self._known_good(kind, *found[kind]))
        parts = []
        for shown, peers in self._alike(numbers.tolist()).items():
            askable = np.array([one is not None for one in shown], dtype=np.bool_)
            asked = askable[at] & ~known_good
            wanted = items[asked]
            digests = {}
            for kind, (ids, rows) in found.items():
                kept = np.isin(ids, wanted)
                digests[kind] = (ids, rows) if kept.all() else (ids[kept], rows[kept])
            listed_here = AskedList.of_items(wanted, digests)
            parts.append(Part(peers, listed_here, held[asked], len(items) - len(wanted)))
        return parts

    def _known_good(self, kind: DigestKind, ids: Ids, rows: Rows) -> Ids:
        size = limits.DIGESTS_PER_BATCH
        parts = [
            ids[start + listed(self._node.store, kind, rows[start : start + size])]
            for start in range(0, len(rows), size)
        ]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def _alike(self, numbers: list[int]) -> dict[tuple[Shown, ...], tuple[str, ...]]:
        """Return what may be learnt of holding sets, in their order, and which peers may."""
        fresh = [number for number in numbers if number not in self._sets]
        sets = {number: self._node.matching.holding_set(number) for number in fresh}
        self._learn({pair for pairs in sets.values() for pair in pairs})
        for number, pairs in sets.items():
            columns = [self._ways[pair] for pair in pairs]
            each = zip(*columns, strict=True) if columns else [()] * len(self._peers)
            self._sets[number] = tuple(map(_shown, each))
        groups: dict[tuple[Shown, ...], tuple[str, ...]] = {}
        for agency, place in self._peers.items():
            shown = tuple(map(itemgetter(place), map(self._sets.__getitem__, numbers)))
            groups[shown] = (*groups.get(shown, ()), agency)
        return groups

    def _learn(self, pairs: set[Pair]) -> None:
        """Settle of pairs of import and series what each peer may learn of them."""
        missing = pairs - self._ways.keys()
        held = held_under(self._node, missing)
        for pair in missing:
            under = held.get(pair)
            if under is None:
                self._ways[pair] = (Way(pair[1], "", None),) * len(self._peers)
            else:
                self._ways[pair] = tuple(
                    Way(pair[1], under.case_ref, self._level(under, peer)) for peer in self._peers
                )

    def _level(self, under: Under, peer: str) -> Disclosure:
        if under.excludes(peer):
            return Disclosure.NOTHING
        node, policy = self._node, self._node.policy
        asking, answering = (
            node.question(
                action,
                asker=asker,
                holder=holder,
                purpose=self._purpose,
                handling=under.handling,
                owner=under.owner,
            )
            for action, asker, holder in (
                (Action.ASK, node.agency, peer),
                (Action.LEARN_HIT, peer, node.agency),
            )
        )
        if not policy.decide(asking).allowed:
            return Disclosure.NOTHING
        return policy.highest_disclosure(answering).level


@lru_cache(maxsize=4096)
def _shown(ways: tuple[Way, ...]) -> Shown:
    shown = [
        way.series
        for way, level in zip(ways, decided(ways), strict=True)
        if level >= Disclosure.HIT
    ]
    return tuple(sorted(set(shown) - {0})) if shown else None


class _Cursor:
    """Reads the digests of one kind by item id."""

    def __init__(self, node: Node, kind: DigestKind) -> None:
        self._node, self._kind = node, kind
        self._after = 0
        self._ended = False
        self._ids: list[Ids] = []
        self._rows: list[Rows] = []

    def head(self) -> int | None:
        """Return the id of the next item; None at the end."""
        if not self._ids and not self._ended:
            self._fetch()
        return int(self._ids[0][0]) if self._ids else None

    def upto(self, last: int) -> tuple[Ids, Rows]:
        """Return the ids (n,) and digests (n, width) of items up to an id."""
        while not self._ended and (not self._ids or self._ids[-1][-1] <= last):
            self._fetch()
        if not self._ids:
            return np.empty(0, dtype=np.int64), np.empty((0, self._kind.width), dtype=np.uint8)
        ids, rows = np.concatenate(self._ids), np.concatenate(self._rows)
        end = int(np.searchsorted(ids, last, side="right"))
        self._ids, self._rows = ([ids[end:]], [rows[end:]]) if end < len(ids) else ([], [])
        return ids[:end], rows[:end]

    def _fetch(self) -> None:
        page = self._node.store.read(
            lambda tx: tx.items.digests(self._kind, self._after, limits.COLLECTION_PAGE_ITEMS)
        )
        if not len(page.ids):
            self._ended = True
            return
        self._after = int(page.ids[-1])
        self._ids.append(page.ids)
        self._rows.append(page.rows)
