"""Keeps the index in step with storage: what is committed is found by the next query.

Storage numbers every change (a completed import, an erasure) with a generation. The index remembers
the generation it reflects; before it answers it reads what came since. A node that starts answers
from its snapshot while the rest is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from tieline_client.digests import DigestKind

from tieline_server.domain.ports import Change, DigestPage, Ids, Matching, Rows, Store, Tx

_PAGE = 100_000
"""Digests read from storage at once."""


class IndexKeeper:
    """Brings one index up to storage; any thread may ask, one does the work."""

    def __init__(self, store: Store, matching: Matching) -> None:
        self._store, self._matching = store, matching
        self._lock = threading.Lock()

    def refresh(self) -> int:
        """Apply every change since the index's generation; return the generation reached."""
        current = self._store.read(lambda tx: tx.items.generation())
        if self._matching.applied >= current:
            return self._matching.applied
        with self._lock:
            after = self._matching.applied
            if after == 0:
                self._matching.rebuild(self._everything(), current)
                after = current
            for change in self._store.read(lambda tx: tx.items.changes(after)):
                self._apply(change)
                self._matching.set_applied(change.generation)
            self._matching.merge_if_due()
            return self._matching.applied

    def _everything(self) -> Iterator[tuple[DigestKind, Ids, Rows]]:
        for kind in DigestKind:
            for page in self._pages(kind, ""):
                yield kind, page.ids, page.rows

    def _pages(self, kind: DigestKind, import_id: str) -> Iterator[DigestPage]:
        after = 0
        while True:
            page = self._page(kind, import_id, after)
            if not len(page.ids):
                return
            yield page
            after = int(page.ids[-1])

    def _page(self, kind: DigestKind, import_id: str, after: int) -> DigestPage:
        def work(tx: Tx) -> DigestPage:
            if import_id:
                return tx.items.import_digests(import_id, kind, after, _PAGE)
            return tx.items.digests(kind, after, _PAGE)

        return self._store.read(work)

    def _apply(self, change: Change) -> None:
        if change.erased:
            self._matching.erase(np.asarray(change.erased, dtype=np.int64))
        if change.import_id:
            for kind in DigestKind:
                for page in self._pages(kind, change.import_id):
                    self._matching.add(kind, page.ids, page.rows)
