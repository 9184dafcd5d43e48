"""What keeps an index and its files: opened, verified, merged, rebuilt, closed.

A merge freezes what is there (layers.py), writes it as new segments beside the old files, and swaps
them in; a rebuild does the same with what storage says. Both run beside lookups and changes, which
matcher.py adds to this.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from tieline_client.digests import DigestKind
from tieline_client.errors import InvalidDigest, TielineError

from tieline_server.matching import snapshot as snapshots
from tieline_server.matching.chunks import permutation
from tieline_server.matching.compiled import I64, U8
from tieline_server.matching.files import Array, FolderStore, IndexDamaged, MemoryStore, Section
from tieline_server.matching.holdings import HoldingColumn, private
from tieline_server.matching.layers import Layers
from tieline_server.matching.mixing import mix_keys, new_secret
from tieline_server.matching.snapshot import Mixer, Plan, Snapshot

VERIFY_AT_OPEN_BYTES = 128 * 1024 * 1024
"""A snapshot up to this size is verified before it is used, a larger one in the background."""
_DUE_LEAST, _DUE_MOST = 50_000, 500_000
"""A merge is due when a tenth of the snapshot is pending, within these bounds (rows)."""
_PENDING_MOST = 3 * _DUE_MOST
"""Rows of one kind above the snapshot, at which whoever adds in bulk has to wait for a merge."""
_QUIET_SECONDS = 30.0
"""So long nothing is added before several segments are written as one."""
_WORKERS = min(os.cpu_count() or 1, 8)


class Upkeep:
    """The state of an index, with all that is done to it as a whole.

    ``folder`` keeps snapshots (None: memory only). ``on_damage`` is told, once, in words, when the
    background check finds a damaged file: the snapshot is then dropped, `applied` is 0, and the
    node rebuilds from storage.
    """

    def __init__(
        self,
        folder: Path | None,
        on_damage: Callable[[str], None] | None = None,
        verify_at_open_bytes: int = VERIFY_AT_OPEN_BYTES,
    ) -> None:
        self._store = MemoryStore() if folder is None else FolderStore(folder)
        self._on_damage = on_damage
        self._update = threading.Lock()
        self._maintain = threading.Lock()
        self._pool = ThreadPoolExecutor(_WORKERS, "tieline-match")
        self._background: threading.Thread | None = None
        self._checker: threading.Thread | None = None
        self._damage: str | None = None
        self._failure: str | None = None
        self._life = 0
        self._not_before = 0
        self._touched = time.monotonic()
        self._secret = new_secret()
        self._snapshot = Snapshot()
        self._holdings = HoldingColumn()
        self._verified = True
        self._open(verify_at_open_bytes)
        self._applied = self._snapshot.applied
        self._mixer = Mixer(mix_keys(self._secret), permutation(self._secret))
        self._layers = Layers.of(self._snapshot.exact, self._snapshot.near, self._mixer.keys)
        if not self._verified:
            self._checker = threading.Thread(
                target=self._check, args=(self._snapshot,), name="tieline-check", daemon=True
            )
            self._checker.start()

    @classmethod
    def open(cls, folder: Path, on_damage: Callable[[str], None] | None = None) -> Self:
        """Map the snapshot in ``folder``; `applied` is 0 when there is none or it is damaged."""
        return cls(folder, on_damage)

    def merge_due(self) -> bool:
        """Whether enough is pending that a merge pays."""
        layers = self._layers
        beside = max(len(layers.tombstones.ids), self._holdings.changed // 10)
        return any(
            max(layers.pending(kind), beside)
            >= max(self._not_before, min(max(layers.held(kind) // 10, _DUE_LEAST), _DUE_MOST))
            for kind in DigestKind
        )

    def merge_if_due(self) -> bool:
        """Begin a merge in the background when one is due and none runs; return whether it did."""
        with self._update:
            busy = self._background is not None and self._background.is_alive()
            if busy or not self.merge_due():
                return False
            self._begin_merge()
            return True

    def wait_for_room(self) -> None:
        """Return once no more is pending than a merge takes up while another is written.

        Whoever adds millions calls it between batches, so that memory stays bounded.
        """
        while any(self._layers.pending(kind) >= _PENDING_MOST for kind in DigestKind):
            self.merge_if_due()
            with self._update:
                background = self._background
            if background is None or not background.is_alive():
                return  # no merge can help: it failed, or is put off
            background.join()

    def tidy_if_idle(self) -> bool:
        """Begin to write several segments as one in the background, when nothing was added for a
        while; return whether it did. The node's housekeeping calls it."""
        with self._update:
            busy = self._background is not None and self._background.is_alive()
            quiet = time.monotonic() - self._touched >= _QUIET_SECONDS
            several = any(len(self._layers.written(kind)) > 1 for kind in DigestKind)
            if busy or not quiet or not several or self._failure:
                return False
            self._begin_merge(whole=True)
            return True

    def _begin_merge(self, *, whole: bool = False) -> None:
        thread = threading.Thread(
            target=self._merge_quietly, args=(whole,), name="tieline-merge", daemon=True
        )
        thread.start()  # raises where there may be no more threads; then there is none to wait for
        self._background = thread

    def merge(self, *, whole: bool = True) -> None:
        """Write what is pending, and segments that are not much larger, as one and swap it in; a
        ``whole`` merge, or one after an erasure, takes in everything.

        Lookups and changes go on meanwhile. Raises IndexDamaged, LimitExceeded, FilterNotBuilt or
        OSError; the snapshot before stays in use then, nothing is lost.
        """
        with self._maintain:
            old = self._snapshot
            with self._update:
                plan = Plan.of(self._layers, whole=whole)
                applied = self._applied
                self._layers = plan.layers.thawing(self._mixer.keys)
                self._holdings.begin_write()
            try:
                self._verify(old, [*plan.arrays(), *old.held()])
                made = snapshots.merge_layers(
                    plan, self._mixer.keys, old.number + 1, self._store, applied
                )
                made = self._with_holdings(made)
                self._save(made)
                with self._update:
                    self._still(old)
                    self._layers = _on_top_of(made, self._layers, plan.layers)
                    self._snapshot = made
                    self._rebase(made)
            except BaseException:
                with self._update:
                    self._holdings.abandon_write()
                    layers = self._layers
                    self._layers = replace(layers, near=replace(layers.near, frozen=0))
                raise
            self._not_before = 0

    def _still(self, old: Snapshot) -> None:
        """Raise IndexDamaged where the snapshot that a merge began with was dropped meanwhile."""
        if self._snapshot is not old:
            if isinstance(self._store, FolderStore):
                self._store.discard()
            raise IndexDamaged(self._damage or "the index was damaged; it is rebuilt")

    def purge(self) -> None:
        """Write every file anew that may hold what was erased; what was is removed. Raises as
        `merge`."""
        if len(self._layers.tombstones.ids):
            self.merge()

    def rebuild(self, source: Iterable[tuple[DigestKind, I64, U8]], applied: int) -> None:
        """Make a new snapshot from storage, as it is at ``applied``, and swap it in.

        ``source`` yields (kind, item ids (n,), digests (n, width)) in any order and is consumed
        while lookups and changes go on. What was added or erased since the last merge stays in
        force on top of it. `applied` becomes the given one: replay later changes afterwards.
        Under what items are held is forgotten first; the source states it anew, by `hold`, while
        it is consumed. Raises as `merge`.
        """
        with self._maintain:
            number = self._snapshot.number + 1
            with self._update:
                self._life += 1  # before sets of holdings get other numbers
                self._holdings = HoldingColumn()
            made = snapshots.build(_checked(source), self._mixer, number, self._store, applied)
            with self._update:
                self._holdings.begin_write()
            try:
                made = self._with_holdings(made)
                self._save(made)
            except BaseException:
                self._holdings.abandon_write()
                raise
            with self._update:
                self._layers = _replaced(made, self._layers)
                self._snapshot = made
                self._rebase(made)
                self._applied = applied
                self._verified, self._damage = True, None

    def wait_verified(self) -> bool:
        """Wait for the background check of an opened snapshot; return whether it was sound."""
        if self._checker is not None:
            self._checker.join()
        return self._damage is None

    def stats(self) -> dict[str, Any]:
        """Return counts and states, for `node status` and metrics; no content."""
        layers = self._layers
        return {
            "applied": self._applied,
            "snapshot": self._snapshot.number,
            "snapshot_applied": self._snapshot.applied,
            "segments": {kind.label: len(layers.written(kind)) for kind in DigestKind},
            "snapshot_bytes": self._snapshot.size(),
            "rows": {kind.label: layers.held(kind) for kind in DigestKind},
            "pending": {kind.label: layers.pending(kind) for kind in DigestKind},
            "erased": len(layers.tombstones.ids),
            "held": len(self._holdings),
            "verified": self._verified,
            "damage": self._damage,
            "merging": self._background is not None and self._background.is_alive(),
            "merge_failure": self._failure,
        }

    def close(self, *, settle: bool = True) -> None:
        """Stop background work, which leaves the snapshot before as it is, and the threads.

        ``settle`` writes first what is pending, so that the next start has nothing to replay; a
        merge that is under way is given up instead.
        """
        busy = self._background is not None and self._background.is_alive()
        pending = any(self._layers.pending(kind) for kind in DigestKind)
        if settle and pending and not busy and isinstance(self._store, FolderStore):
            self._merge_quietly()
        if isinstance(self._store, FolderStore):
            self._store.stopped = True
        for thread in (self._background, self._checker):
            if thread is not None:
                thread.join()
        self._pool.shutdown()

    def _open(self, verify_at_open_bytes: int) -> None:
        if not isinstance(self._store, FolderStore):
            return
        try:
            loaded = snapshots.load(self._store)
            if loaded is not None:
                self._snapshot, self._secret = loaded
                self._verified = self._snapshot.size() <= verify_at_open_bytes
                if self._verified:
                    self._snapshot.verify()
                if self._snapshot.holdings is not None:
                    base = private(self._store, self._snapshot.holdings)
                    self._holdings = HoldingColumn.of(self._snapshot.holdings, base)
            self._store.sweep(self._snapshot.files())
        except IndexDamaged as damage:
            self._damage = damage.message
            self._snapshot, self._verified = Snapshot(), True
            self._holdings = HoldingColumn()
            self._store.discard()

    def _check(self, snapshot: Snapshot) -> None:
        try:
            self._verify(snapshot, snapshot.arrays())
            self._verified = True
        except IndexDamaged as damage:
            if self._on_damage is not None:
                self._on_damage(damage.message)

    def _verify(self, snapshot: Snapshot, arrays: Iterable[tuple[Section, Array]]) -> None:
        """Verify, and on damage forget what rests on the snapshot: pending digests stay."""
        try:
            snapshots.verify_all(arrays)
        except IndexDamaged as damage:
            with self._update:
                now = self._snapshot
                if now is snapshot or not set(now.files()).isdisjoint(snapshot.files()):
                    self._life += 1  # before anything is missing
                    self._snapshot = Snapshot(number=now.number)
                    self._layers = _replaced(self._snapshot, self._layers)
                    self._applied = 0
                    self._damage = damage.message
                    if self._holdings.of_files:  # not what a rebuild states anew meanwhile
                        self._holdings = HoldingColumn()
                    if isinstance(self._store, FolderStore):
                        self._store.discard()
            raise

    def _with_holdings(self, made: Snapshot) -> Snapshot:
        prefix = f"holdings-{made.number:010d}"
        return replace(made, holdings=self._holdings.write(self._store, prefix))

    def _rebase(self, made: Snapshot) -> None:
        assert made.holdings is not None
        self._holdings.rebase(made.holdings, private(self._store, made.holdings))

    def _save(self, made: Snapshot) -> None:
        if isinstance(self._store, FolderStore):
            snapshots.save(self._store, made, self._secret)

    def _merge_quietly(self, whole: bool = False) -> None:
        try:
            self.merge(whole=whole)
            self._failure = None
        except (TielineError, OSError) as error:
            self._failure = str(error)
            layers = self._layers
            self._not_before = max(layers.pending(kind) for kind in DigestKind) * 3 // 2
            if isinstance(error, IndexDamaged) and self._on_damage is not None:
                self._on_damage(error.message)


