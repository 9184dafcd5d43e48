"""NCMEC tombstones: an entry that was deleted there is not held here, and no fault of the file."""

from __future__ import annotations

from tests.services.bench import PT, Bench, record


def test_a_tombstone_is_excluded_with_a_digest_or_without(bench: Bench) -> None:
    node = bench[PT]
    report = node.load(
        [
            record(1, entire=True),
            record(2, entire=True, deleted=True),
            record(3, kinds="", entire=True, deleted=True),
        ]
    )
    assert (report.records, report.items_new, report.excluded) == (3, 1, 2)
    assert list(report.rejected) == []
