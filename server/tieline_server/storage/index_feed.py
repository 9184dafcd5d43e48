"""The index follows storage: every change of items is numbered, and told to it once committed.

A change says which items are new, which were touched and which are gone; whoever replays it reads
what storage says of them now, so that replaying twice, or late, ends in the same state. The index
holds the digests of all items, staged ones too, since staging finds known items by it; fills only
of complete imports. Who may see what is decided by holdings (items.py), not by the index.

1. A transaction that changes items records its change under the next number.
2. SQLite: after the commit the one writer tells the index, before the next work runs.
   PostgreSQL: whoever looks next, in any process, replays what came since.
3. A node that starts replays erasures first, then the rest in the background, and answers from the
   snapshot meanwhile. Without a usable snapshot the index is rebuilt, and nothing answers before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import Select, insert, select
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable

from tieline_server.domain.ports import HoldingSet, Ids, Matching, Rows
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import holdings, imports, item_changes, item_fills, items

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

Digests = dict[DigestKind, tuple[Ids, Rows]]

PAGE = 100_000
"""Items read at once while changes are replayed or the index is rebuilt."""
CHANGES_AT_ONCE = 200
LOCK_SECONDS = 10.0
PATIENCE_SECONDS = 2.0
"""How long a start waits for its index to catch up, and a question for one that is being rebuilt;
a small one is done by then."""
AT_ONCE = 50
"""Changes that are replayed while somebody waits; more are replayed in the background."""
_COMPLETE = select(imports.c.no).where(imports.c.generation.is_not(None))


@dataclass(frozen=True, slots=True)
class Change:
    """One numbered change. Items [first, last] are new; ``import_no`` is an import that became
    complete; ``generation`` is storage's after it. ``fresh`` and ``held`` repeat what the new items
    state, so that it need not be read back: digests by kind, and holding sets by item."""

    no: int
    generation: int
    first: int = 0
    last: int = -1
    import_no: int = 0
    touched: tuple[int, ...] = ()
    erased: tuple[int, ...] = ()
    fresh: Digests | None = field(default=None, compare=False, repr=False)
    held: tuple[Ids, list[HoldingSet]] | None = field(default=None, compare=False, repr=False)


def record_change(
    session: Session,
    *,
    new: tuple[int, int] = (0, -1),
    import_no: int = 0,
    touched: Iterable[int] = (),
    erased: Iterable[int] = (),
    fresh: Digests | None = None,
    held: tuple[Ids, list[HoldingSet]] | None = None,
) -> None:
    """Number a change of this transaction and keep it. ``erased`` are gone, or hold less."""
    change = Change(
        no=session.next("change"),
        generation=session.counter("generation"),
        first=new[0],
        last=new[1],
        import_no=import_no,
        touched=tuple(sorted(touched)),
        erased=tuple(sorted(erased)),
        fresh=fresh,
        held=held,
    )
    row = {
        "no": change.no,
        "generation": change.generation,
        "first": change.first,
        "last": change.last,
        "import_no": change.import_no,
        "touched": _packed(change.touched),
        "erased": _packed(change.erased),
    }
    session.connection.execute(insert(item_changes).values(**row))
    session.uncommitted.append(change)


def changes_after(session: Session, after: int, limit: int = CHANGES_AT_ONCE) -> list[Change]:
    """Return committed changes after a number, in order."""
    found = select(item_changes).where(item_changes.c.no > after)
    return [
        Change(
            row.no,
            row.generation,
            row.first,
            row.last,
            row.import_no,
            _unpacked(row.touched),
            _unpacked(row.erased),
        )
        for row in session.connection.execute(found.order_by(item_changes.c.no).limit(limit))
    ]


class IndexFeed:
    """Keeps one index in step with one store. Any thread may call."""

    def __init__(
        self,
        matching: Matching | None,
        read: Callable[[Callable[[Session], Any]], Any],
        *,
        alone: bool,
    ) -> None:
        """``alone``: every change of this database comes through `committed`, so that an index
        which has caught up once stays so without looking."""
        self._matching, self._read, self._alone = matching, read, alone
        self._told = -1
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._generation = 0
        self._known = False
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.failure: str | None = None

    @property
    def matching(self) -> Matching:
        """The index. Raises StorageUnavailable where the store was opened without one."""
        if self._matching is None:
            raise StorageUnavailable("the database was opened without an index; start the node")
        return self._matching

    # --- reading -------------------------------------------------------------------------------

    def refresh(self, *, wait: bool = False) -> int:
        """Bring the index up to what is committed; return the generation that it reflects.

        While a start's catch-up runs, returns what it has reached unless told to ``wait``. Raises
        StorageUnavailable while the index is being rebuilt.
        """
        if self._alone and self._told == self.matching.applied:
            return self._generation
        behind = self._behind()
        if not behind:
            with self._lock:
                if not self._behind():
                    self._told = self.matching.applied
            return self._generation
        if wait or (not self._lost(behind) and self._thread is None):
            with self._lock:
                self._replay()
        elif self._lost(behind):
            self._begin().join(PATIENCE_SECONDS)
            if self._lost(self._behind()):
                raise _not_ready()
        return self._generation

    def reflected(self) -> int:
        """Return the generation that answers reflect at this moment."""
        return self._generation

    def stored(self) -> int:
        """Return the generation of what is committed."""
        return int(self._read(lambda session: session.counter("generation")))

    def ready(self, session: Session) -> None:
        """Make sure, inside a transaction that changes items, that the index knows all before it.

        Raises StorageUnavailable while that takes long; the caller tries again later.
        """
        own = session.uncommitted
        upto = own[0].no - 1 if own else session.counter("change")
        behind = upto - self.matching.applied
        if behind <= 0:
            return
        if behind > AT_ONCE:
            self._begin()
        if self._thread is not None or not self._lock.acquire(timeout=LOCK_SECONDS):
            raise _not_ready()
        try:
            for change in changes_after(session, self.matching.applied):
                if change.no <= upto:
                    self._apply(session, change)
        finally:
            self._lock.release()

    def candidates(self, session: Session, kind: DigestKind, rows: Rows) -> tuple[Ids, Ids]:
        """Return (position in ``rows``, item id) of items that may have these digests: those the
        index knows, and those that this transaction and others of its group brought."""
        found = self.matching.exact(kind, rows)
        positions, ids = [found.positions], [found.item_ids]
        for change in session.uncommitted:
            if change.fresh and kind in change.fresh:
                here, owners = _equal(rows, *change.fresh[kind])
                positions.append(here)
                ids.append(owners)
        return np.concatenate(positions), np.concatenate(ids)

    # --- following -----------------------------------------------------------------------------

    def committed(self, session: Session, changes: Sequence[Change]) -> None:
        """Tell the index of changes that were just committed, in order (SQLite's writer)."""
        if not changes or self._matching is None:
            return
        self._told = -1  # until all is applied, whoever asks has to look
        if self._thread is not None or not self._lock.acquire(timeout=LOCK_SECONDS):
            return  # whoever holds it is catching up and will come to these
        try:
            for change in changes:
                if change.no == self.matching.applied + 1:
                    self._apply(session, change)
            if changes[-1].no == self.matching.applied:
                self._told = self.matching.applied
        finally:
            self._lock.release()
        self.matching.merge_if_due()

    def start(self) -> None:
        """Make a starting node's index usable: erasures at once, the rest meanwhile."""
        behind = self._behind()
        if behind and not self._lost(behind):
            self._read(self._apply_erasures)
        if behind <= AT_ONCE:
            self.refresh(wait=True)
        else:
            self._begin().join(PATIENCE_SECONDS)

    def close(self) -> None:
        """End a catch-up that is under way."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _begin(self) -> threading.Thread:
        """Catch up, or rebuild, in the background."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._catch_up, name="index-catch-up", daemon=True
                )
                self._thread.start()
            return self._thread

    def _catch_up(self) -> None:
        try:
            with self._lock:
                self._replay()
            self.failure = None
        except Exception as error:  # noqa: BLE001 - the next question tries again and is told
            self.failure = str(error)
        finally:
            self._thread = None

    def _behind(self) -> int:
        """Return how many changes the index has not applied."""
        current = self._read(lambda session: session.counter("change"))
        if not self._known:
            self._generation = max(self._generation, self._read(self._generation_at))
            self._known = True
        return max(int(current) - self.matching.applied, 0)

    def _lost(self, behind: int) -> bool:
        """Whether there is no index to speak of: more is missing than a replay is good for."""
        return not self.matching.applied and behind > AT_ONCE

    def _generation_at(self, session: Session) -> int:
        found = select(item_changes.c.generation).where(item_changes.c.no <= self.matching.applied)
        last = found.order_by(item_changes.c.no.desc()).limit(1)
        return int(session.connection.scalar(last) or 0)

    def _replay(self) -> None:
        if self._lost(self._behind()):
            self._rebuild()
            self._generation = self._read(self._generation_at)
        while not self._closing.is_set():
            changes = self._read(lambda s: changes_after(s, self.matching.applied))
            if not changes:
                break
            for change in changes:
                self._read(lambda session, one=change: self._apply(session, one))  # type: ignore[misc]
                if self._closing.is_set():
                    return
            self.matching.merge_if_due()
            self.matching.wait_for_room()

    def _apply(self, session: Session, change: Change) -> None:
        matching = self.matching
        if change.erased:
            matching.erase(np.asarray(change.erased, dtype=np.int64))
        if change.fresh is not None and change.held is not None:
            for kind, (ids, rows) in change.fresh.items():
                matching.add(kind, ids, rows)
            ids, sets = change.held
            self._hold(ids, sets)
        else:
            for start in range(change.first, change.last + 1, PAGE):
                _index_range(session, matching, start, min(start + PAGE - 1, change.last))
        touched = sorted({*change.touched, *change.erased})
        for at in range(0, len(touched), PAGE):
            self._reread(session, touched[at : at + PAGE])
        if change.import_no:
            _index_fills(session, matching, change.import_no)
        matching.set_applied(change.no)
        self._generation = max(self._generation, change.generation)

    def _apply_erasures(self, session: Session) -> None:
        """Take out at once what later changes erased; replaying the rest comes to the same."""
        found = select(item_changes.c.erased).where(
            item_changes.c.no > self.matching.applied, item_changes.c.erased != b""
        )
        for packed in session.connection.scalars(found):
            erased = list(_unpacked(packed))
            self.matching.erase(np.asarray(erased, dtype=np.int64))
            self._reread(session, erased)

    def _reread(self, session: Session, ids: Sequence[int]) -> None:
        """Index what storage says now of these items, under what it holds them now."""
        wanted = select(session.bulk.ids(ids).c.value)
        columns = (items.c[COLUMNS[kind]] for kind in DigestKind)
        rows = session.connection.execute(
            select(items.c.id, *columns).where(items.c.id.in_(wanted))
        ).all()
        for kind, column in zip(DigestKind, range(1, 5), strict=True):
            _add(self.matching, kind, [(row[0], row[column]) for row in rows if row[column]])
        fills = select(item_fills.c.kind, item_fills.c.item, item_fills.c.value).where(
            item_fills.c.item.in_(wanted), item_fills.c.import_no.in_(_COMPLETE)
        )
        _add_fills(self.matching, session.connection.execute(fills).all())
        held = (
            select(holdings.c.item, holdings.c.import_no, holdings.c.series_no)
            .where(holdings.c.item.in_(wanted))
            .order_by(holdings.c.item, holdings.c.import_no, holdings.c.series_no)
        )
        sets: dict[int, HoldingSet] = dict.fromkeys(ids, ())
        sets.update(_sets(session.connection.execute(held)))
        self._hold(np.asarray(list(sets), dtype=np.int64), list(sets.values()))

    def _hold(self, ids: Ids, sets: Sequence[HoldingSet]) -> None:
        hold(self.matching, ids, sets)

    def _rebuild(self) -> None:
        """Make the index anew in pages, each a short read; what changes meanwhile is replayed."""
        upto = self._read(lambda session: session.counter("change"))
        last = self._read(lambda session: session.counter("item"))

        def source() -> Iterator[tuple[DigestKind, Ids, Rows]]:
            for start in range(1, last + 1, PAGE):
                if self._closing.is_set():
                    raise _not_ready()
                end = min(start + PAGE - 1, last)
                yield from self._read(lambda s, a=start, b=end: _range(s, a, b))  # type: ignore[misc]
                held = self._read(lambda s, a=start, b=end: _held(s, a, b))  # type: ignore[misc]
                self._hold(*held)
                fills = self._read(lambda s, a=start, b=end: _fills(s, a, b))  # type: ignore[misc]
                yield from fills

        self.matching.rebuild(source(), upto)


