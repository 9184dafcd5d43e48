"""Imports, items and what is held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

import numpy as np
import numpy.typing as npt
from tieline_client.columns import Columns
from tieline_client.digests import DigestKind
from tieline_client.formats.record import Record, Vote
from tieline_client.handling import Handling

from tieline_server.domain.ports.matching import Distances, Ids, Rows
from tieline_server.domain.ports.retraction import Purge


@dataclass(frozen=True, slots=True)
class ImportHead:
    """Under what an import's items are held. ``answerable`` is False for what was only referred to
    this agency: it is matched for its own people, never for peers. ``fingerprint`` identifies the
    same content under the same options."""

    id: str
    source: str
    format: str
    person: str
    agency: str
    case_ref: str
    handling: Handling
    created: datetime
    fingerprint: str
    answerable: bool = True
    exclusions: bool = False


@dataclass(frozen=True, slots=True)
class ImportRow:
    """An import as it is kept. ``generation`` is 0 until it counts; ``stored`` counts its holdings,
    of an exclusion list its digests; ``purge`` is its erasure, done or under way."""

    no: int
    id: str
    source: str
    format: str
    person: str
    agency: str
    case_ref: str
    retain_until: date
    created: datetime
    fingerprint: str
    exclusions: bool
    generation: int
    stored: int
    purge: Purge | None


@dataclass(frozen=True, slots=True)
class StageCounts:
    """What one staged batch amounted to; a record is counted once as new or known.

    ``conflicts`` counts records whose MD5 is already known with another SHA-1 (or SHA-256).
    """

    new: int
    known: int
    conflicts: int


@dataclass(frozen=True, slots=True)
class DigestPage:
    """Digests of one kind: ids (n,) int64 and rows (n, width) uint8, ids ascending."""

    kind: DigestKind
    ids: Ids
    rows: Rows


@dataclass(frozen=True, slots=True)
class HoldingView:
    """One holding of a matched item, as far as an answer needs it."""

    item: int
    series: str
    handling: Handling
    import_id: str
    md5_conflict: bool


@dataclass(frozen=True, slots=True)
class HeldUnder:
    """A complete, answerable import, as far as an answer needs it."""

    import_id: str
    handling: Handling
    case_ref: str
    agency: str
    """Whose items they are: of the peer that sent them, or the own."""
    generation: int = 0
    """From which on it counts."""


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item with its digests and category votes (agency, vote)."""

    id: int
    md5: bytes | None
    sha1: bytes | None
    sha256: bytes | None
    pdq: bytes | None
    media_type: str
    votes: tuple[tuple[str, Vote], ...]
    baseline: bool | None = None
    """As it was last stated of the item in this series; None: by nobody."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of what is stored, nothing else."""

    items: int
    holdings: int
    series: int
    exclusions: int
    by_kind: dict[str, int]
    generation: int


