"""What is taken back is watched no more: its items leave the lists of standing queries.

Done before the holdings go, since these say which items they are; done again it does the same.
Items that this agency holds by other right too, from another series or import, may be watched on.
A standing query of which nothing is left ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tieline_client.asked_list import AskedList
from tieline_client.digests import DigestKind
from tieline_client.packed import U8, Index

from tieline_server.domain.ports import ItemRow, Tx
from tieline_server.domain.watch import WatchState
from tieline_server.services import watch_lists
from tieline_server.services.context import Node
from tieline_server.services.watches import end

_PAGE = 5_000


def strike(node: Node, series: str) -> None:
    """Take the items of a series out of what is watched."""
    watched = [one.id for one in node.store.read(lambda tx: tx.watches.find())]
    if not watched:
        return
    gone = _digests(node, series)
    for watch in watched if gone else ():
        node.store.write(lambda tx, one=watch: _strike(node, tx, one, gone, series))  # type: ignore[misc]


def _strike(
    node: Node, tx: Tx, identifier: str, gone: dict[DigestKind, set[bytes]], series: str
) -> None:
    watch = tx.watches.get(identifier)
    if watch is None or watch.state is not WatchState.ACTIVE:
        return
    asked = watch_lists.load(node, tx, identifier)
    out = np.zeros(len(asked), dtype=bool)
    for kind, values in gone.items():
        if kind in asked.columns:
            out[_owners(asked, kind, values)] = True
    if not out.any():
        return
    left = watch_lists.chosen(asked, np.flatnonzero(~out))
    counts = " ".join(map(str, left.counts()))
    pieces = watch_lists.pieces_of(node, identifier, left)
    tx.watches.put_list(identifier, pieces, len(left), counts)
    tx.audit.append(
        node.entry(
            "watch.struck",
            purpose=watch.purpose,
            case_ref=watch.case_ref,
            subjects=(identifier, series),
            items=int(out.sum()),
        )
    )
    if not len(left):
        end(node, tx, watch, WatchState.REMOVED, why="all that it watched was taken back")


def _owners(asked: AskedList, kind: DigestKind, values: set[bytes]) -> Index:
    """Return the records that have one of these digests."""
    column = asked.columns[kind]
    keys = _keys(column.digests)
    wanted = _keys(np.frombuffer(b"".join(sorted(values)), dtype=np.uint8).reshape(-1, kind.width))
    at = np.flatnonzero(np.isin(keys, wanted)).astype(np.int64)
    return column.owners(at)[1]


def _keys(rows: U8) -> npt.NDArray[Any]:
    """Return (n, width) bytes as n values that can be compared."""
    return np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel()


def _digests(node: Node, series: str) -> dict[DigestKind, set[bytes]]:
    """Return the digests of the items that are here for this series alone."""
    found: dict[DigestKind, set[bytes]] = {}
    for rows in _pages(node, series):
        for row in rows:
            for kind in DigestKind:
                value = getattr(row, kind.label)
                if value is not None:
                    found.setdefault(kind, set()).add(value)
    return found


def _pages(node: Node, series: str) -> Iterator[Sequence[ItemRow]]:
    after = 0
    while True:
        rows, others = node.store.read(lambda tx, at=after: _page(tx, series, at))  # type: ignore[misc]
        if not rows:
            return
        yield [row for row in rows if row.id not in others]
        after = rows[-1].id


def _page(tx: Tx, series: str, after: int) -> tuple[Sequence[ItemRow], set[int]]:
    """Return items of the series, and those of them that are held otherwise too."""
    rows = tx.items.of_series(series, after=after, limit=_PAGE)
    held = tx.items.holdings([row.id for row in rows], answerable_only=False, flag_conflicts=False)
    return rows, {one.item for one in held if one.series != series}