def hold(matching: Matching, ids: Ids, sets: Sequence[HoldingSet]) -> None:
    """Tell the index under what items are held; sets repeat, so each is looked up once."""
    places: dict[HoldingSet, int] = {}
    at = np.fromiter(
        (places.setdefault(one, len(places)) for one in sets), dtype=np.int64, count=len(sets)
    )
    if len(at):
        matching.hold(ids, matching.holding_numbers(places)[at])


def _range(session: Session, first: int, last: int) -> list[tuple[DigestKind, Ids, Rows]]:
    columns = (items.c[COLUMNS[kind]] for kind in DigestKind)
    found = session.connection.execute(
        select(items.c.id, *columns).where(items.c.id.between(first, last)).order_by(items.c.id)
    ).all()
    pages = []
    for column, kind in enumerate(DigestKind, 1):
        pairs = [(row[0], row[column]) for row in found if row[column] is not None]
        if pairs:
            pages.append((kind, *pair_arrays(kind, pairs)))
    return pages


def _fills(session: Session, first: int, last: int) -> list[tuple[DigestKind, Ids, Rows]]:
    found = session.connection.execute(
        select(item_fills.c.kind, item_fills.c.item, item_fills.c.value).where(
            item_fills.c.item.between(first, last), item_fills.c.import_no.in_(_COMPLETE)
        )
    ).all()
    return [(kind, *pair_arrays(kind, pairs)) for kind, pairs in _by_kind(found).items()]


