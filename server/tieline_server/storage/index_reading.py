"""What the index is told, read from the database: digests and holdings of items."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from sqlalchemy import Select, select
from tieline_client.digests import DigestKind

from tieline_server.domain.ports import HoldingSet, Ids, Matching, Rows
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import holdings, imports, item_fills, items

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

PAGE = 100_000
"""Items read at once while changes are replayed or the index is rebuilt."""
_COMPLETE = select(imports.c.no).where(imports.c.generation.is_not(None))


def hold(matching: Matching, ids: Ids, sets: Sequence[HoldingSet]) -> None:
    """Tell the index under what items are held; sets repeat, so each is looked up once."""
    places: dict[HoldingSet, int] = {}
    at = np.fromiter(
        (places.setdefault(one, len(places)) for one in sets), dtype=np.int64, count=len(sets)
    )
    if len(at):
        matching.hold(ids, matching.holding_numbers(places)[at])


def digest_range(session: Session, first: int, last: int) -> list[tuple[DigestKind, Ids, Rows]]:
    """Return the digests in the columns of items [first, last], kind by kind."""
    pages = []
    for kind in DigestKind:
        digest = items.c[COLUMNS[kind]]
        pairs = select(items.c.id, digest).where(
            items.c.id.between(first, last), digest.is_not(None)
        )
        ids, rows = session.bulk.digests(session.connection, pairs, kind.width)
        if len(ids):
            pages.append((kind, ids, rows))
    return pages


def fill_range(session: Session, first: int, last: int) -> list[tuple[DigestKind, Ids, Rows]]:
    """Return what complete imports filled in for items [first, last], kind by kind."""
    found = session.connection.execute(
        select(item_fills.c.kind, item_fills.c.item, item_fills.c.value).where(
            item_fills.c.item.between(first, last), item_fills.c.import_no.in_(_COMPLETE)
        )
    ).all()
    return [(kind, *pair_arrays(kind, pairs)) for kind, pairs in _by_kind(found).items()]


def held_range(session: Session, first: int, last: int) -> tuple[Ids, list[HoldingSet]]:
    """Return the items [first, last] that are held, and under what."""
    c = holdings.c
    found = session.connection.execute(
        select(c.item, c.import_no, c.series_no)
        .where(c.item.between(first, last))
        .order_by(c.item, c.import_no, c.series_no)
    )
    sets = _sets(found)
    return np.asarray(list(sets), dtype=np.int64), list(sets.values())


def _sets(rows: Iterable[Sequence[int]]) -> dict[int, HoldingSet]:
    return {
        item: tuple((row[1], row[2]) for row in group)
        for item, group in groupby(rows, key=lambda row: row[0])
    }


def index_range(session: Session, matching: Matching, first: int, last: int) -> None:
    """Index items [first, last] with their holdings."""
    for kind, ids, rows in digest_range(session, first, last):
        matching.add(kind, ids, rows)
    hold(matching, *held_range(session, first, last))


def index_fills(session: Session, matching: Matching, import_no: int) -> None:
    """Index what an import that became complete filled in."""
    c, after = item_fills.c, 0
    key: Select[tuple[int, int, bytes]] = select(c.kind, c.item, c.value)
    while True:
        page = key.where(c.import_no == import_no, c.item > after).order_by(c.item)
        found = session.connection.execute(page.limit(PAGE)).all()
        _add_fills(matching, found)
        if len(found) < PAGE:
            return
        # The last item's fills may go on over the page's end: they are read again.
        after = found[-1].item - 1


def _add_fills(matching: Matching, rows: Iterable[Sequence[object]]) -> None:
    for kind, pairs in _by_kind(rows).items():
        matching.add(kind, *pair_arrays(kind, pairs))


def _by_kind(rows: Iterable[Sequence[object]]) -> dict[DigestKind, list[tuple[int, bytes]]]:
    found: dict[DigestKind, list[tuple[int, bytes]]] = {}
    kinds = set(DigestKind)
    for kind, item, value in rows:
        if kind in kinds:
            found.setdefault(DigestKind(kind), []).append((item, value))  # type: ignore[arg-type]
    return found


def pair_arrays(kind: DigestKind, pairs: Sequence[tuple[int, bytes]]) -> tuple[Ids, Rows]:
    """Return (id, digest) pairs as ids (n,) and rows (n, width)."""
    ids = np.fromiter((item for item, _ in pairs), dtype=np.int64, count=len(pairs))
    packed = b"".join([value for _, value in pairs])
    return ids, np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)


def index_items(
    session: Session, matching: Matching, ids: Sequence[int], *, anew: bool = False
) -> None:
    """Index what storage says now of these items, under what it holds them now; ``anew``: and
    nothing else of them."""
    wanted = select(session.bulk.ids(ids).c.value)
    columns = (items.c[COLUMNS[kind]] for kind in DigestKind)
    rows = session.connection.execute(
        select(items.c.id, *columns).where(items.c.id.in_(wanted))
    ).all()
    stated: list[Sequence[object]] = [
        (kind, row[0], row[column])
        for kind, column in zip(DigestKind, range(1, 5), strict=True)
        for row in rows
        if row[column]
    ]
    fills = select(item_fills.c.kind, item_fills.c.item, item_fills.c.value).where(
        item_fills.c.item.in_(wanted), item_fills.c.import_no.in_(_COMPLETE)
    )
    stated += session.connection.execute(fills).all()
    if anew:
        pages = {kind: pair_arrays(kind, pairs) for kind, pairs in _by_kind(stated).items()}
        matching.restate(np.asarray(ids, dtype=np.int64), pages)
    else:
        _add_fills(matching, stated)
    held = (
        select(holdings.c.item, holdings.c.import_no, holdings.c.series_no)
        .where(holdings.c.item.in_(wanted))
        .order_by(holdings.c.item, holdings.c.import_no, holdings.c.series_no)
    )
    sets: dict[int, HoldingSet] = dict.fromkeys(ids, ())
    sets.update(_sets(session.connection.execute(held)))
    hold(matching, np.asarray(list(sets), dtype=np.int64), list(sets.values()))


def equal_digests(rows: Rows, ids: Ids, digests: Rows) -> tuple[Ids, Ids]:
    """Return (position in ``rows``, id) of equal digests."""
    owners: dict[bytes, list[int]] = {}
    for item, digest in zip(ids.tolist(), _values(digests), strict=True):
        owners.setdefault(digest, []).append(item)
    pairs = [
        (position, item)
        for position, digest in enumerate(_values(rows))
        for item in owners.get(digest, ())
    ]
    found = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _values(rows: Rows) -> list[bytes]:
    packed, width = rows.tobytes(), rows.shape[1]
    return [packed[at : at + width] for at in range(0, len(packed), width)]
