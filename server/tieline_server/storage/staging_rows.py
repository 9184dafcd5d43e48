"""Staging: a resolved batch becomes rows: new items, fills, links, holdings and votes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Row, and_, insert, or_, select
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Record, Vote

from tieline_server.storage import tallies
from tieline_server.storage.index_changes import Digests, record_change
from tieline_server.storage.index_reading import pair_arrays
from tieline_server.storage.resolve import (
    COLUMNS,
    MD5,
    MEDIA_TYPE,
    PDQ,
    PHOTODNA,
    SHA1,
    SHA256,
    Item,
    Resolver,
)
from tieline_server.storage.schema import (
    holdings,
    imports,
    item_fills,
    item_links,
    items,
    series_keys,
    vote_kinds,
    votes,
)
from tieline_server.storage.session import Session

_INT63 = 2**63 - 1
Held = tuple[Item, Record, int]
"""A record with its item and its series' number."""

ITEM_COLUMNS = (
    *("id", "import_no", "md5", "sha1", "sha256", "pdq", "photodna"),
    *("pdq_quality", "size", "media_type", "perceptual"),
)
HOLDING_COLUMNS = (
    *("import_no", "item", "series_no", "victim_identified", "offender_identified"),
    *("distributed", "submissions", "baseline"),
)
_RESTRICTIONS = (
    *("handling", "tlp", "restriction"),
    *("source_evaluation", "information_evaluation"),
)


def write(
    session: Session, head: Row[Any], resolver: Resolver, held: Sequence[Held], voter: str
) -> int:
    """Write a resolved batch; return how many items it created."""
    created = [item for item in resolver.created if item.into is None]
    described: dict[int, Record] = {}
    known: set[int] = set()
    for item, record, _ in held:
        if not item.fresh:
            known.add(item.id)
        elif item.id not in described:
            described[item.id] = record
    put, connection = session.bulk.insert, session.connection
    put(connection, items, ITEM_COLUMNS, [_item(i, head.no, described[i.id]) for i in created])
    put(
        connection,
        item_fills,
        ("item", "kind", "import_no", "value"),
        [(item, kind, head.no, value) for (item, kind), value in resolver.fills.items()],
    )
    for low, high in sorted(resolver.links):
        session.insert_new(item_links, {"import_no": head.no, "low": low, "high": high})
    new_holdings, new_votes = _statements(session, head, held, known, voter)
    put(connection, holdings, HOLDING_COLUMNS, new_holdings)
    put(connection, votes, ("import_no", "item", "vote_no"), new_votes)
    _tell(session, head, created, new_holdings)
    digests = {COLUMNS[k]: sum(k in item.values for item in created) for k in DigestKind}
    tallies.add(session, head.no, {"items": len(created), **digests, "holdings": len(new_holdings)})
    return len(created)


def _tell(
    session: Session,
    head: Row[Any],
    created: Sequence[Item],
    new_holdings: Sequence[tuple[object, ...]],
) -> None:
    """Record what the index has to learn: new items, and those that are held more widely."""
    new = {item.id for item in created}
    sets: dict[int, list[tuple[int, int]]] = {item: [] for item in sorted(new)}
    touched: set[int] = set()
    for row in new_holdings:
        item, series_no = int(row[1]), int(row[2])  # type: ignore[call-overload]
        if item in new:
            sets[item].append((head.no, series_no))
        else:
            touched.add(item)
    if not new and not touched:
        return
    fresh: Digests = {}
    for kind in DigestKind:
        pairs = [(item.id, item.values[kind]) for item in created if kind in item.values]
        if pairs:
            fresh[kind] = pair_arrays(kind, pairs)
    record_change(
        session,
        new=(min(new), max(new)) if new else (0, -1),
        touched=touched,
        fresh=fresh,
        held=(np.asarray(list(sets), dtype=np.int64), [tuple(sorted(s)) for s in sets.values()]),
    )


def _item(item: Item, import_no: int, record: Record) -> tuple[object, ...]:
    values = item.values
    media_type = values.get(MEDIA_TYPE)
    return (
        item.id,
        import_no,
        values.get(MD5),
        values.get(SHA1),
        values.get(SHA256),
        values.get(PDQ),
        values.get(PHOTODNA),
        None if record.pdq_quality is None else _within(record.pdq_quality, 100),
        None if record.size is None else _within(record.size, _INT63),
        None if media_type is None else media_type.decode(),
        item.perceptual,
    )


