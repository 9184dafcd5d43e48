"""Staging: a resolved batch becomes rows: new items, fills, links, holdings and votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    new_holdings = list(_holdings(head, held, _already_held(session, head, known)))
    put(connection, holdings, HOLDING_COLUMNS, new_holdings)
    new_votes = _votes(session, head.no, held, known, voter)
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


def _already_held(session: Session, head: Row[Any], known: set[int]) -> set[tuple[int, int]]:
    """Return (item, series) that this import holds, or a complete one of the same case under the
    same restrictions and evaluation; the retention that was given first stands."""
    if not known:
        return set()
    same = ("case_ref", "answerable", *_RESTRICTIONS)
    found = (
        select(holdings.c.item, holdings.c.series_no)
        .join(imports, imports.c.no == holdings.c.import_no)
        .where(
            holdings.c.item.in_(select(session.bulk.ids(known).c.value)),
            or_(
                imports.c.no == head.no,
                and_(
                    imports.c.generation.is_not(None),
                    *(imports.c[name] == getattr(head, name) for name in same),
                ),
            ),
        )
    )
    return {(row.item, row.series_no) for row in session.connection.execute(found)}


def _holdings(
    head: Row[Any], held: Sequence[Held], seen: set[tuple[int, int]]
) -> Iterator[tuple[object, ...]]:
    number = head.no
    for item, record, series_no in held:
        key = (item.id, series_no)
        if key in seen:
            continue
        seen.add(key)
        yield (
            number,
            item.id,
            series_no,
            record.victim_identified,
            record.offender_identified,
            record.distributed,
            None if record.submissions is None else _within(record.submissions, _INT63),
            record.baseline,
        )


def _votes(
    session: Session, import_no: int, held: Sequence[Held], known: set[int], voter: str
) -> list[tuple[int, int, int]]:
    numbers: dict[tuple[Vote, ...], list[int]] = {(): []}
    wanted: dict[tuple[int, int], None] = {}
    for item, record, _ in held:
        if record.votes not in numbers:
            numbers[record.votes] = [vote_number(session, voter, vote) for vote in record.votes]
        for number in numbers[record.votes]:
            wanted[(item.id, number)] = None
    if known:
        found = (
            select(votes.c.item, votes.c.vote_no)
            .join(imports, imports.c.no == votes.c.import_no)
            .where(
                votes.c.item.in_(select(session.bulk.ids(known).c.value)),
                or_(imports.c.no == import_no, imports.c.generation.is_not(None)),
            )
        )
        for row in session.connection.execute(found):
            wanted.pop((row.item, row.vote_no), None)
    return [(import_no, item, number) for item, number in wanted]


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
