"""What comes back of a question: who is asked, and each peer's answer brought back to records.

Hits travel as columns of positions and stay arrays here. When a peer ends, its hits become one
line for each record: the strongest kind that matched, at its nearest, and every series that any of
the record's digests led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from tieline.v1 import exchange_pb2, series_pb2
from tieline.v1 import operator_pb2 as pb

from tieline_client import limits
from tieline_client.asked_list import STRONGEST, AskedList
from tieline_client.digests import DigestKind
from tieline_client.errors import MalformedMessage
from tieline_client.hit_columns import check_hits, names_known
from tieline_client.packed import Index, distinct

_RANKS = np.zeros(max(DigestKind) + 1, dtype=np.int64)
_RANKS[list(STRONGEST)] = range(len(STRONGEST))


@dataclass(frozen=True, slots=True)
class AskStarted:
    """The question as it went out: records asked and kept at home, and who is asked."""

    asked: int
    excluded: int
    peers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SharedSeries:
    """A series as far as its holder discloses it; texts are empty where it does not."""

    id: str
    name: str
    status: str
    references: tuple[str, ...]
    contact_name: str
    contact_email: str
    contact_phone: str
    items: int | None = None
    """Items that its holder answers for, where told."""
    handling: series_pb2.Handling | None = None
    """Under what it is held, with its evaluation, where told."""

    @classmethod
    def of(cls, entry: exchange_pb2.SeriesEntry) -> SharedSeries:
        """Return what an entry says."""
        return cls(
            entry.id,
            entry.name,
            entry.status,
            tuple(entry.references),
            entry.contact_name,
            entry.contact_email,
            entry.contact_phone,
            entry.items if entry.HasField("items") else None,
            entry.handling if entry.HasField("handling") else None,
        )

    def entry(self) -> exchange_pb2.SeriesEntry:
        """Return it as it travels, without an index."""
        return exchange_pb2.SeriesEntry(
            id=self.id,
            name=self.name,
            status=self.status,
            references=self.references,
            contact_name=self.contact_name,
            contact_email=self.contact_email,
            contact_phone=self.contact_phone,
            items=self.items,
            handling=self.handling,
        )


@dataclass(frozen=True, slots=True)
class Overlap:
    """One record that a peer holds too.

    ``asked`` is its strongest digest, ``type:hex``; ``record`` its position in the file from 1;
    ``matched`` the kind that matched and ``match`` exact or near; ``distance`` in bits, 0 when
    exact. ``ambiguous``: by an MD5 that is held with two contents; look twice.
    """

    asked: str
    record: int
    matched: str
    match: str
    distance: int
    disclosure: str
    series: tuple[SharedSeries, ...]
    ambiguous: bool


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Matched records in the order of the file, as columns of m rows.

    ``records`` (m,) int64 are indexes into the asked list, ``kinds`` (m,) int8 the strongest kind
    that matched, ``distances`` (m,) int32, ``ambiguous`` (m,) bool. The series of row i are
    ``series[series_starts[i]:series_starts[i + 1]]``, indexes into the answer's series.
    """

    records: Index
    kinds: npt.NDArray[np.int8]
    distances: npt.NDArray[np.int32]
    ambiguous: npt.NDArray[np.bool_]
    series_starts: Index
    series: Index

    def __len__(self) -> int:
        return len(self.records)


@dataclass(frozen=True, slots=True, eq=False)
class PeerAnswer:
    """How one peer ended, and what it holds too.

    ``status`` is answered, refused, pending or unreachable, ``reason`` says why in words; ``count``
    is the peer's own, where disclosed; ``receipt`` the id of the receipt that the node keeps.
    """

    agency: str
    status: str
    reason: str
    count: int | None
    truncated: bool
    receipt: str
    disclosure: str
    matches: Matches
    series: Mapping[int, SharedSeries]
    asked: AskedList
    budget: exchange_pb2.BudgetLeft | None = None
    """What may still be asked there today, where the peer says so."""
    request: str = ""
    """The request that waits for a person at the peer."""

    def overlaps(self) -> Iterator[Overlap]:
        """Yield the matched records in the order of the file, made as they are taken."""
        matches = self.matches
        numbers = self.asked.numbers_of(matches.records)
        for index, record in enumerate(matches.records.tolist()):
            kind = DigestKind(int(matches.kinds[index]))
            first, last = matches.series_starts[index : index + 2].tolist()
            yield Overlap(
                asked=self.asked.name_of(record),
                record=int(numbers[index]),
                matched=kind.label,
                match="near" if kind is DigestKind.PDQ else "exact",
                distance=int(matches.distances[index]),
                disclosure=self.disclosure,
                series=tuple(self.series[one] for one in matches.series[first:last].tolist()),
                ambiguous=bool(matches.ambiguous[index]),
            )


Event = AskStarted | PeerAnswer
"""What is told of a question as it proceeds: its start once, then every peer's answer."""


@dataclass(slots=True)
class _Hits:
    """Hits of one peer in one kind, as they came: columns in parts."""

    positions: list[Index] = field(default_factory=list)
    distances: list[npt.NDArray[np.int32]] = field(default_factory=list)
    series: list[Index] = field(default_factory=list)
    ambiguous: list[Index] = field(default_factory=list)