def _within(value: int, most: int) -> int | None:
    """Return a number as stated, or None where it cannot be true."""
    return value if 0 <= value <= most else None


def _statements(
    session: Session, head: Row[Any], held: Sequence[Held], known: set[int], voter: str
) -> tuple[list[tuple[object, ...]], list[tuple[int, int, int]]]:
    """Return the holdings and votes that this import adds.

    A vote belongs to every import that states it, since it leaves and is erased with its import.
    What imports of the same case hold in the series and judge alike already is not added again.
    """
    own = head.no
    holders, given = _stated_before(session, head, known)
    numbers: dict[tuple[Vote, ...], list[int]] = {(): []}
    new_holdings: list[tuple[object, ...]] = []
    new_votes: list[tuple[int, int, int]] = []
    for item, record, series_no in held:
        if record.votes not in numbers:
            numbers[record.votes] = [vote_number(session, voter, vote) for vote in record.votes]
        stated = numbers[record.votes]
        by = holders.setdefault((item.id, series_no), set())
        if own not in by:
            if by and all(any((one, item.id, vote) in given for one in by) for vote in stated):
                continue
            by.add(own)
            new_holdings.append(_holding(own, item, record, series_no))
        for number in stated:
            vote = (own, item.id, number)
            if vote not in given:
                given.add(vote)
                new_votes.append(vote)
    return new_holdings, new_votes


def _stated_before(
    session: Session, head: Row[Any], known: set[int]
) -> tuple[dict[tuple[int, int], set[int]], set[tuple[int, int, int]]]:
    """Return what this import has stated of known items, or complete ones of the same case under
    the same restrictions and evaluation (the retention that was given first stands): by which
    imports (item, series) is held, and votes as (import, item, vote)."""
    holders: dict[tuple[int, int], set[int]] = {}
    if not known:
        return holders, set()
    same = ("case_ref", "answerable", *_RESTRICTIONS)
    alike = and_(
        imports.c.generation.is_not(None),
        *(imports.c[name] == getattr(head, name) for name in same),
    )
    among = select(session.bulk.ids(known).c.value)
    run = session.connection.execute
    of_them = or_(imports.c.no == head.no, alike)
    h, v = holdings.c, votes.c
    found = (
        select(h.item, h.series_no, h.import_no)
        .join(imports, imports.c.no == h.import_no)
        .where(h.item.in_(among), of_them)
    )
    for item, series_no, import_no in run(found):
        holders.setdefault((item, series_no), set()).add(import_no)
    voted = (
        select(v.import_no, v.item, v.vote_no)
        .join(imports, imports.c.no == v.import_no)
        .where(v.item.in_(among), of_them)
    )
    return holders, {(import_no, item, vote) for import_no, item, vote in run(voted)}


def _holding(number: int, item: Item, record: Record, series_no: int) -> tuple[object, ...]:
    return (
        number,
        item.id,
        series_no,
        record.victim_identified,
        record.offender_identified,
        record.distributed,
        None if record.submissions is None else _within(record.submissions, _INT63),
        record.baseline,
    )


def vote_number(session: Session, voter: str, vote: Vote) -> int:
    c = vote_kinds.c
    found = select(c.no).where(c.agency == voter, c.scheme == vote.scheme, c.code == vote.code)
    number = session.connection.scalar(found)
    if number is None:
        number = session.next("vote_kind")
        row = {"no": number, "agency": voter, "scheme": vote.scheme, "code": vote.code}
        session.connection.execute(insert(vote_kinds).values(**row))
    return int(number)


def key_numbers(session: Session, names: set[str]) -> dict[str, int]:
    """Return the numbers that stand for series ids in holdings, giving out new ones."""
    known: dict[str, int] = {}
    if names:
        found = select(series_keys.c.id, series_keys.c.no).where(series_keys.c.id.in_(names))
        known = {row.id: row.no for row in session.connection.execute(found)}
    missing = sorted(names - known.keys())
    if missing:
        first = session.next("series_key", len(missing))
        rows = [{"no": number, "id": name} for number, name in enumerate(missing, start=first)]
        session.connection.execute(insert(series_keys), rows)
        known.update({str(row["id"]): int(row["no"]) for row in rows})  # type: ignore[call-overload]
    return known
