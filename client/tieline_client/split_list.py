"""The list of items that are split off a series, on its way to the own node: digests by item."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tieline.v1 import digests_pb2

from tieline_client import limits
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import LimitExceeded
from tieline_client.formats.record import Record, Rejected
from tieline_client.item_columns import item_chunk
from tieline_client.screening import without_junk

_Known = dict[DigestKind, bytes]


@dataclass(slots=True)
class ItemList:
    """Records of a file as items; ``rejected`` are those that name none."""

    items: list[_Known] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)

    def chunks(self) -> list[digests_pb2.ItemChunk]:
        """Return the list as it travels."""
        size = limits.ITEMS_PER_CHUNK
        return [
            item_chunk(self.items[at : at + size], dict.get)
            for at in range(0, len(self.items), size)
        ]


def read_items(records: Iterable[Record | Rejected]) -> ItemList:
    """Read a list; what says the same twice is one item. Raises LimitExceeded."""
    made = ItemList()
    seen: set[tuple[tuple[DigestKind, bytes], ...]] = set()
    for record in records:
        if isinstance(record, Rejected):
            made.rejected.append(record)
            continue
        known = _known(record)
        key = tuple(sorted(known.items()))
        if not known:
            made.rejected.append(Rejected(record.number, "it has no digest that names an item"))
        elif key not in seen:
            seen.add(key)
            made.items.append(known)
            if len(made.items) > limits.SPLIT_ITEMS:
                raise LimitExceeded(
                    f"at most {limits.SPLIT_ITEMS} items are split off at once; split the file, "
                    "and merge the new series afterwards"
                )
    return made


def _known(record: Record) -> _Known:
    """Exact digests; PDQ only where there is none."""
    record, _ = without_junk(record)
    stated = {kind: getattr(record, kind.label) for kind in DigestKind}
    exact = {kind: stated[kind] for kind in EXACT_KINDS if stated[kind]}
    pdq = {DigestKind.PDQ: stated[DigestKind.PDQ]} if stated[DigestKind.PDQ] else {}
    return exact or pdq
