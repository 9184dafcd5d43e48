"""Keeps the index in step with storage, see storage/index_feed.py."""

from __future__ import annotations

from tieline_server.domain.ports import Matching, Store


class IndexKeeper:
    """Brings the index up to what is committed before something is answered from it."""

    def __init__(self, store: Store, matching: Matching) -> None:
        self._store = store

    def refresh(self) -> int:
        """Return the generation that answers reflect."""
        return self._store.index.refresh()
