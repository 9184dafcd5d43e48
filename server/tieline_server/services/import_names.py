"""Which other imports a report of one names: lists that left records out, and what holds a list's.

An exclusion list keeps out what comes after it. What is held by then stays held and is answered:
the report of the list says how much that is, and by which imports, so that they can be removed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.columns import Columns
from tieline_client.digests import EXACT_KINDS

from tieline_server.domain.ports import Ids, ImportRow, Tx
from tieline_server.services.context import Node


def held(node: Node, columns: Columns) -> tuple[int, set[str]]:
    """Return how many records are held by imports that count, and the ids of those imports."""
    records: list[Ids] = []
    items: list[Ids] = []
    for kind in EXACT_KINDS:
        if kind in columns.digests:
            places = np.flatnonzero(columns.digests[kind].present)
            hits = node.matching.exact(kind, columns.digests[kind].rows[places])
            records.append(places[hits.positions])
            items.append(hits.item_ids)
    if not any(map(len, items)):
        return 0, set()
    record, item = np.concatenate(records), np.concatenate(items)
    wanted = np.unique(item).tolist()
    views = node.store.read(
        lambda tx: tx.items.holdings(wanted, answerable_only=True, flag_conflicts=False)
    )
    counts = np.isin(item, [view.item for view in views])
    return len(np.unique(record[counts])), {view.import_id for view in views}


def of_numbers(tx: Tx, numbers: Iterable[int]) -> list[operator_pb2.ImportName]:
    """Name imports by their numbers, the oldest first, as many as a report names."""
    return _names(tx.imports.rows(numbers))


def of_ids(tx: Tx, ids: Iterable[str], agency: str) -> list[operator_pb2.ImportName]:
    """Name those of these imports that an agency's people made."""
    rows = [row for one in sorted(ids) if (row := tx.imports.row(one)) is not None]
    return _names(row for row in rows if row.agency == agency)


def _names(rows: Iterable[ImportRow]) -> list[operator_pb2.ImportName]:
    names = [operator_pb2.ImportName(id=row.id, source=row.source) for row in rows]
    return names[: limits.IMPORTS_NAMED]