def _held(session: Session, first: int, last: int) -> tuple[Ids, list[HoldingSet]]:
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


def _index_range(session: Session, matching: Matching, first: int, last: int) -> None:
    for kind, ids, rows in _range(session, first, last):
        matching.add(kind, ids, rows)
    hold(matching, *_held(session, first, last))


def _index_fills(session: Session, matching: Matching, import_no: int) -> None:
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
        _add(matching, kind, pairs)


def _by_kind(rows: Iterable[Sequence[object]]) -> dict[DigestKind, list[tuple[int, bytes]]]:
    found: dict[DigestKind, list[tuple[int, bytes]]] = {}
    kinds = set(DigestKind)
    for kind, item, value in rows:
        if kind in kinds:
            found.setdefault(DigestKind(kind), []).append((item, value))  # type: ignore[arg-type]
    return found


def _add(matching: Matching, kind: DigestKind, pairs: Sequence[tuple[int, bytes]]) -> None:
    if pairs:
        matching.add(kind, *pair_arrays(kind, pairs))


def pair_arrays(kind: DigestKind, pairs: Sequence[tuple[int, bytes]]) -> tuple[Ids, Rows]:
    """Return (id, digest) pairs as ids (n,) and rows (n, width)."""
    ids = np.fromiter((item for item, _ in pairs), dtype=np.int64, count=len(pairs))
    packed = b"".join([value for _, value in pairs])
    return ids, np.frombuffer(packed, dtype=np.uint8).reshape(-1, kind.width)


def _equal(rows: Rows, ids: Ids, digests: Rows) -> tuple[Ids, Ids]:
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


def _packed(ids: Sequence[int]) -> bytes:
    return np.asarray(ids, dtype="<i8").tobytes()


def _unpacked(packed: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(packed, dtype="<i8").tolist())


def _not_ready() -> StorageUnavailable:
    return StorageUnavailable(
        "the index is being brought up to date; `tieline node status` says how far it is; try again"
    )
