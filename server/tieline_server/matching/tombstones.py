"""Which items were erased, and when: every erasure is one tick of an epoch that only grows.

Whatever is indexed carries the epoch at which it was added (a snapshot: at which it was frozen).
It is dead when its item was erased at a later epoch, so an item that is erased and added again is
found again by what was added last.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tieline_server.matching.compiled import I64, frozen, kernel

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]


class Tombstones(NamedTuple):
    """Erased item ids, ascending, and the epoch of each one's last erasure."""

    ids: I64
    epochs: I64

    @classmethod
    def none(cls) -> Tombstones:
        empty = frozen(np.empty(0, dtype=np.int64))
        return cls(empty, empty)

    def with_erased(self, item_ids: I64, epoch: int) -> Tombstones:
        """Return these and ``item_ids``, erased at ``epoch`` (later than all before)."""
        fresh = np.unique(item_ids)
        old = ~np.isin(self.ids, fresh)
        ids = np.concatenate([self.ids[old], fresh])
        epochs = np.concatenate([self.epochs[old], np.full(len(fresh), epoch, dtype=np.int64)])
        order = np.argsort(ids)
        return Tombstones(frozen(ids[order]), frozen(epochs[order]))

    def after(self, epoch: int) -> Tombstones:
        """Return those of erasures later than ``epoch``: the rest is gone from every layer."""
        keep = self.epochs > epoch
        return Tombstones(frozen(self.ids[keep]), frozen(self.epochs[keep]))

    def dead(self, item_ids: I64, epochs: I64) -> Flags:
        """Return for each (item id, epoch of the entry) whether the entry is dead."""
        out = np.zeros(len(item_ids), dtype=np.bool_)
        if len(self.ids):
            mark(item_ids, epochs, self, out)
        return out


@kernel
def is_dead(item_id: int, epoch: int, dead: Tombstones) -> bool:
    """Whether an entry of ``item_id`` added at ``epoch`` was erased since."""
    low, high = 0, len(dead.ids)
    while low < high:
        middle = (low + high) // 2
        if dead.ids[middle] < item_id:
            low = middle + 1
        else:
            high = middle
    return bool(low < len(dead.ids) and dead.ids[low] == item_id and dead.epochs[low] > epoch)


@kernel
def mark(item_ids: I64, epochs: I64, dead: Tombstones, out: Flags) -> None:
    """Set ``out[i]`` where entry i is dead; one epoch stands for all."""
    for i in range(len(item_ids)):
        epoch = epochs[i] if len(epochs) > 1 else epochs[0]
        out[i] = is_dead(item_ids[i], epoch, dead)
