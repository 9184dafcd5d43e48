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
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy import select
from tieline_client.digests import DigestKind
from tieline_client.errors import StorageUnavailable

from tieline_server.domain.ports import Ids, Matching, Rows
from tieline_server.storage.index_changes import Change, changes_after, unpacked
from tieline_server.storage.index_reading import (
    PAGE,
    digest_range,
    equal_digests,
    fill_range,
    held_range,
    hold,
    index_fills,
    index_items,
    index_range,
)
from tieline_server.storage.schema import item_changes

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

LOCK_SECONDS = 10.0
PATIENCE_SECONDS = 2.0
"""How long a start waits for its index to catch up, and a question for one that is being rebuilt;
a small one is done by then."""
AT_ONCE = 50
"""Changes that are replayed while somebody waits; more are replayed in the background."""


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
            if self._alone:
                self._note_whole()
            return self._generation
        if wait or (not self._lost(behind) and self._thread is None):
            with self._lock:
                self._replay()
        elif self._lost(behind):
            self._begin().join(PATIENCE_SECONDS)
            if self._lost(self._behind()):
                raise _not_ready()
        return self._generation

    def _note_whole(self) -> None:
        """Note that the index has all, so that nobody needs to look until the next commit."""
        with self._lock:
            if not self._behind():
                self._told = self.matching.applied
                if self._behind():  # committed since, and `committed` left it to whoever looks
                    self._told = -1

    def catch_up(self) -> None:
        """Return once the index has what other processes committed, however much that is.

        Raises StorageUnavailable while the index is being rebuilt.
        """
        self.refresh()  # not while it is rebuilt: that takes minutes
        self.refresh(wait=True)

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
                here, owners = equal_digests(rows, *change.fresh[kind])
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
            thread = self._thread
            if thread is None:
                thread = threading.Thread(target=self._catch_up, name="index-catch-up", daemon=True)
                self._thread = thread  # before it starts: it takes itself away at its end
                try:
                    thread.start()
                except RuntimeError:  # there may be no more threads
                    self._thread = None
                    raise
            return thread

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
        if change.fresh is not None and change.held is not None:
            for kind, (ids, rows) in change.fresh.items():
                matching.add(kind, ids, rows)
            ids, sets = change.held
            hold(matching, ids, sets)
        else:
            for start in range(change.first, change.last + 1, PAGE):
                index_range(session, matching, start, min(start + PAGE - 1, change.last))
        # Last what is taken out: items that were united into others are held without a gap.
        grown = sorted({*change.touched} - {*change.erased})
        for at in range(0, len(grown), PAGE):
            index_items(session, matching, grown[at : at + PAGE])
        for at in range(0, len(change.erased), PAGE):
            index_items(session, matching, change.erased[at : at + PAGE], anew=True)
        if change.import_no:
            index_fills(session, matching, change.import_no)
        matching.set_applied(change.no)
        self._generation = max(self._generation, change.generation)

    def _apply_erasures(self, session: Session) -> None:
        """Take out at once what later changes erased; replaying the rest comes to the same."""
        found = select(item_changes.c.erased).where(
            item_changes.c.no > self.matching.applied, item_changes.c.erased != b""
        )
        for packed in session.connection.scalars(found):
            index_items(session, self.matching, unpacked(packed), anew=True)

    def _rebuild(self) -> None:
        """Make the index anew in pages, each a short read; what changes meanwhile is replayed."""
        upto = self._read(lambda session: session.counter("change"))
        last = self._read(lambda session: session.counter("item"))

        def source() -> Iterator[tuple[DigestKind, Ids, Rows]]:
            for start in range(1, last + 1, PAGE):
                if self._closing.is_set():
                    raise _not_ready()
                end = min(start + PAGE - 1, last)
                yield from self._read(lambda s, a=start, b=end: digest_range(s, a, b))  # type: ignore[misc]
                held = self._read(lambda s, a=start, b=end: held_range(s, a, b))  # type: ignore[misc]
                hold(self.matching, *held)
                fills = self._read(lambda s, a=start, b=end: fill_range(s, a, b))  # type: ignore[misc]
                yield from fills

        self.matching.rebuild(source(), upto)


def _not_ready() -> StorageUnavailable:
    return StorageUnavailable(
        "the index is being brought up to date; `tieline node status` says how far it is; try again"
    )
