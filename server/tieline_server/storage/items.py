"""Items and holdings as they count: only what complete imports stand for is ever seen here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, bindparam, delete, func, select, text, update
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Vote
from tieline_client.handling import Handling

from tieline_server.domain.ports import (
    DigestPage,
    Distances,
    HeldUnder,
    HoldingView,
    Ids,
    ItemRow,
    Rows,
    Stats,
)
from tieline_server.storage import resolve, schema, tallies
from tieline_server.storage.aliases import Aliases
from tieline_server.storage.imports import row_handling
from tieline_server.storage.index_changes import record_change
from tieline_server.storage.prepared import Prepared
from tieline_server.storage.resolve import COLUMNS, Values
from tieline_server.storage.schema import (
    holdings,
    import_tallies,
    imports,
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
_ANY_STAGED = _STAGED.limit(1)
_HELD_UNDER = select(imports).where(
    imports.c.no.in_(bindparam("numbers", expanding=True)),
    imports.c.generation.is_not(None),
    imports.c.answerable,
)

_HELD_IN = Prepared(
    lambda _: (
        select(holdings.c.item)
        .join(series_keys, series_keys.c.no == holdings.c.series_no)
        .where(series_keys.c.id == bindparam("of"), holdings.c.series_no > text("0"))
        .limit(1)
    )
)


class Items:
    """`ItemRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def generation(self) -> int:
        """Return the generation of the last change, 0 before the first."""
        return self._session.counter("generation")

    def erasures(self) -> int:
        """Return how often holdings were erased or restricted so far."""
        return self._session.counter("erasure")

    def restricted(self) -> None:
        """Count a restriction, as an erasure is counted."""
        self._session.next("erasure")

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
            .order_by(*item_fills.primary_key.columns)
        )
        return self._page(kind, [columns, fills], limit)

    def held_under(self, numbers: Iterable[int]) -> dict[int, HeldUnder]:
        """Return, of imports by number, those that are complete and answerable."""
        held: dict[int, HeldUnder] = {}
        for chunk in _chunks(sorted(numbers)):
            for row in self._run(_HELD_UNDER, {"numbers": chunk}):
                held[row.no] = HeldUnder(
                    row.id, row_handling(row), row.case_ref, row.agency, row.generation
                )
        return held

    def confirmed(self, kind: DigestKind, ids: Ids, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return for each pair of item and digest whether complete imports alone state it.

        An item that a complete import holds may have been staged first by one that is not.
        """
        sure = np.ones(len(ids), dtype=np.bool_)
        unsure = self._staged_first(ids)
        values = self.values_of(unsure, (kind,)) if unsure else {}
        for at in np.flatnonzero(np.isin(ids, unsure)):
            sure[at] = values.get(int(ids[at]), {}).get(kind) == rows[at].tobytes()
        return sure

    def confirmed_distances(self, ids: Ids, rows: Rows, distances: Distances) -> Distances:
        """Return how far each item is from each asked PDQ hash by what complete imports alone
        state; see `ItemRepository.confirmed_distances`."""
        sure = distances.copy()
        unsure = self._staged_first(ids)
        values = self.values_of(unsure, (DigestKind.PDQ,)) if unsure else {}
        for at in np.flatnonzero(np.isin(ids, unsure)):
            stated = values.get(int(ids[at]), {}).get(DigestKind.PDQ)
            if stated is None:
                sure[at] = 8 * DigestKind.PDQ.width + 1
            else:
                sure[at] = np.bitwise_count(np.frombuffer(stated, dtype=np.uint8) ^ rows[at]).sum()
        return sure

    def _staged_first(self, ids: Ids) -> list[int]:
        """Return those of these items that an import made which does not count yet."""
        if not len(ids) or self._session.connection.scalar(_ANY_STAGED) is None:
            return []
        found: list[int] = []
        for chunk in _chunks(np.unique(ids)):
            staged = select(items.c.id).where(
                self._among(items.c.id, chunk), items.c.import_no.in_(_STAGED)
            )
            found += self._session.connection.scalars(staged)
        return found

    def conflicting(self, ids: Iterable[int]) -> set[int]:
        """Return the items whose MD5 another visible item has with another SHA-1 or SHA-256."""
        wanted = set(ids)
        return self._conflicting(wanted) if wanted else set()

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
        if not self._has_items(series):
            return []
        found = self._series_items(series, since).where(holdings.c.item > after)
        ids = list(self._session.connection.scalars(found.order_by(holdings.c.item).limit(limit)))
        rows: list[ItemRow] = []
        for chunk in _chunks(ids):
            values, given = self.values_of(chunk, tuple(COLUMNS)), self._votes(chunk)
            baseline = self._baseline(series, chunk)
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
                        baseline=baseline.get(item),
                    )
                )
        return rows

    def _baseline(self, series: str, ids: Sequence[int]) -> dict[int, bool]:
        """Return of items whether they were last stated to be baseline in a series."""
        found = (
            select(holdings.c.item, holdings.c.baseline)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .join(imports, imports.c.no == holdings.c.import_no)
            .where(
                holdings.c.item.in_(list(ids)),
                holdings.c.baseline.is_not(None),
                series_keys.c.id == series,
                imports.c.generation.is_not(None),
            )
            .order_by(imports.c.generation)
        )
        return {row.item: row.baseline for row in self._run(found)}

    def ids_of_series(self, series: str) -> Select[Any]:
        """Return the ids of a series' items, to be selected from."""
        return self._series_items(series, 0)

    def count_of_series(self, series: str, since: int = 0) -> int:
        """Return how many items `of_series` would yield."""
        if not self._has_items(series):
            return 0
        found = self._series_items(series, since).subquery()
        return self._session.connection.scalar(select(func.count()).select_from(found)) or 0

    def came_after(self, series: str, at: datetime) -> bool:
        """Whether there are newer items of a series; see `ItemRepository.came_after`."""
        if not self._has_items(series):
            return False
        before = imports.c.completed <= at
        newest = select(func.coalesce(func.max(imports.c.generation), 0)).where(before)
        since = self._session.connection.scalar(newest) or 0
        found = self._series_items(series, since).limit(1)
        return self._session.connection.scalar(found) is not None

    def stats(self) -> Stats:
        """Return counts of what counts."""
        count, scalar = func.count(), self._session.connection.scalar
        sums = (func.coalesce(func.sum(import_tallies.c[name]), 0) for name in tallies.NAMES)
        made = import_tallies.c.import_no.in_(_COMPLETE)
        total, *columns, held, listed = (int(n) for n in self._run(select(*sums).where(made)).one())
        shared = 0
        if scalar(_ANY_STAGED) is not None:
            # An item that is staged, but held by an import that counts, was filled in by that one:
            # fills are few, while what is staged may be tens of millions.
            filled = (
                select(func.count(item_fills.c.item.distinct()))
                .join(items, items.c.id == item_fills.c.item)
                .where(items.c.import_no.in_(_STAGED), item_fills.c.import_no.in_(_COMPLETE))
            )
            shared = scalar(filled) or 0
        return Stats(
            items=total + shared,
            holdings=held,
            series=scalar(select(count).select_from(schema.series)) or 0,
            exclusions=listed,
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
        tallies.add_holdings(self._session, -1, *of_it)
        self._run(delete(holdings).where(*of_it))
        return self.let_go(touched)

    def erase_items(self, ids: Iterable[int]) -> int:
        """Erase items with all their holdings; return how many there were."""
        self._session.lock_items()
        wanted = {int(item) for item in ids}
        for some in _chunks(wanted):
            theirs = self._among(holdings.c.item, some)
            tallies.add_holdings(self._session, -1, theirs)
            self._run(delete(holdings).where(theirs))
        return self.let_go(wanted)

    # --- parts ---

    def let_go(self, touched: set[int]) -> int:
        """Erase those of these items that nobody holds any more, hide what is only staged."""
        gone: set[int] = set()
        hidden: set[int] = set()
        for ids in _chunks(touched):
            exist = set(
                self._session.connection.scalars(
                    select(items.c.id).where(self._among(items.c.id, ids))
                )
            )
            left = select(holdings.c.item).where(self._among(holdings.c.item, ids))
            held = set(self._session.connection.scalars(left))
            counted = left.where(holdings.c.import_no.in_(_COMPLETE))
            gone |= exist - held
            hidden |= held - set(self._session.connection.scalars(counted))
        for ids in _chunks(gone):
            delete_items(self._session, ids)
        tallies.add_items(self._session, hidden, -1)
        for item in hidden:
            self._hide(item)
        tallies.add_items(self._session, hidden, 1)
        if touched:
            self._session.next("generation")
            self._session.next("erasure")
            record_change(self._session, touched=touched, erased=gone | hidden)
        return len(gone)

    def _among(self, column: Any, ids: Sequence[int]) -> Any:
        return column.in_(select(self._session.bulk.ids(ids).c.value))

    def _page(self, kind: DigestKind, sources: Sequence[Select[Any]], limit: int) -> DigestPage:
        """Merge pages of (id, digest) by id; of several digests of an item, the first is taken."""
        bulk, connection = self._session.bulk, self._session.connection
        found = [bulk.digests(connection, one.limit(limit), kind.width) for one in sources]
        ids = np.concatenate([numbers for numbers, _ in found])
        digests = np.concatenate([rows for _, rows in found])
        if (ids[1:] > ids[:-1]).all():
            return DigestPage(kind, ids[:limit], digests[:limit])
        ids, first = np.unique(ids, return_index=True)
        # Several imports may fill in one item: items after a full source's last wait for the next.
        ends = [numbers[-1] for numbers, _ in found if len(numbers) == limit]
        limit = min([limit, *np.searchsorted(ids, ends, side="right").tolist()])
        return DigestPage(kind, ids[:limit], digests[first[:limit]])

    def _has_items(self, series: str) -> bool:
        """Whether anything is held in a series; many a series is words alone."""
        parts = Aliases(self._session).own_parts(series)
        return any(_HELD_IN.run(self._session, {"of": part}).fetchone() for part in parts)

    def _series_items(self, series: str, since: int) -> Select[Any]:
        return (
            select(holdings.c.item)
            .join(imports, imports.c.no == holdings.c.import_no)
            .join(series_keys, series_keys.c.no == holdings.c.series_no)
            .where(
                series_keys.c.id.in_(Aliases(self._session).own_parts(series)),
                holdings.c.series_no > 0,
                imports.c.generation.is_not(None),
            )
            .group_by(holdings.c.item)
            .having(func.min(imports.c.generation) > since)
        )

    def values_of(self, ids: Sequence[int], kinds: Sequence[int]) -> dict[int, Values]:
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
            i: v for i, v in self.values_of(sorted(ids), resolve.EXACT).items() if resolve.MD5 in v
        }
        if not own:
            return set()
        md5s = sorted({values[resolve.MD5] for values in own.values()})
        rows = np.frombuffer(b"".join(md5s), dtype=np.uint8).reshape(len(md5s), -1)
        sharing = self._session.feed.candidates(self._session, DigestKind.MD5, rows)[1]
        others = set(sharing.tolist()) - own.keys()
        contents: dict[tuple[bytes, int], set[bytes]] = {}
        for values in [*own.values(), *self.values_of(sorted(others), resolve.EXACT).values()]:
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
            for kind, value in self.values_of([item], tuple(COLUMNS)).get(item, {}).items()
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
