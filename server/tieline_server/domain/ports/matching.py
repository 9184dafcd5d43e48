"""Exact and near indexes, derived from storage."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tieline_client.digests import DigestKind

Ids = npt.NDArray[np.int64]
Rows = npt.NDArray[np.uint8]
Distances = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class ExactHits:
    """Pairs, positions ascending; a digest that several items share gives several pairs."""

    positions: Ids
    item_ids: Ids


@dataclass(frozen=True, slots=True)
class NearHits:
    """Pairs with their Hamming distance; ``truncated`` are positions whose answers were capped."""

    positions: Ids
    item_ids: Ids
    distances: Distances
    truncated: Ids


HoldingSet = tuple[tuple[int, int], ...]
"""Pairs (number of an import, number of a series or 0) under which an item is held, ascending."""


class Matching(Protocol):
    """Derived from storage; never the truth. Storage keeps it in step (storage/index_feed.py)."""

    @property
    def applied(self) -> int:
        """Number of storage's last change that answers reflect; 0: it has to be rebuilt."""
        ...

    @property
    def life(self) -> int:
        """Goes up when what stood in the index is dropped and made anew: what one life answered is
        not to be put together with what another does."""
        ...

    def add(self, kind: DigestKind, item_ids: Ids, digests: Rows) -> None: ...
    def erase(self, item_ids: Ids) -> None: ...
    def restate(self, item_ids: Ids, digests: Mapping[DigestKind, tuple[Ids, Rows]]) -> None:
        """Replace what is known of items: what is stated again is found at every moment."""
        ...

    def exact(self, kind: DigestKind, digests: Rows) -> ExactHits: ...
    def near(
        self,
        digests: Rows,
        radius: int = 31,
        cap: int = 100,
        passed_over: Collection[int] = (),
    ) -> NearHits:
        """Return what is near; of items held under the numbers ``passed_over`` nothing."""
        ...

    def holdings(self, item_ids: Ids) -> npt.NDArray[np.uint32]:
        """Return the number of each item's holding set; 0 is the empty one."""
        ...

    def least_of_bins(self, digests: Rows, words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint32]:
        """Return what domain/minhash.py:least_of_bins does, of digests of a batch."""
        ...

    def holding_set(self, number: int) -> HoldingSet: ...
    def held(self) -> list[tuple[HoldingSet, int]]:
        """Return in which ways items are held, and how many items in each."""
        ...

    def imports_of(self, series: int) -> set[int]:
        """Return the imports that hold items in a series, or did; series by number."""
        ...

    def count_of(self, series: int, imports: Container[int]) -> int:
        """Return how many items these imports hold in a series."""
        ...

    def holding_numbers(self, sets: Iterable[HoldingSet]) -> npt.NDArray[np.uint32]: ...
    def hold(self, item_ids: Ids, numbers: npt.NDArray[np.uint32]) -> None: ...
    def rebuild(self, source: Iterable[tuple[DigestKind, Ids, Rows]], applied: int) -> None: ...
    def set_applied(self, applied: int) -> None: ...
    def merge_if_due(self) -> bool:
        """Start a merge in the background when enough has changed since the snapshot."""
        ...

    def purge(self) -> None:
        """Return once no file holds anything that was erased before."""
        ...

    def tidy_if_idle(self) -> bool:
        """Put what grew in parts together, in the background, when nothing is being added."""
        ...

    def wait_for_room(self) -> None:
        """Return once so little is pending that more may be added in bounded memory."""
        ...
