"""Items of a series that turn out to show somebody else: which of them are another series' now.

A split is an owner's word: these items of that series are of a new series, for ever. It names no
item: it holds *marks*, a hash over its own id and a digest, so that only who holds an item can tell
that it is meant. An item that is met under the old id, now or later, is where its split put it, and
a split of the new series goes on from there. So the order in which splits and items come to a node
makes no difference.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from tieline_client import limits
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, LimitExceeded, WrongState

from tieline_server.domain.series import Series, SeriesStatus

Digests = Mapping[DigestKind, bytes]
"""What is known of one item."""

MARK_BYTES = 32
STRONGEST = (DigestKind.SHA256, DigestKind.SHA1, DigestKind.MD5, DigestKind.PDQ)
_FROM_ITS_OWN = frozenset({SeriesStatus.REFERRED, SeriesStatus.IDENTIFIED, SeriesStatus.CLOSED})


@dataclass(frozen=True, slots=True)
class Split:
    """Some items of ``series`` are of ``made`` since ``at``.

    ``marks`` are packed, ascending. ``notice`` is what is told of the new series, empty once that
    was erased here; ``envelope`` is the owner's word as it came, empty where this node said it.
    ``noted`` is when this node learnt of it.
    """

    id: str
    series: str
    made: str
    person: str
    at: datetime
    noted: datetime
    marks: bytes
    notice: bytes = b""
    envelope: bytes = b""


def mark(split: str, kind: DigestKind, digest: bytes) -> bytes:
    """Return the mark of a digest in a split."""
    return hashlib.sha256(
        b"tieline split\0" + split.encode() + bytes([int(kind)]) + digest
    ).digest()


def pack_marks(split: str, digests: Iterable[tuple[DigestKind, bytes]]) -> bytes:
    """Return the marks of digests, packed and ascending."""
    return b"".join(sorted({mark(split, kind, digest) for kind, digest in digests}))


class Sorter:
    """Says of items of one series where its splits put them."""

    def __init__(self, splits: Iterable[Split]) -> None:
        """Of several splits that name an item the first counts, by time and id."""
        ordered = sorted(splits, key=lambda one: (one.at, one.id))
        self._splits = [(one, _unpacked(one.marks)) for one in ordered]

    def place(self, digests: Digests) -> str:
        """Return the series that an item is in, "" where it stays."""
        for split, marks in self._splits:
            if any(mark(split.id, kind, digest) in marks for kind, digest in digests.items()):
                return split.made
        return ""


def _unpacked(marks: bytes) -> frozenset[bytes]:
    return frozenset(
        marks[start : start + MARK_BYTES] for start in range(0, len(marks), MARK_BYTES)
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a list of records picks out of a series: its items, and the digests that name them and
    none of those that stay."""

    items: frozenset[int]
    digests: tuple[tuple[DigestKind, bytes], ...]


def choose(listed: Sequence[Digests], held: Mapping[int, Digests], name: str) -> Chosen:
    """Find listed records among a series' items (``held``, by item).

    1. Each record is an item of the series: the one that its strongest known digest names.
    2. A digest that several items share names none of them.
    3. Something stays: all of a series is no split.

    Raises InvalidInput with the counts, LimitExceeded; nothing is chosen then.
    """
    if not listed:
        raise InvalidInput("the list names no item; give a file with hashes of the series' items")
    if len(listed) > limits.SPLIT_ITEMS:
        raise LimitExceeded(
            f"at most {limits.SPLIT_ITEMS} items are split off at once; split in several goes and "
            "merge the new series"
        )
    owners: dict[tuple[DigestKind, bytes], list[int]] = {}
    for item, digests in held.items():
        for pair in digests.items():
            owners.setdefault(pair, []).append(item)
    found: set[int] = set()
    unknown: list[int] = []
    shared: list[int] = []
    for number, record in enumerate(listed, start=1):
        named = next((owners[pair] for pair in _by_strength(record) if pair in owners), [])
        if len(named) == 1:
            found.add(named[0])
        else:
            (shared if named else unknown).append(number)
    _check_all_found(len(listed), unknown, shared, name)
    if len(found) == len(held):
        raise InvalidInput(
            f"the list names all {len(held)} items of {name}, so nothing would stay; leave in the "
            "old series what is its own"
        )
    chosen = [
        pair
        for item in sorted(found)
        for pair in held[item].items()
        if all(owner in found for owner in owners[pair])
    ]
    return Chosen(frozenset(found), tuple(dict.fromkeys(chosen)))


def _by_strength(record: Digests) -> Iterable[tuple[DigestKind, bytes]]:
    return ((kind, record[kind]) for kind in STRONGEST if kind in record)


def _check_all_found(
    count: int, unknown: Collection[int], shared: Collection[int], name: str
) -> None:
    if unknown:
        raise InvalidInput(
            f"{len(unknown)} of {count} listed items are not in {name} ({_numbers(unknown)}); take "
            "them out of the file, or import them into the series first; nothing was split"
        )
    if shared:
        raise InvalidInput(
            f"{len(shared)} of {count} listed items share their hash with another item of {name} "
            f"({_numbers(shared)}); name them by SHA-1 or SHA-256; nothing was split"
        )


def _numbers(records: Collection[int]) -> str:
    some = ", ".join(map(str, list(records)[: limits.SPLIT_RECORDS_NAMED]))
    more = ", ..." if len(records) > limits.SPLIT_RECORDS_NAMED else ""
    return f"record {some}{more}"


def check_split(agency: str, series: Series, name: str) -> None:
    """Raise InvalidInput or WrongState unless a series may be split by this agency."""
    if series.owner != agency:
        raise InvalidInput(
            f"{series.id} is {series.owner}'s; only its owner splits a series: write it a note"
        )
    if series.status is SeriesStatus.WITHDRAWN:
        raise WrongState(f"{series.id} is withdrawn; it is not split")
    if not name:
        raise InvalidInput("the new series needs a name; say --name NAME")


def status_of_new(status: SeriesStatus, *, likely: bool) -> SeriesStatus:
    """Return where a series stands that was split from another: nobody was told of it, and nobody
    in it is identified, whatever was done with the old one."""
    if status not in _FROM_ITS_OWN:
        return status
    return SeriesStatus.LOCALISED if likely else SeriesStatus.UNDER_EVALUATION
