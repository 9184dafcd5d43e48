"""Staging: what a batch touches, loaded whole: items that share a digest with its records."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from sqlalchemy import or_, select
from tieline_client.digests import DigestKind

from tieline_server.storage import resolve
from tieline_server.storage.resolve import (
    COLUMNS,
    EXACT,
    MEDIA_TYPE,
    PERCEPTUAL,
    Item,
    Values,
)
from tieline_server.storage.schema import (
    imports,
    item_fills,
    item_links,
    items,
)
from tieline_server.storage.session import Session


def load_items(session: Session, ids: Iterable[int], own: int | None) -> dict[int, Item]:
    """Load items with their fills. What other incomplete imports state is not solid."""
    wanted = select(session.bulk.ids(ids).c.value)
    staged = set(
        session.connection.scalars(select(imports.c.no).where(imports.c.generation.is_(None)))
    ) - {own}
    loaded: dict[int, Item] = {}
    for row in session.connection.execute(select(items).where(items.c.id.in_(wanted))):
        values: Values = {}
        for kind, name in COLUMNS.items():
            value = getattr(row, name)
            if value is not None:
                values[kind] = value.encode() if kind == MEDIA_TYPE else value
        solid = resolve.mask(values) if row.import_no not in staged else 0
        loaded[row.id] = Item(row.id, values, solid, perceptual=row.perceptual, fresh=False)
    found = select(item_fills).where(item_fills.c.item.in_(wanted))
    for row in session.connection.execute(found.order_by(*item_fills.primary_key.columns)):
        item, solid_here = loaded[row.item], row.import_no not in staged
        if row.kind not in item.values or (solid_here and not item.solid >> row.kind & 1):
            item.values[row.kind] = row.value
        if solid_here:
            item.solid |= 1 << row.kind
    return loaded


def load_sharing(session: Session, own: int, stated: Sequence[Values]) -> list[Item]:
    """Load the items that any of these values may mean, whole, as import ``own`` sees them."""
    exact: dict[int, set[bytes]] = {kind: set() for kind in EXACT}
    perceptual: dict[int, set[bytes]] = {kind: set() for kind in PERCEPTUAL}
    for values in stated:
        named = [kind for kind in EXACT if kind in values]
        into, kinds = (exact, named) if named else (perceptual, list(PERCEPTUAL))
        for kind in kinds:
            if kind in values:
                into[kind].add(values[kind])
    ids = _sharing(session, exact)
    for kind, digests in perceptual.items():
        wanted = sorted(digests)
        own_column = (items.c[COLUMNS[kind]], items.c.id)
        of_fills = (item_fills.c.value, item_fills.c.item)
        for target, where in (
            (own_column, items.c.perceptual),
            (of_fills, item_fills.c.kind == kind),
        ):
            found = session.bulk.match(session.connection, *target, wanted, where)
            ids.update(item for _, item in found)
    if not ids:
        return []
    linked = _links(session, ids, own)
    loaded = load_items(session, ids, own)
    for low, high in sorted(linked):
        one, other = loaded[low].final(), loaded[high].final()
        if one is not other and resolve.agree(resolve.identifying(other), resolve.identifying(one)):
            one, other = sorted((one, other), key=lambda item: item.id)
            other.into = one
            one.values = other.values | one.values
            one.solid |= other.solid
    return list(loaded.values())


def _sharing(session: Session, exact: Mapping[int, Collection[bytes]]) -> set[int]:
    """Return the items that share an exact digest, staged fills included."""
    ids: set[int] = set()
    fills = staged_fills(session)
    for kind, digests in exact.items():
        if digests:
            wanted = sorted(digests)
            rows = np.frombuffer(b"".join(wanted), dtype=np.uint8).reshape(len(wanted), -1)
            ids.update(session.feed.candidates(session, DigestKind(kind), rows)[1].tolist())
            if fills:
                ids.update(item for _, item in fills_of(session, kind, wanted))
    return ids


def staged_fills(session: Session) -> bool:
    """Whether an incomplete import filled in anything: the index does not know it yet."""
    found = (
        select(item_fills.c.item)
        .join(imports, imports.c.no == item_fills.c.import_no)
        .where(imports.c.generation.is_(None))
    )
    return session.connection.scalar(found.limit(1)) is not None


def fills_of(session: Session, kind: int, values: Sequence[bytes]) -> list[tuple[bytes, int]]:
    """Return (value, item) of fills of a kind among these values."""
    return session.bulk.match(
        session.connection,
        item_fills.c.value,
        item_fills.c.item,
        values,
        item_fills.c.kind == kind,
    )


def _links(session: Session, ids: set[int], own: int) -> set[tuple[int, int]]:
    """Add to ``ids`` what is linked with them by this or a complete import; return the links."""
    known: set[tuple[int, int]] = set()
    edge = ids
    counts = or_(imports.c.generation.is_not(None), imports.c.no == own)
    some = select(item_links.c.low).join(imports, imports.c.no == item_links.c.import_no)
    if session.connection.scalar(some.where(counts).limit(1)) is None:
        return known
    while edge:
        wanted = select(session.bulk.ids(edge).c.value)
        found = (
            select(item_links.c.low, item_links.c.high)
            .join(imports, imports.c.no == item_links.c.import_no)
            .where(counts, or_(item_links.c.low.in_(wanted), item_links.c.high.in_(wanted)))
        )
        pairs = {(row.low, row.high) for row in session.connection.execute(found)}
        known |= pairs
        edge = {item for pair in pairs for item in pair} - ids
        ids |= edge
    return known
