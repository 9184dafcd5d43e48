"""Uniting items that a record showed to be one, once that record's import is complete.

The lower id stays and takes the other's holdings, votes, fills and digests. What contradicts by
then (another import may have filled in other digests since) stays apart. Bounded: an import links
few items, and what is over the bound waits; items that share a digest are both found until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Table, and_, delete, or_, select

from tieline_server.storage import resolve, tallies
from tieline_server.storage.resolve import COLUMNS, Item
from tieline_server.storage.schema import holdings, imports, item_fills, item_links, items, votes
from tieline_server.storage.session import Session
from tieline_server.storage.staging_known import load_items


class United(NamedTuple):
    """``gone`` are the item ids that were given up, ``grown`` those that took over from them."""

    gone: set[int]
    grown: set[int]


def unite(session: Session, limit: int) -> United:
    """Unite up to ``limit`` linked pairs of complete imports."""
    found = (
        select(item_links.c.low, item_links.c.high)
        .join(imports, imports.c.no == item_links.c.import_no)
        .where(imports.c.generation.is_not(None))
        .order_by(item_links.c.low, item_links.c.high)
        .limit(limit)
    )
    pairs = sorted({(row.low, row.high) for row in session.connection.execute(found)})
    if not pairs:
        return United(set(), set())
    loaded = load_items(session, {item for pair in pairs for item in pair}, None)
    for low, high in pairs:
        _drop_link(session, low, high)
        if low in loaded and high in loaded:
            _join(loaded[low].final(), loaded[high].final())
    moved = {item.id: item.final() for item in loaded.values() if item.into is not None}
    if not moved:
        return United(set(), set())
    _move_digests(session, moved)
    both = holdings.c.item.in_(
        select(session.bulk.ids({*moved, *(item.id for item in moved.values())}).c.value)
    )
    tallies.add_holdings(session, -1, both)
    _move(session, holdings, moved)
    tallies.add_holdings(session, 1, both)
    _move(session, votes, moved)
    _move_links(session, moved)
    delete_items(session, moved)
    return United(set(moved), {item.id for item in moved.values()})


def delete_items(session: Session, ids: Iterable[int]) -> None:
    """Delete items with all that hangs on them except holdings."""
    ids = list(ids)
    wanted = select(session.bulk.ids(ids).c.value).scalar_subquery()
    run = session.connection.execute
    run(delete(item_links).where(or_(item_links.c.low.in_(wanted), item_links.c.high.in_(wanted))))
    run(delete(item_fills).where(item_fills.c.item.in_(wanted)))
    run(delete(votes).where(votes.c.item.in_(wanted)))
    tallies.add_items(session, ids, -1)
    run(delete(items).where(items.c.id.in_(wanted)))


def _join(one: Item, other: Item) -> None:
    if one is other or one.perceptual != other.perceptual:
        return
    low, high = sorted((one, other), key=lambda item: item.id)
    if resolve.agree(resolve.identifying(high), resolve.identifying(low)):
        high.into = low
        low.values = high.values | low.values


def _drop_link(session: Session, low: int, high: int) -> None:
    complete = select(imports.c.no).where(imports.c.generation.is_not(None))
    session.connection.execute(
        delete(item_links).where(
            item_links.c.low == low,
            item_links.c.high == high,
            item_links.c.import_no.in_(complete),
        )
    )


def _move_digests(session: Session, moved: Mapping[int, Item]) -> None:
    """Give the digests of items to the ones they became."""
    run = session.connection.execute
    lows = {item.id for item in moved.values()}
    before = load_items(session, lows, None)
    complete = set(
        session.connection.scalars(select(imports.c.no).where(imports.c.generation.is_not(None)))
    )
    wanted = select(session.bulk.ids(moved).c.value)
    stated: list[tuple[int, int, int, bytes]] = []
    for row in run(select(items).where(items.c.id.in_(wanted))):
        for kind, name in COLUMNS.items():
            value = getattr(row, name)
            if value is not None:
                value = value.encode() if kind == resolve.MEDIA_TYPE else value
                stated.append((row.id, kind, row.import_no, value))
    for row in run(select(item_fills).where(item_fills.c.item.in_(wanted))):
        stated.append((row.item, row.kind, row.import_no, row.value))
    for high, kind, import_no, value in stated:
        low = before[moved[high].id]
        if low.solid >> kind & 1:
            continue
        new = {"item": low.id, "kind": kind, "import_no": import_no, "value": value}
        session.insert_new(item_fills, new)
        if import_no in complete:
            low.solid |= 1 << kind


def _move(session: Session, table: Table, moved: Mapping[int, Item]) -> None:
    """Repoint rows of holdings or votes; what the remaining item already has falls away."""
    wanted = select(session.bulk.ids(moved).c.value).scalar_subquery()
    rows = (
        session.connection.execute(select(table).where(table.c.item.in_(wanted))).mappings().all()
    )
    session.connection.execute(delete(table).where(table.c.item.in_(wanted)))
    renamed: list[dict[str, Any]] = [{**row, "item": moved[row["item"]].id} for row in rows]
    if renamed:
        session.connection.execute(session.upsert(table).on_conflict_do_nothing(), renamed)


def _move_links(session: Session, moved: Mapping[int, Item]) -> None:
    wanted = select(session.bulk.ids(moved).c.value)
    found = select(item_links).where(
        or_(item_links.c.low.in_(wanted), item_links.c.high.in_(wanted))
    )
    for row in session.connection.execute(found).all():
        key = and_(
            item_links.c.import_no == row.import_no,
            item_links.c.low == row.low,
            item_links.c.high == row.high,
        )
        session.connection.execute(delete(item_links).where(key))
        one, other = (moved[i].id if i in moved else i for i in (row.low, row.high))
        if one != other:
            new = {"import_no": row.import_no, "low": min(one, other), "high": max(one, other)}
            session.insert_new(item_links, new)
