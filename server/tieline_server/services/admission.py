"""Which records of a batch in columns are taken up, decided for all of them at once.

The rules are those of screening.py for single records: what says nothing of content is set aside,
what is in no listed category is excluded, and --category speaks for records that state none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from tieline_client import limits
from tieline_client.columns import Columns, DigestColumn
from tieline_client.digests import EXACT_KINDS, DigestKind, junk_rows
from tieline_client.formats.record import Vote
from tieline_client.screening import votes_belong, why_unmatched

from tieline_server.domain.ports import Ids, Rows, Store

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Admitted:
    """``columns`` are taken up; ``set_aside`` counts digests, ``excluded`` records. ``rejected``
    are numbers and reasons of the records that nothing of could be matched."""

    columns: Columns
    set_aside: int
    excluded: int
    rejected: tuple[tuple[int, str], ...]


def admit(columns: Columns, categories: frozenset[Vote], stated: Vote | None) -> Admitted:
    """Return the records that may be held, under the category they have or that is stated."""
    columns, dropped = without_junk_digests(columns)
    identified = columns.identified()
    wanted = identified & _belong(columns, categories, stated)
    kept = columns.take(wanted)
    if stated is not None:
        kept = _with_category(kept, stated)
    return Admitted(
        kept,
        set_aside=int(dropped.sum()),
        excluded=int(np.count_nonzero(identified)) - len(kept),
        rejected=tuple(
            (number, why_unmatched(junk))
            for number, junk in zip(
                columns.numbers[~identified].tolist(), dropped[~identified].tolist(), strict=True
            )
        ),
    )


def without_junk_digests(columns: Columns) -> tuple[Columns, npt.NDArray[np.int64]]:
    """Return the records without digests that say nothing of content, and how many each had."""
    dropped = np.zeros(len(columns), dtype=np.int64)
    digests = dict(columns.digests)
    for kind, column in columns.digests.items():
        junk = column.present & junk_rows(kind, column.rows)
        if kind is DigestKind.PDQ:
            quality = columns.quality
            junk |= column.present & (quality >= 0) & (quality < limits.PDQ_MIN_QUALITY)
        if not junk.any():
            continue
        dropped += junk
        present = column.present & ~junk
        if present.any():
            digests[kind] = DigestColumn(present, np.where(junk[:, None], np.uint8(0), column.rows))
        else:
            del digests[kind]
    return (replace(columns, digests=digests) if dropped.any() else columns), dropped


def known_good(store: Store, columns: Columns) -> Ids:
    """Return for each record the number of an exclusion list that a digest of it is on; 0: none."""
    found = np.zeros(len(columns), dtype=np.int64)
    exact = {kind: columns.digests[kind] for kind in EXACT_KINDS if kind in columns.digests}
    if not store.recall("exclusions", lambda tx: tx.imports.has_exclusions()):
        return found
    for kind, column in exact.items():
        places = np.flatnonzero(column.present)
        lists = store.read(lambda tx, k=kind, d=column.rows[places]: tx.imports.excluded_by(k, d))  # type: ignore[misc]
        found[places] = np.where(lists > 0, lists, found[places])
    return found


def listed(store: Store, kind: DigestKind, rows: Rows) -> Ids:
    """Return the positions of (n, width) digests that an exclusion list names."""
    return store.read(lambda tx: tx.imports.excluded(kind, rows))


def _belong(columns: Columns, categories: frozenset[Vote], stated: Vote | None) -> Mask:
    if columns.entire:
        return np.ones(len(columns), dtype=bool)
    listed = [votes_belong(votes, categories, stated) for votes in (*columns.vote_sets, ())]
    return np.array(listed)[columns.votes]  # the last: none


def _with_category(columns: Columns, stated: Vote) -> Columns:
    if (columns.votes >= 0).all():
        return columns
    places = np.where(columns.votes < 0, len(columns.vote_sets), columns.votes)
    return replace(
        columns,
        votes=places.astype(np.int32),
        vote_sets=(*columns.vote_sets, (stated,)),
    )
