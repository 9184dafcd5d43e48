"""Digests of items as the columns of a chunk: each digest once, with the items that have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tieline.v1 import digests_pb2

from tieline_client.digests import DigestKind, pack

T = TypeVar("T")


def item_chunk(
    items: Sequence[T], digest_of: Callable[[T, DigestKind], bytes | None]
) -> digests_pb2.ItemChunk:
    """Return the items' digests as a chunk; ``digest_of`` gives an item's digest of a kind."""
    chunk = digests_pb2.ItemChunk(items=len(items))
    for kind in DigestKind:
        owners: dict[bytes, list[int]] = {}
        for index, item in enumerate(items):
            value = digest_of(item, kind)
            if value is not None:
                owners.setdefault(value, []).append(index)
        if not owners:
            continue
        column = chunk.columns.add()
        column.list.kind = int(kind)  # type: ignore[assignment]
        column.list.digests = pack(kind, owners)
        for position, digest in enumerate(sorted(owners)):
            column.items.append(owners[digest][0])
            for extra in owners[digest][1:]:
                column.extra_digests.append(position)
                column.extra_items.append(extra)
    return chunk
