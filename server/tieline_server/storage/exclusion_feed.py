"""The index of known-good digests follows storage, as that of items does (index_feed.py).

The rows of ``exclusions`` are numbered, and numbers become visible in their order: whoever looks
replays the rows after the last that the index knows. In the index a digest stands under the number
of its list; which lists count is asked of storage each time, in the same transaction. A row without
digests says that its list is gone.

1. A batch of a list is written under the next numbers.
2. After the commit the index is told what is at hand; what other processes wrote, or what came
   while it was busy, is replayed by whoever looks next.
3. An index that is far behind, or was damaged and is made anew, is filled in the background;
   meanwhile nothing is asked and nothing imported, since it might be known good.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import select
from tieline_client.digests import EXACT_KINDS, DigestKind
from tieline_client.errors import StorageUnavailable

from tieline_server.domain.ports import Ids, Matching, Rows
from tieline_server.storage.index_reading import equal_digests, pair_arrays
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import exclusions

if TYPE_CHECKING:
    from tieline_server.storage.session import Session

Mask = npt.NDArray[np.bool_]
PAGE = 100_000
"""Rows replayed at once."""
AT_ONCE = 300_000
"""Rows that are replayed while somebody waits; more are replayed in the background."""
PATIENCE_SECONDS = 2.0
_COUNTER = "exclusion"


@dataclass(frozen=True, slots=True)
class Listed:
    """Digests by kind that rows [first, last] state of a list; none when the list is gone."""

    first: int
    last: int
    import_no: int
    digests: dict[DigestKind, Rows] = field(repr=False)


class ExclusionFeed:
    """Keeps the index of known-good digests in step with one store. Any thread may call."""

    def __init__(
        self, index: Matching | None, read: Callable[[Callable[[Session], Any]], Any]
    ) -> None:
        self._index, self._read = index, read
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self.failure: str | None = None

    @property
    def index(self) -> Matching:
        """The index. Raises StorageUnavailable where the store was opened without one."""
        if self._index is None:
            raise StorageUnavailable("the database was opened without an index; start the node")
        return self._index

    def find(self, session: Session, kind: DigestKind, rows: Rows, lists: Collection[int]) -> Mask:
        """Return which of the digests (n, width) stand on lists with these numbers; see `which`."""
        return self.which(session, kind, rows, lists) > 0

    def which(self, session: Session, kind: DigestKind, rows: Rows, lists: Collection[int]) -> Ids:
        """Return the number of one of these lists on which each digest (n, width) stands; 0: none.

        Raises StorageUnavailable while the index is being brought up to date.
        """
        found = np.zeros(len(rows), dtype=np.int64)
        if not lists or not len(rows):
            return found
        self._catch_up(session)
        wanted = np.fromiter(lists, dtype=np.int64)
        hits = self.index.exact(kind, rows)
        counts = np.isin(hits.item_ids, wanted)
        found[hits.positions[counts]] = hits.item_ids[counts]
        for batch in session.listed:
            if batch.import_no in lists and kind in batch.digests:
                digests = batch.digests[kind]
                here = equal_digests(rows, np.zeros(len(digests), np.int64), digests)[0]
                found[here] = batch.import_no
        return found

    def committed(self, batches: Sequence[Listed]) -> None:
        """Tell the index of rows that were just committed, in order. Raises nothing: committed is
        committed, and who looks next replays what is missing."""
        if not batches or self._index is None or not self._lock.acquire(blocking=False):
            return  # whoever is replaying, or looks next, comes to these
        try:
            for batch in batches:
                if batch.first == self.index.applied + 1:
                    self._apply(batch)
                    self.index.set_applied(batch.last)
            self.index.merge_if_due()
        except Exception as error:  # noqa: BLE001 - see above
            self.failure = str(error)
        finally:
            self._lock.release()

    def start(self) -> None:
        """Begin to bring a starting node's index up to date."""
        self._read(self._wait_a_moment)

    def wait_for_room(self) -> None:
        """Return once more may be added in bounded memory."""
        self.index.wait_for_room()

    def tidy_if_idle(self) -> None:
        """Put what grew in parts together, when nothing is being added."""
        self.index.tidy_if_idle()

    def purge(self) -> bool:
        """Write its files anew without the lists that are gone; False while it is far behind."""
        if self._index is None:
            return True
        if self._read(self._behind) > AT_ONCE:
            self._begin()
            return False
        self._read(self._catch_up)
        self._index.purge()
        return True

    def close(self) -> None:
        """End what goes on in the background."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    # --- replaying ------------------------------------------------------------------------------

    def _behind(self, session: Session) -> int:
        """Return how many committed rows the index does not know."""
        own = session.listed
        upto = own[0].first - 1 if own else session.counter(_COUNTER)
        return upto - self.index.applied

    def _catch_up(self, session: Session) -> None:
        behind = self._behind(session)
        if behind > AT_ONCE:
            behind = self._wait_a_moment(session)
        if behind <= 0:
            return
        if behind > AT_ONCE:
            raise StorageUnavailable(
                "the index of known-good digests is being brought up to date; try again"
            )
        with self._lock:
            self._replay(session, self.index.applied + self._behind(session))

    def _wait_a_moment(self, session: Session) -> int:
        """Have a long replay done in the background; return how far the index is behind then."""
        if self._index is not None and self._behind(session) > 0:
            self._begin().join(PATIENCE_SECONDS)
            return self._behind(session)
        return 0

    def _begin(self) -> threading.Thread:
        with self._starting:
            if self._thread is None or not self._thread.is_alive():
                thread = threading.Thread(
                    target=self._in_background, name="exclusions-catch-up", daemon=True
                )
                thread.start()
                self._thread = thread
            return self._thread

    def _in_background(self) -> None:
        try:
            with self._lock:
                upto = int(self._read(lambda session: session.counter(_COUNTER)))
                if not self.index.applied and upto > AT_ONCE:
                    self.index.rebuild(self._everything(upto), upto)
                while self.index.applied < upto and not self._closing.is_set():
                    last = min(self.index.applied + PAGE, upto)
                    self._read(lambda session, last=last: self._replay(session, last))  # type: ignore[misc]
                    self.index.merge_if_due()
                    self.index.wait_for_room()
            self.failure = None
        except Exception as error:  # noqa: BLE001 - whoever looks next tries again and is told
            self.failure = str(error)

    def _replay(self, session: Session, upto: int) -> None:
        """Apply the rows after the last known up to a number."""
        while (first := self.index.applied + 1) <= upto:
            last = min(first + PAGE - 1, upto)
            for batch in _batches(session, first, last):
                self._apply(batch)
            self.index.set_applied(last)

    def _apply(self, batch: Listed) -> None:
        for kind, rows in batch.digests.items():
            self.index.add(kind, np.full(len(rows), batch.import_no, dtype=np.int64), rows)
        if not batch.digests:
            self.index.erase(np.array([batch.import_no], dtype=np.int64))

    def _everything(self, upto: int) -> Iterator[tuple[DigestKind, Ids, Rows]]:
        """Yield all rows in pages, each a short read."""
        for first in range(1, upto + 1, PAGE):
            if self._closing.is_set():
                raise StorageUnavailable("the node is stopping")
            last = min(first + PAGE - 1, upto)
            for batch in self._read(lambda s, a=first, b=last: _batches(s, a, b)):  # type: ignore[misc]
                for kind, rows in batch.digests.items():
                    yield kind, np.full(len(rows), batch.import_no, dtype=np.int64), rows


def _batches(session: Session, first: int, last: int) -> list[Listed]:
    """Return rows [first, last] by list, and after them the lists that are gone."""
    c = exclusions.c
    found = session.connection.execute(
        select(c.import_no, *(c[COLUMNS[kind]] for kind in EXACT_KINDS))
        .where(c.no.between(first, last))
        .order_by(c.no)
    )
    digests: dict[int, dict[DigestKind, list[tuple[int, bytes]]]] = {}
    gone: list[int] = []
    for import_no, *values in found.cursor.fetchall():  # plain tuples
        if not any(values):
            gone.append(import_no)
        for kind, value in zip(EXACT_KINDS, values, strict=True):
            if value is not None:
                digests.setdefault(import_no, {}).setdefault(kind, []).append((0, value))
    batches = [
        Listed(first, last, no, {kind: pair_arrays(kind, p)[1] for kind, p in some.items()})
        for no, some in digests.items()
    ]
    return batches + [Listed(first, last, no, {}) for no in gone]
