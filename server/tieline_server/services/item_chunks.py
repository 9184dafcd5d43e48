"""A chunk of a series' items: for each kind a column of digests, with the items they are of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tieline.v1 import digests_pb2
from tieline_client import limits
from tieline_client.columns import FLAGS, Columns, DigestColumn, indexed
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidInput
from tieline_client.formats.record import Vote
from tieline_client.item_columns import item_chunk

from tieline_server.domain.ports import ItemRow

_KINDS = frozenset(map(int, DigestKind))


def encode(page: Sequence[ItemRow], agency: str) -> digests_pb2.ItemChunk:
    """Return items with the agency's own votes as a chunk."""
    chunk = item_chunk(page, lambda item, kind: getattr(item, kind.label))
    for index, item in enumerate(page):
        for voter, vote in item.votes:
            if voter == agency:
                chunk.votes.add(item=index, agency=voter, scheme=vote.scheme, code=vote.code)
        if item.baseline is not None:
            (chunk.baseline if item.baseline else chunk.not_baseline).append(index)
    return chunk


def decode(chunk: digests_pb2.ItemChunk, sender: str) -> Columns:
    """Return the items of a chunk; raise InvalidInput when its parts do not fit together."""
    count = chunk.items
    if not 1 <= count <= limits.ITEMS_PER_CHUNK:
        raise InvalidInput(f"a chunk holds 1 to {limits.ITEMS_PER_CHUNK} items")
    digests: dict[DigestKind, DigestColumn] = {}
    for column in chunk.columns:
        if column.list.kind not in _KINDS:
            raise InvalidInput("a chunk holds digests of an unknown kind")
        kind = DigestKind(column.list.kind)
        if kind in digests:
            raise InvalidInput("a chunk's columns do not fit together")
        digests[kind] = _column_in(kind, column, count)
    votes: dict[int, tuple[Vote, ...]] = {}
    for vote in chunk.votes:
        if vote.item >= count or vote.agency != sender:
            raise InvalidInput("a vote for an item that is not there, or by somebody else")
        votes[vote.item] = (*votes.get(vote.item, ()), Vote(vote.scheme, vote.code))
    places, vote_sets = indexed(votes.get(item) for item in range(count))
    none = np.full(count, -1, dtype=np.int32)
    columns = Columns(
        numbers=np.arange(1, count + 1, dtype=np.int64),
        digests=digests,
        quality=none.astype(np.int16),
        size=none.astype(np.int64),
        media_type=none,
        votes=places,
        series=none,
        flags=_flags_in(chunk),
        vote_sets=vote_sets,
    )
    if not columns.identified().all():
        raise InvalidInput("an item without a digest")
    return columns


def _flags_in(chunk: digests_pb2.ItemChunk) -> npt.NDArray[np.uint8]:
    """Return what is stated of each item, as `Columns.flags`."""
    flags = np.zeros(chunk.items, dtype=np.uint8)
    stated = [*chunk.baseline, *chunk.not_baseline]
    if len(set(stated)) != len(stated) or any(item >= chunk.items for item in stated):
        raise InvalidInput("a chunk states of an item that it does not hold, or of one twice")
    place = 2 * FLAGS.index("baseline")
    flags[list(chunk.baseline)] = 2 << place
    flags[list(chunk.not_baseline)] = 1 << place
    return flags


def _column_in(kind: DigestKind, column: digests_pb2.DigestColumn, count: int) -> DigestColumn:
    """Return the digests of one kind by item."""
    packed = np.frombuffer(column.list.digests, dtype=np.uint8).reshape(-1, kind.width)
    known, further = len(column.items), len(column.extra_items)
    if known != len(packed) or further != len(column.extra_digests):
        raise InvalidInput("a chunk's columns do not fit together")
    owners = np.array([*column.items, *column.extra_items], dtype=np.int64)
    positions = np.array([*range(known), *column.extra_digests], dtype=np.int64)
    if further and int(positions.max()) >= len(packed):
        raise InvalidInput("a chunk names a digest that it does not hold")
    if len(owners) and (int(owners.max()) >= count or int(np.bincount(owners).max()) > 1):
        raise InvalidInput("a chunk names an item that it does not hold, or one twice")
    present = np.zeros(count, dtype=np.bool_)
    present[owners] = True
    rows = np.zeros((count, kind.width), dtype=np.uint8)
    rows[owners] = packed[positions]
    return DigestColumn(present, rows)
