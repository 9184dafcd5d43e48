"""A standing query on its way to the own node: which records are watched, in columns.

1. The records that may be asked abroad become one list, as for a question (asking.py). Records that
   repeat digests of others add nothing and are no items of their own.
2. Header and columns go to the node; each digest names its item. If digests are known good there,
   nothing is kept and the node names them: their records leave the list, and it is sent again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from tieline.v1 import digests_pb2
from tieline.v1 import operator_watches_pb2 as pb

from tieline_client import limits
from tieline_client.asked_list import AskedList
from tieline_client.digest_batch import DigestBatch
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput, MalformedMessage, WrongState
from tieline_client.operator_connection import OperatorConnection, make
from tieline_client.packed import U8, Index
from tieline_client.payloads import timestamp


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to state beside the list. No ``peers``: those that policy lists for the purpose.
    ``contact`` goes in the words of `WatchContact`."""

    purpose: str
    case_ref: str
    until: datetime
    name: str = ""
    reference: str = ""
    priority: int = 0
    peers: tuple[str, ...] = ()
    near: bool = False
    alert: str = ""
    contact: dict[str, str] = field(default_factory=dict)


def add_watch(
    connection: OperatorConnection, asked: AskedList, options: WatchOptions
) -> pb.WatchView:
    """Have a list watched; return the standing query."""
    for _ in range(1 + limits.EXCLUSION_ROUNDS):
        if not any(asked.counts()):
            raise InvalidInput("no record is left to be watched: all are excluded or known good")
        found = _send(connection, asked, options)
        if isinstance(found, pb.WatchView):
            return found
        asked = asked.without(found)
    raise WrongState("exclusion lists grew meanwhile, and nothing was kept; try again")


def owned(asked: AskedList) -> tuple[int, dict[DigestKind, tuple[U8, Index]]]:
    """Return how many items are watched, and by kind the digests with the index of the one item
    that each belongs to: of the records that share a digest, the first."""
    firsts: dict[DigestKind, tuple[U8, Index]] = {}
    for kind, column in asked.columns.items():
        which, records = column.owners(np.arange(len(column.digests), dtype=np.int64))
        least = np.full(len(column.digests), len(asked), dtype=np.int64)
        np.minimum.at(least, which, records)
        firsts[kind] = column.digests, least
    none = np.zeros(0, dtype=np.int64)
    items = np.unique(np.concatenate([none, *(records for _, records in firsts.values())]))
    return len(items), {
        kind: (rows, np.searchsorted(items, records)) for kind, (rows, records) in firsts.items()
    }


def requests(asked: AskedList, options: WatchOptions) -> Iterator[pb.AddWatchRequest]:
    """Yield header and columns. Raises InvalidInput for what cannot be sent."""
    records, columns = owned(asked)
    header = make(
        pb.WatchHeader,
        name=options.name,
        purpose=options.purpose,
        case_ref=options.case_ref,
        reference=options.reference,
        priority=options.priority,
        until_time=timestamp(options.until),
        near=options.near,
        peers=options.peers,
        records=records,
        excluded=asked.excluded,
        counts=asked.counts(),
        list_digest=asked.digest,
        alert=options.alert,
        contact=make(pb.WatchContact, **options.contact),
    )
    yield pb.AddWatchRequest(header=header)
    yield from _columns(columns)


def _send(
    connection: OperatorConnection, asked: AskedList, options: WatchOptions
) -> pb.WatchView | dict[DigestKind, Index]:
    parts = requests(asked, options)
    known: dict[DigestKind, list[Index]] = {}
    counts = dict(zip(map(int, DigestKind), asked.counts(), strict=True))
    for message in connection.converse(connection.stub.AddWatch, parts, limits.ASK_SECONDS):
        if message.HasField("watch"):
            view: pb.WatchView = message.watch
            return view
        good = message.known_good
        positions = np.array(good.positions, dtype=np.uint64)
        if not len(positions) or (positions >= counts.get(good.kind, 0)).any():
            raise MalformedMessage("the node names known good digests that were not sent")
        known.setdefault(DigestKind(good.kind), []).append(positions.astype(np.int64))
    if not known:
        raise MalformedMessage("the node does not say what became of the standing query")
    return {kind: np.concatenate(found) for kind, found in known.items()}


def _columns(
    columns: dict[DigestKind, tuple[U8, Index]],
) -> Iterator[pb.AddWatchRequest]:
    for kind, (rows, items) in columns.items():
        for start in range(0, len(rows), limits.WATCH_PIECE_DIGESTS):
            some = slice(start, start + limits.WATCH_PIECE_DIGESTS)
            batch = DigestBatch.of(kind, rows[some].reshape(-1).data)
            column = digests_pb2.DigestColumn(list=batch.to_wire(), items=items[some].tolist())
            yield pb.AddWatchRequest(column=column)
