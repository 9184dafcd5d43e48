"""Which item a record is. Decisions over a batch held in memory; staging.py does the I/O.

1. A record with an exact digest is known by MD5, SHA-1 and SHA-256 alone; PDQ and PhotoDNA only
   describe it. A record without one is known by PDQ and PhotoDNA among items like itself.
2. Candidates are the items that share such a digest; one that contradicts any is out.
3. When all candidates left and the record agree, they are one item: the lowest id stays.
4. Otherwise the same with those that share more than an MD5.
5. Otherwise, the first that already states all that the record states.
6. Otherwise the record is an item of its own: two SHA-1s under one MD5 never merge, and what
   could belong to either is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tieline_client.digests import DigestKind

MD5, SHA1, SHA256 = int(DigestKind.MD5), int(DigestKind.SHA1), int(DigestKind.SHA256)
PDQ = int(DigestKind.PDQ)
PHOTODNA, MEDIA_TYPE = 5, 6
"""Beside DigestKind in ``item_fills.kind``."""

EXACT = (MD5, SHA1, SHA256)
PERCEPTUAL = (PDQ, PHOTODNA)
COLUMNS = {
    MD5: "md5",
    SHA1: "sha1",
    SHA256: "sha256",
    PDQ: "pdq",
    PHOTODNA: "photodna",
    MEDIA_TYPE: "media_type",
}
Values = dict[int, bytes]
ALL = -1
"""Every bit: what a fresh item has, and all that it gains, stands by this import."""


class Item:
    """An item while a batch is resolved.

    Bit ``kind`` of ``solid`` is set for a value that stands by a complete import or by the one
    being staged; others are staged by someone else and may vanish. ``into`` is the item that this
    one turned out to be.
    """

    __slots__ = ("fresh", "id", "into", "perceptual", "solid", "values")

    def __init__(
        self, number: int, values: Values, solid: int, *, perceptual: bool, fresh: bool
    ) -> None:
        self.id = number
        self.values = values
        self.solid = solid
        self.perceptual = perceptual
        self.fresh = fresh
        self.into: Item | None = None

    def final(self) -> Item:
        """Return the item that this one is part of."""
        item = self
        while item.into is not None:
            item = item.into
        return item


class Resolution(NamedTuple):
    """``conflict``: the record's MD5 is known with another SHA-1 or SHA-256."""

    item: Item
    new: bool
    conflict: bool


class Resolver:
    """Resolves a batch against the items loaded for it.

    ``created``, ``fills`` ((item id, kind) -> value) and ``links`` ((low, high)) are what to write.
    """

    def __init__(self, items: Iterable[Item], first_id: int) -> None:
        self.created: list[Item] = []
        self.fills: dict[tuple[int, int], bytes] = {}
        self.links: set[tuple[int, int]] = set()
        self.next_id = first_id
        self._known: dict[int, dict[bytes, list[Item]]] = {k: {} for k in EXACT + PERCEPTUAL}
        for item in items:
            for kind in identity(item.perceptual):
                if kind in item.values:
                    self._know(kind, item.values[kind], item)

    def resolve(self, values: Values) -> Resolution:
        """Return the item that a record with these values (at least one digest) is."""
        perceptual = not (MD5 in values or SHA1 in values or SHA256 in values)
        candidates: dict[int, Item] = {}
        for kind in PERCEPTUAL if perceptual else EXACT:
            if kind in values and values[kind] in self._known[kind]:
                for found in self._known[kind][values[kind]]:
                    item = found.final()
                    candidates[item.id] = item
        if not candidates:
            return Resolution(self._create(values, perceptual), new=True, conflict=False)
        stated = {kind: values[kind] for kind in identity(perceptual) if kind in values}
        agreeing = [c for _, c in sorted(candidates.items()) if agree(stated, c.values)]
        conflict = len(agreeing) < len(candidates) and any(
            same_md5_other_content(stated, c.values) for c in candidates.values()
        )
        chosen = _choose(stated, agreeing)
        if not chosen:
            return Resolution(self._create(values, perceptual), new=True, conflict=conflict)
        base = chosen[0]
        for other in chosen[1:]:
            self._unite(base, other)
        self._fill(base, values)
        return Resolution(base, new=False, conflict=conflict)

    def _create(self, values: Values, perceptual: bool) -> Item:
        item = Item(self.next_id, values, ALL, perceptual=perceptual, fresh=True)
        self.next_id += 1
        self.created.append(item)
        for kind in PERCEPTUAL if perceptual else EXACT:
            if kind in values:
                self._know(kind, values[kind], item)
        return item

    def _know(self, kind: int, value: bytes, item: Item) -> None:
        known = self._known[kind]
        if value in known:
            known[value].append(item)
        else:
            known[value] = [item]

    def _unite(self, base: Item, other: Item) -> None:
        other.into = base
        if not other.fresh:
            self.links.add((base.id, other.id))
        self._fill(base, {k: v for k, v in other.values.items() if other.solid >> k & 1})

    def _fill(self, item: Item, values: Values) -> None:
        for kind, value in values.items():
            if kind in item.values and item.solid >> kind & 1:
                continue
            if not item.fresh:
                self.fills[(item.id, kind)] = value
            known = item.values.get(kind)
            item.values[kind] = value
            item.solid |= 1 << kind
            if known is None and kind in identity(item.perceptual):
                self._know(kind, value, item)


def mask(kinds: Iterable[int]) -> int:
    """Return the number whose bits are these kinds."""
    bits = 0
    for kind in kinds:
        bits |= 1 << kind
    return bits


def identity(perceptual: bool) -> tuple[int, ...]:
    """Return the kinds by which such an item is known."""
    return PERCEPTUAL if perceptual else EXACT


def agree(one: Mapping[int, bytes], other: Mapping[int, bytes]) -> bool:
    """Whether no kind that ``one`` states is stated otherwise by ``other``."""
    return all(other.get(kind, value) == value for kind, value in one.items())


def identifying(item: Item) -> Values:
    """Return what identifies the item among its values."""
    return {k: item.values[k] for k in identity(item.perceptual) if k in item.values}


def same_md5_other_content(one: Mapping[int, bytes], other: Mapping[int, bytes]) -> bool:
    """Whether two items share an MD5 while their SHA-1s or SHA-256s differ."""
    if MD5 not in one or one[MD5] != other.get(MD5):
        return False
    return any(k in one and k in other and one[k] != other[k] for k in (SHA1, SHA256))


def _choose(stated: Values, agreeing: Sequence[Item]) -> Sequence[Item]:
    strong = [
        c for c in agreeing if any(c.values.get(k) == v for k, v in stated.items() if k != MD5)
    ]
    for group in (agreeing, strong):
        if group and _consistent(stated, group):
            return group
    return [c for c in agreeing if all(c.values.get(k) == v for k, v in stated.items())][:1]


def _consistent(stated: Values, group: Sequence[Item]) -> bool:
    union = dict(stated)
    for item in group:
        own = identifying(item)
        if not agree(own, union):
            return False
        union.update(own)
    return True