@dataclass(slots=True)
class _Peer:
    hits: dict[DigestKind, _Hits] = field(default_factory=dict)
    series: dict[int, SharedSeries] = field(default_factory=dict)


class Gathering:
    """Takes the messages of one question; raises MalformedMessage for what does not fit it."""

    def __init__(self, asked: AskedList) -> None:
        self._asked = asked
        self._peers: dict[str, _Peer] | None = None

    def take(self, message: pb.AskOverlapResponse) -> Event | None:
        """Take the next message; return what there is to tell, None while a peer answers."""
        part = message.WhichOneof("part")
        if part == "started":
            return self._start(message.started)
        if part == "series":
            self._take_series(self._peer(message.series.agency), message.series.series)
        elif part == "hits":
            self._take_hits(self._peer(message.hits.agency), message.hits.hits)
        elif part == "end":
            return self._end(message.end)
        return None

    def _start(self, started: pb.AskStarted) -> AskStarted:
        if self._peers is not None:
            raise MalformedMessage("the node started one question twice")
        self._peers = {agency: _Peer() for agency in started.peers}
        return AskStarted(started.asked, started.excluded, tuple(self._peers))

    def _peer(self, agency: str) -> _Peer:
        peer = None if self._peers is None else self._peers.get(agency)
        if peer is None:
            raise MalformedMessage(f"the node answers for {agency[:32]!r}, which was not asked")
        return peer

    @staticmethod
    def _take_series(peer: _Peer, entries: Iterable[exchange_pb2.SeriesEntry]) -> None:
        for entry in entries:
            if not entry.index or entry.index in peer.series:
                raise MalformedMessage("the node gives two series one index")
            if len(peer.series) >= limits.SERIES_PER_ANSWER:
                raise MalformedMessage(f"a peer names over {limits.SERIES_PER_ANSWER} series")
            peer.series[entry.index] = SharedSeries.of(entry)

    def _take_hits(self, peer: _Peer, batch: exchange_pb2.HitBatch) -> None:
        kind, hits = check_hits(batch, self._asked.counts())
        into = peer.hits.setdefault(kind, _Hits())
        if not names_known(hits.series, peer.series):
            raise MalformedMessage("hits name a series that was not sent before")
        into.positions.append(hits.positions)
        into.distances.append(hits.distances)
        into.series.append(hits.series)
        into.ambiguous.append(hits.ambiguous)

    def _end(self, end: pb.PeerEnd) -> PeerAnswer:
        peer = self._peer(end.agency)
        assert self._peers is not None
        # What comes for it afterwards is for a peer that was not asked.
        del self._peers[end.agency]
        return PeerAnswer(
            agency=end.agency,
            status=end.status,
            reason=end.reason,
            count=end.count if end.HasField("count") else None,
            truncated=end.truncated,
            receipt=end.receipt,
            disclosure=end.disclosure,
            budget=end.budget if end.HasField("budget") else None,
            matches=_merge(self._asked, peer.hits),
            series=peer.series,
            asked=self._asked,
            request=end.request,
        )


def _merge(asked: AskedList, found: Mapping[DigestKind, _Hits]) -> Matches:
    """Bring one peer's hits from positions to records, one row for each."""
    if not found:
        return _NO_MATCHES
    parts: list[tuple[npt.NDArray[Any], ...]] = []
    for kind, hits in found.items():
        positions, distances = np.concatenate(hits.positions), np.concatenate(hits.distances)
        which, records = asked.columns[kind].owners(positions)
        flagged = np.zeros(len(positions), dtype=bool)
        if any(map(len, hits.ambiguous)):
            flagged = np.isin(positions, np.concatenate(hits.ambiguous))
        kinds = np.full(len(which), kind, dtype=np.int64)
        series = np.concatenate(hits.series)
        parts.append((records, kinds, distances[which], flagged[which], series[which]))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    records, kinds, distances, flagged, series = columns
    # By record, then the strongest kind, then the least distance: one number is sorted several
    # times faster than three. Rows that are equal in all of it differ in their series only.
    order = np.argsort((records << 16) | (_RANKS[kinds] << 10) | distances)
    records, series = records[order], series[order]
    first = np.ones(len(records), dtype=bool)
    first[1:] = records[1:] != records[:-1]
    best = order[first]
    row = np.cumsum(first) - 1
    named = series > 0
    pairs = distinct(row[named] << 32 | series[named])
    each = np.bincount(pairs >> 32, minlength=int(first.sum()))
    return Matches(
        records=records[first],
        kinds=kinds[best].astype(np.int8),
        distances=distances[best].astype(np.int32),
        ambiguous=flagged[best].astype(bool),
        series_starts=np.concatenate([[0], np.cumsum(each)]),
        series=pairs & 0xFFFFFFFF,
    )


_NO_MATCHES = Matches(
    records=np.zeros(0, dtype=np.int64),
    kinds=np.zeros(0, dtype=np.int8),
    distances=np.zeros(0, dtype=np.int32),
    ambiguous=np.zeros(0, dtype=np.bool_),
    series_starts=np.zeros(1, dtype=np.int64),
    series=np.zeros(0, dtype=np.int64),
)
