"""Items and holdings as they count: only what complete imports stand for is ever seen here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Select, delete, func, select, update
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Vote
from tieline_client.handling import Handling

from tieline_server.domain.ports import Change, DigestPage, HoldingView, ItemRow, Stats
from tieline_server.storage import resolve, schema
from tieline_server.storage.imports import record_change, row_handling
from tieline_server.storage.resolve import COLUMNS, Values
from tieline_server.storage.schema import (
    holdings,
    imports,
    item_changes,
    item_fills,
    items,
    series_keys,
    vote_kinds,
    votes,
)
from tieline_server.storage.session import Session
from tieline_server.storage.uniting import delete_items

CHUNK = 10_000
"""Items looked up in one statement."""

_COMPLETE = select(imports.c.no).where(imports.c.generation.is_not(None))
_STAGED = select(imports.c.no).where(imports.c.generation.is_(None))


class Items:
    """`ItemRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def generation(self) -> int:
        """Return the generation of the last change, 0 before the first."""
        return self._session.counter("generation")

    def changes(self, after: int) -> list[Change]:
        """Return what changed after a generation, in order."""
        found = select(item_changes).where(item_changes.c.generation > after)
        return [
            Change(
                row.generation,
                row.import_id,
                tuple(np.frombuffer(row.erased, dtype="<i8").tolist()),
            )
            for row in self._run(found.order_by(item_changes.c.generation))
        ]

    def digests(self, kind: DigestKind, after: int, limit: int) -> DigestPage:
        """Return a page of the digests of all visible items; see `ItemRepository.digests`."""
        digest = items.c[COLUMNS[kind]]
        columns = (
            select(items.c.id, digest)
            .where(items.c.id > after, digest.is_not(None), items.c.import_no.not_in(_STAGED))
            .order_by(items.c.id)
        )
        fills = (
            select(item_fills.c.item, item_fills.c.value)
            .where(
                item_fills.c.item > after,
                item_fills.c.kind + 0 == kind,  # by item, in order: not by the index of values
                item_fills.c.import_no.not_in(_STAGED),
            )
            .order_by(item_fills.c.item)
        )
        return self._page(kind, [columns, fills], limit)

    def import_digests(
        self, import_id: str, kind: DigestKind, after: int, limit: int
    ) -> DigestPage:
        """Return a page of the digests that an import holds or filled in; none until complete."""
        number = self._session.connection.scalar(
            select(imports.c.no).where(imports.c.id == import_id, imports.c.generation.is_not(None))
        )
        if number is None:
            return self._page(kind, [], limit)
        digest = items.c[COLUMNS[kind]]
        mine = item_fills.alias("mine")
        sources: list[Select[Any]] = []
        for item, own in ((holdings.c.item, holdings), (mine.c.item, mine)):
            touched = (own.c.import_no == number, item > after)
            sources.append(
                select(item, digest)
                .join(items, items.c.id == item)
                .where(*touched, digest.is_not(None), items.c.import_no.not_in(_STAGED))
                .distinct()
                .order_by(item)
            )
            sources.append(
                select(item, item_fills.c.value)
                .join(item_fills, item_fills.c.item == item)
                .where(*touched, item_fills.c.kind == kind, item_fills.c.import_no.in_(_COMPLETE))
                .distinct()
                .order_by(item)
            )
        return self._page(kind, sources, limit)

    def holdings(
        self, items: Sequence[int], *, answerable_only: bool, flag_conflicts: bool = True
    ) -> list[HoldingView]:
        """Return the holdings of these items; see `ItemRepository.holdings`."""
        views: list[HoldingView] = []
        heads: dict[int, tuple[str, Handling]] = {}
        names: dict[int, str] = {0: ""}
        for ids in _chunks(items):
            c = holdings.c
            found = (
                select(c.item, c.import_no, c.series_no)
                .join(imports, imports.c.no == c.import_no)
                .where(self._among(c.item, ids), imports.c.generation.is_not(None))
                .order_by(c.item, c.import_no, c.series_no)
            )
            if answerable_only:
                found = found.where(imports.c.answerable)
            rows = [(row[0], row[1], row[2] or 0) for row in self._run(found).all()]
            self._learn_heads(heads, {number for _, number, _ in rows})
            self._learn_names(names, {number for _, _, number in rows})
            flagged = self._conflicting({row[0] for row in rows}) if flag_conflicts else set()
            for item, import_no, series_no in rows:
                import_id, handling = heads[import_no]
                views.append(
                    HoldingView(item, names[series_no], handling, import_id, item in flagged)
                )
        return views

    def _learn_heads(self, heads: dict[int, tuple[str, Handling]], wanted: set[int]) -> None:
        """Look up imports, of which there are few, once each."""
        missing = sorted(wanted - heads.keys())
        if missing:
            for row in self._run(select(imports).where(self._among(imports.c.no, missing))):
                heads[row.no] = (row.id, row_handling(row))

    def _learn_names(self, names: dict[int, str], wanted: set[int]) -> None:
        missing = sorted(wanted - names.keys())
        if missing:
            c = series_keys.c
            for row in self._run(select(c.no, c.id).where(self._among(c.no, missing))):
                names[row.no] = row.id

    def of_series(self, series: str, *, after: int, limit: int, since: int = 0) -> list[ItemRow]:
        """Return items of a series by id; see `ItemRepository.of_series`."""
        found = self._series_items(series, since).where(holdings.c.item > after)
        ids = list(self._session.connection.scalars(found.order_by(holdings.c.item).limit(limit)))
        rows: list[ItemRow] = []
        for chunk in _chunks(ids):
            values, given = self._values(chunk, tuple(COLUMNS)), self._votes(chunk)
            for item in chunk:
                one = values.get(item, {})
                rows.append(
                    ItemRow(
                        id=item,
                        md5=one.get(resolve.MD5),
                        sha1=one.get(resolve.SHA1),
                        sha256=one.get(resolve.SHA256),
                        pdq=one.get(resolve.PDQ),
                        media_type=one.get(resolve.MEDIA_TYPE, b"").decode(),
                        votes=tuple(given.get(item, ())),
                    )
                )
        return rows

    def count_of_series(self, series: str, since: int = 0) -> int:
        """Return how many items `of_series` would yield."""
        found = self._series_items(series, since).subquery()
        return self._session.connection.scalar(select(func.count()).select_from(found)) or 0

    def stats(self) -> Stats:
        """Return counts of what counts."""
        count, scalar = func.count(), self._session.connection.scalar
        kinds = [items.c[COLUMNS[kind]] for kind in DigestKind]
        whole = select(count, *(func.count(c) for c in kinds)).where(
            items.c.import_no.not_in(_STAGED)
        )
        total, *columns = list(self._run(whole).one())
        shared = (
            select(func.count(holdings.c.item.distinct()))
            .join(items, items.c.id == holdings.c.item)
            .where(items.c.import_no.in_(_STAGED), holdings.c.import_no.in_(_COMPLETE))
        )
        held = select(count).select_from(holdings).where(holdings.c.import_no.in_(_COMPLETE))
        listed = (
            select(schema.exclusions.c.kind, schema.exclusions.c.digest)
            .where(schema.exclusions.c.import_no.in_(_COMPLETE))
            .distinct()
            .subquery()
        )
        return Stats(
            items=total + (scalar(shared) or 0),
            holdings=scalar(held) or 0,
            series=scalar(select(count).select_from(schema.series)) or 0,
            exclusions=scalar(select(count).select_from(listed)) or 0,
            by_kind={
                kind.label: number + self._filled(kind)
                for kind, number in zip(DigestKind, columns, strict=True)
            },
            generation=self.generation(),
        )

    def erase_series(self, series: str) -> int:
        """Erase a series' holdings and the items that only it held; return how many items.

        Items that only a staged import still holds vanish from the indexes, too, until it counts.
        """
        self._session.lock_items()
        number = self._session.connection.scalar(
            select(series_keys.c.no).where(series_keys.c.id == series)
        )
        if number is None:
            return 0
        of_it = (holdings.c.series_no == number, holdings.c.series_no > 0)
        touched = set(self._session.connection.scalars(select(holdings.c.item).where(*of_it)))
        self._run(delete(holdings).where(*of_it))
        gone: set[int] = set()
        hidden: set[int] = set()
        for ids in _chunks(touched):
            left = select(holdings.c.item).where(self._among(holdings.c.item, ids))
            held = set(self._session.connection.scalars(left))
            counted = left.where(holdings.c.import_no.in_(_COMPLETE))
            gone |= set(ids) - held
            hidden |= held - set(self._session.connection.scalars(counted))
        for ids in _chunks(gone):
            delete_items(self._session, ids)
        for item in hidden:
            self._hide(item)
        if gone or hidden:
            generation = self._session.next("generation")
            record_change(self._session, generation, "", sorted(gone | hidden))
        return len(gone)

    # --- parts ---

    def _among(self, column: Any, ids: Sequence[int]) -> Any:
        return column.in_(select(self._session.bulk.ids(ids).c.value))

    def _page(self, kind: DigestKind, sources: Sequence[Select[Any]], limit: int) -> DigestPage:
        """Merge pages of (id, digest) by id; an item has one digest of a kind."""
        rows: list[Any] = []
        for source in sources:
            rows += self._run(source.limit(limit)).all()
        ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
        packed = b"".join([row[1] for row in rows])
        digests = np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)
        ids, first = np.unique(ids, return_index=True)
        return DigestPage(kind, ids[:limit], digests[first[:limit]])

    def _series_items(self, series: str, since: int) -> Select[Any]:
        return (
            select(holdings.c.item)
            .join(imports, imports.c.no == holdings.c.import_no)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .where(
                series_keys.c.id == series,
                holdings.c.series_no > 0,
                imports.c.generation.is_not(None),
            )
            .group_by(holdings.c.item)
            .having(func.min(imports.c.generation) > since)
        )

    def _values(self, ids: Sequence[int], kinds: Sequence[int]) -> dict[int, Values]:
        """Return what complete imports state of items, by kind."""
        found: dict[int, Values] = {}
        columns = select(items).where(
            self._among(items.c.id, ids), items.c.import_no.not_in(_STAGED)
        )
        for row in self._run(columns):
            values = found.setdefault(row.id, {})
            for kind in kinds:
                value = getattr(row, COLUMNS[kind])
                if value is not None:
                    values[kind] = value.encode() if kind == resolve.MEDIA_TYPE else value
        fills = (
            select(item_fills)
            .where(
                self._among(item_fills.c.item, ids),
                item_fills.c.kind.in_(kinds),
                item_fills.c.import_no.in_(_COMPLETE),
            )
            .order_by(*item_fills.primary_key.columns)
        )
        for row in self._run(fills):
            found.setdefault(row.item, {}).setdefault(row.kind, row.value)
        return found

    def _votes(self, ids: Sequence[int]) -> dict[int, list[tuple[str, Vote]]]:
        found = (
            select(votes.c.item, vote_kinds.c.agency, vote_kinds.c.scheme, vote_kinds.c.code)
            .join(vote_kinds, vote_kinds.c.no == votes.c.vote_no)
            .where(self._among(votes.c.item, ids), votes.c.import_no.in_(_COMPLETE))
            .distinct()
            .order_by(votes.c.item, vote_kinds.c.agency, vote_kinds.c.scheme, vote_kinds.c.code)
        )
        given: dict[int, list[tuple[str, Vote]]] = {}
        for row in self._run(found):
            given.setdefault(row.item, []).append((row.agency, Vote(row.scheme, row.code)))
        return given

    def _conflicting(self, ids: set[int]) -> set[int]:
        """Return the items whose MD5 another visible item has with another SHA-1 or SHA-256."""
        own = {
            i: v for i, v in self._values(sorted(ids), resolve.EXACT).items() if resolve.MD5 in v
        }
        md5s = sorted({values[resolve.MD5] for values in own.values()})
        match, connection = self._session.bulk.match, self._session.connection
        sharing = match(connection, items.c.md5, items.c.id, md5s) + match(
            connection,
            item_fills.c.value,
            item_fills.c.item,
            md5s,
            item_fills.c.kind == resolve.MD5,
        )
        others = {item for _, item in sharing} - own.keys()
        contents: dict[tuple[bytes, int], set[bytes]] = {}
        for values in [*own.values(), *self._values(sorted(others), resolve.EXACT).values()]:
            for kind in (resolve.SHA1, resolve.SHA256):
                if resolve.MD5 in values and kind in values:
                    contents.setdefault((values[resolve.MD5], kind), set()).add(values[kind])
        return {
            item
            for item, values in own.items()
            if any(
                kind in values and len(contents[(values[resolve.MD5], kind)]) > 1
                for kind in (resolve.SHA1, resolve.SHA256)
            )
        }

    def _filled(self, kind: DigestKind) -> int:
        """Count visible items that have this kind of digest by a fill alone."""
        found = (
            select(func.count(item_fills.c.item.distinct()))
            .join(items, items.c.id == item_fills.c.item)
            .where(
                item_fills.c.kind == kind,
                item_fills.c.import_no.in_(_COMPLETE),
                items.c.import_no.in_(_STAGED) | items.c[COLUMNS[kind]].is_(None),
            )
        )
        return self._session.connection.scalar(found) or 0

    def _hide(self, item: int) -> None:
        """Hand an item to the staged import that alone holds it, with all that is known of it."""
        values: dict[str, object] = {
            COLUMNS[kind]: value.decode() if kind == resolve.MEDIA_TYPE else value
            for kind, value in self._values([item], tuple(COLUMNS)).get(item, {}).items()
        }
        heir = select(func.min(holdings.c.import_no)).where(holdings.c.item == item)
        values["import_no"] = self._session.connection.scalar(heir)
        self._run(update(items).where(items.c.id == item).values(**values))
        of_complete = item_fills.c.import_no.in_(_COMPLETE)
        self._run(delete(item_fills).where(item_fills.c.item == item, of_complete))


def _chunks(values: Iterable[int]) -> Iterator[list[int]]:
    ordered = [int(value) for value in values]
    for start in range(0, len(ordered), CHUNK):
        yield ordered[start : start + CHUNK]
