"""Staging a batch of records: load what they touch, resolve, write.

1. Check the records' widths and sizes.
2. Find the items that share a digest with any of them: by the index, and among staged fills.
3. Load those items whole, with what is staged by other imports marked as not solid.
4. Resolve record by record (resolve.py).
5. Write new items, fills, links, holdings and votes, leaving out what complete imports have.

Nothing of it counts until the import is complete: every row carries the import's number.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from sqlalchemy import Row, and_, insert, or_, select
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, InvalidInput, LimitExceeded
from tieline_client.formats.record import Record, Vote
from tieline_client.limits import RECORDS_PER_STAGE_TRANSACTION

from tieline_server.domain.ports import StageCounts
from tieline_server.storage import resolve, tallies
from tieline_server.storage.index_changes import Digests, record_change
from tieline_server.storage.index_reading import pair_arrays
from tieline_server.storage.resolve import (
    COLUMNS,
    EXACT,
    MD5,
    MEDIA_TYPE,
    PDQ,
    PERCEPTUAL,
    PHOTODNA,
    SHA1,
    SHA256,
    Item,
    Resolver,
    Values,
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
from tieline_server.storage.types import storable

PHOTODNA_BYTES = 144
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


def stage(
    session: Session,
    head: Row[Any],
    records: Sequence[Record],
    series: Sequence[str | None],
    voter: str,
    number: Callable[[Sequence[int]], Sequence[int]] | None = None,
) -> StageCounts:
    """Stage records under the import whose row is ``head``; see `ImportRepository.stage`.

    ``number`` gives out the ids of new items: it is told, ascending, the indexes of the records
    that made them.
    """
    if len(records) > RECORDS_PER_STAGE_TRANSACTION:
        raise LimitExceeded(
            f"{len(records)} records in one batch; at most {RECORDS_PER_STAGE_TRANSACTION}"
        )
    if len(series) != len(records):
        raise InvalidInput(f"{len(records)} records came with {len(series)} series")
    stated = [values_of(record) for record in records]
    first = session.counter("item") + 1
    resolver = Resolver(_load(session, head.no, stated), first)
    numbers = key_numbers(session, {one for one in series if one is not None})
    conflicts = 0
    resolved: list[Item] = []
    makers: list[int] = []
    for index, values in enumerate(stated):
        item, made, conflict = resolver.resolve(values)
        conflicts += conflict
        resolved.append(item)
        if made:
            makers.append(index)
    _number(session, resolver, makers, number)
    placed = [0 if one is None else numbers[one] for one in series]
    held = [
        (item.final(), record, number)
        for item, record, number in zip(resolved, records, placed, strict=True)
    ]
    new = _write(session, head, resolver, held, voter)
    return StageCounts(new=new, known=len(records) - new, conflicts=conflicts)


def _number(
    session: Session,
    resolver: Resolver,
    makers: Sequence[int],
    number: Callable[[Sequence[int]], Sequence[int]] | None,
) -> None:
    """Give new items their ids; those of `Resolver` only say which came first."""
    kept = [
        (item, index)
        for item, index in zip(resolver.created, makers, strict=True)
        if item.into is None
    ]
    if not kept:
        return
    if number is None:
        first = session.next("item", len(kept))
        ids: Sequence[int] = range(first, first + len(kept))
    else:
        ids = number([index for _, index in kept])
    for (item, _), one in zip(kept, ids, strict=True):
        item.id = one


def values_of(record: Record) -> Values:
    """Return a record's digests by kind, with its media type. Raises InvalidDigest."""
    values: Values = {}
    md5, sha1, sha256 = record.md5, record.sha1, record.sha256
    if md5 is not None:
        values[MD5] = md5 if len(md5) == 16 else _wrong(record, MD5, md5)
    if sha1 is not None:
        values[SHA1] = sha1 if len(sha1) == 20 else _wrong(record, SHA1, sha1)
    if sha256 is not None:
        values[SHA256] = sha256 if len(sha256) == 32 else _wrong(record, SHA256, sha256)
    if record.pdq is not None:
        values[PDQ] = record.pdq if len(record.pdq) == 32 else _wrong(record, PDQ, record.pdq)
    if record.photodna is not None:
        photodna = record.photodna
        wide = len(photodna) == PHOTODNA_BYTES
        values[PHOTODNA] = photodna if wide else _wrong(record, PHOTODNA, photodna)
    if not values:
        raise InvalidDigest(f"record {record.number} has no digest")
    if record.media_type:
        values[MEDIA_TYPE] = storable(record.media_type).encode()
    return values


def _wrong(record: Record, kind: int, value: bytes) -> NoReturn:
    raise InvalidDigest(
        f"record {record.number}: {COLUMNS[kind]} has {len(value)} bytes, which no such digest has"
    )


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


def _load(session: Session, own: int, stated: Sequence[Values]) -> list[Item]:
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


def _write(
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