class ImportRepository(Protocol):
    """Staged batches, invisible until `complete`."""

    def begin(self, head: ImportHead) -> None: ...
    def completed(self, fingerprint: str) -> str | None:
        """Return the id of a complete import with this fingerprint."""
        ...

    def stage(
        self, import_id: str, records: Sequence[Record], series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """Resolve each record to an item (new where unknown); add a holding under the import.

        ``series[i]`` is the series id of ``records[i]`` or None. Records that share a digest with
        an item are that item, and fill in digests it lacks; two different SHA-1s (or SHA-256s)
        under one MD5 stay two items, both flagged ``md5_conflict``. A holding that an earlier
        *complete* import already has (same item, series, case reference, and no vote that is new
        there) is not added again; an import that adds it states its votes itself.
        ``voter`` is the agency whose votes the records' votes are.
        """
        ...

    def stage_columns(
        self, import_id: str, columns: Columns, series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """As `stage`, for columns; ``series`` is parallel to ``columns.series_names``."""
        ...

    def stage_exclusions(self, import_id: str, columns: Columns) -> StageCounts:
        """Stage known-good records; one is new when any of its exact digests is."""
        ...

    def excluded(self, kind: DigestKind, rows: Rows) -> Ids:
        """Return the positions of digests (n, width) that complete exclusion lists name."""
        ...

    def excluded_by(self, kind: DigestKind, rows: Rows) -> Ids:
        """The number of a complete exclusion list that names each digest (n, width); 0: none."""
        ...

    def any_staged(self) -> bool:
        """Whether any import does not count yet."""
        ...

    def has_exclusions(self) -> bool:
        """Whether any exclusion list counts."""
        ...

    def amend(
        self, import_id: str, case_ref: str, handling: Handling, *, answerable: bool = True
    ) -> None:
        """Set what an incomplete import is held under, once the message that says so came."""
        ...

    def complete(self, import_id: str) -> int:
        """Make the import count; return the new generation. Short whatever the import's size."""
        ...

    def discard(self, import_id: str, limit: int) -> bool:
        """Erase up to ``limit`` staged rows of an incomplete import; True when none are left."""
        ...

    def incomplete(self) -> list[str]: ...
    def row(self, import_id: str) -> ImportRow | None: ...
    def rows(self, numbers: Iterable[int]) -> list[ImportRow]: ...
    def latest(self, agency: str, limit: int) -> list[ImportRow]:
        """The imports of an agency, newest first."""
        ...

    def after(self, row: ImportRow, limit: int) -> list[ImportRow]:
        """Complete imports after one that may have left out what it had stored, oldest first."""
        ...

    def series_of(self, number: int) -> list[str]:
        """The series that an import holds items in, by id."""
        ...

    def stop(self, number: int) -> bool:
        """Have an import count for nobody from here on: it answers, excludes and keeps out nothing.
        What it stored is left to be erased. False when it was stopped before."""
        ...


class ItemRepository(Protocol):
    """Items and their holdings."""

    def generation(self) -> int: ...
    def erasures(self) -> int:
        """How often holdings were erased or restricted: an answer under way compares it before it
        discloses."""
        ...

    def restricted(self) -> None:
        """Count a restriction: answers under way decide anew."""
        ...

    def digests(self, kind: DigestKind, after: int, limit: int) -> DigestPage:
        """Up to ``limit`` (from 1) digests of items with a holding in a complete import, by item
        id > after. A page may be shorter, and others follow: only an empty one is the last."""
        ...

    def holdings(
        self, items: Sequence[int], *, answerable_only: bool, flag_conflicts: bool = True
    ) -> list[HoldingView]:
        """Holdings of complete imports of these items (any number; done in bounded chunks).

        ``flag_conflicts`` costs another look; only a match by MD5 needs it.
        """
        ...

    def held_under(self, numbers: Iterable[int]) -> dict[int, HeldUnder]:
        """Of imports by number (see HoldingSet), those that are complete and answerable."""
        ...

    def confirmed(self, kind: DigestKind, ids: Ids, rows: Rows) -> npt.NDArray[np.bool_]:
        """Whether complete imports alone state each pair of visible item (n,) and digest."""
        ...

    def confirmed_distances(self, ids: Ids, rows: Rows, distances: Distances) -> Distances:
        """How many bits each visible item is from a PDQ hash, by what complete imports alone state:
        as ``distances`` say where those may; more than 256 where none states a hash."""
        ...

    def conflicting(self, ids: Iterable[int]) -> set[int]:
        """Those whose MD5 another visible item has with another SHA-1 or SHA-256."""
        ...

    def of_series(self, series: str, *, after: int, limit: int, since: int = 0) -> list[ItemRow]:
        """Items of a series by id; ``since`` skips what imports up to that generation held."""
        ...

    def count_of_series(self, series: str, since: int = 0) -> int: ...
    def came_after(self, series: str, at: datetime) -> bool:
        """Whether a series has items that no import completed by then held in it."""
        ...

    def stats(self) -> Stats: ...
    def erase_series(self, series: str) -> int:
        """Erase the series' holdings, and items that then have none; return items erased."""
        ...

    def erase_items(self, ids: Iterable[int]) -> int:
        """Erase items with all their holdings; return how many there were."""
        ...