def _on_top_of(made: Snapshot, now: Layers, frozen: Layers) -> Layers:
    """Return ``now`` with ``made`` in the place of everything that was in ``frozen``."""
    exact = {
        kind: replace(
            layers,
            segments=made.exact.get(kind, ()),
            deltas=layers.deltas[len(frozen.exact[kind].deltas) :],
        )
        for kind, layers in now.exact.items()
    }
    near = replace(
        now.near,
        base=made.near,
        small=now.near.small[len(frozen.near.small) :],
        deltas=now.near.deltas[len(frozen.near.deltas) :],
        frozen=0,
    )
    return replace(now, exact=exact, near=near, tombstones=now.tombstones.after(frozen.epoch))


def _replaced(made: Snapshot, now: Layers) -> Layers:
    """Return ``now`` with ``made`` as its snapshot and everything above kept."""
    exact = {
        kind: replace(layers, segments=made.exact.get(kind, ()))
        for kind, layers in now.exact.items()
    }
    return replace(now, exact=exact, near=replace(now.near, base=made.near))


def _checked(
    source: Iterable[tuple[DigestKind, I64, U8]],
) -> Iterable[tuple[DigestKind, I64, U8]]:
    for kind, ids, digests in source:
        check_digests(kind, digests)
        yield kind, np.ascontiguousarray(ids, dtype=np.int64), digests


def check_digests(kind: DigestKind, digests: U8) -> None:
    """Raise InvalidDigest unless these are rows of a kind's width."""
    if digests.dtype != np.uint8 or digests.ndim != 2 or digests.shape[1] != kind.width:
        raise InvalidDigest(f"{kind.label} digests are rows of {kind.width} bytes")
