"""Import: which records become holdings, staged in batches, counted in one short transaction.

1. Header: a person, a case, restrictions; series are made as records name them. A file that counts
   already, and of which nothing was erased since, is not sent again.
2. Each batch, in columns (admission.py) or record by record: records outside the listed categories
   are counted and dropped; content-free digests are set aside; known-good items are dropped; the
   rest is staged, invisible.
3. Finish: series, staged holdings and the audit entry become real together. What was staged for a
   new series goes to one of its name that another import made meanwhile. An import that does not
   finish leaves nothing: its staged rows are erased, at the latest when the node starts again.
   Where no record is kept there is no import: the entry ``import.empty`` counts and names none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.columns import Columns, of_records
from tieline_client.errors import InvalidInput
from tieline_client.formats.record import Record
from tieline_client.identifiers import new_id, new_series_id
from tieline_client.screening import (
    belongs,
    category_of,
    has_digest,
    why_unmatched,
    without_junk,
)

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import ImportHead, StageCounts, Store, Tx
from tieline_server.domain.series import ExternalReference, Origin, Series, SeriesStatus
from tieline_server.services import import_names, repeats
from tieline_server.services.admission import (
    Mask,
    admit,
    known_good,
    without_junk_digests,
)
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.notices import own_handling
from tieline_server.services.split_items import settle

_DISCARD_ROWS = 5_000
"""Staged rows erased in one transaction, so that other writers get their turn."""
_JOINED_ROWS = 10_000
_SERIES_PER_IMPORT = 10_000


@dataclass(slots=True)
class Counts:
    """What an import amounts to so far; records, except ``set_aside`` (digests). ``known_good`` is
    a part of ``excluded``; ``held`` counts records of an exclusion list that are held."""

    records: int = 0
    new: int = 0
    known: int = 0
    excluded: int = 0
    known_good: int = 0
    held: int = 0
    conflicts: int = 0
    set_aside: int = 0


class Import:
    """One import under way. Not shared between threads.

    ``repeated`` is the report of the same file under the same options when that counts already:
    then nothing is begun.
    """

    def __init__(self, node: Node, person: Person, header: operator_pb2.ImportHeader) -> None:
        self._node, self._person = node, person
        self._stated = category_of(header.category_scheme, header.category_code)
        self._series_name = clean(header.series)
        self.counts = Counts()
        self.rejected: list[tuple[int, str]] = []
        """The first REJECTED_LISTED of ``rejected_count``."""
        self.rejected_count = 0
        self._series: dict[str, Series] = {}
        self._references: dict[str, dict[ExternalReference, None]] = {}
        self._lists: set[int] = set()
        self._holders: set[str] = set()
        now = node.clock()
        default = node.defaults.handling(now.date())
        handling = own_handling(header.handling, default, now.date())
        self.head = ImportHead(
            id=new_id(),
            source=clean(header.source),
            format=header.format,
            person=person.name,
            agency=node.agency,
            case_ref=clean(header.case_ref),
            handling=handling,
            created=now,
            fingerprint=repeats.fingerprint(header, handling),
            exclusions=header.exclusions,
        )
        self.repeated = node.store.read(lambda tx: repeats.earlier(tx, self.head.fingerprint))
        if self.repeated is None:
            self._node.store.write(lambda tx: tx.imports.begin(self.head))
        else:
            self._log("import.repeated", self.repeated.import_id)

    def add_columns(self, columns: Columns) -> None:
        """Stage a batch of columns."""
        store, counts = self._node.store, self.counts
        counts.records += len(columns)
        if self.head.exclusions:
            columns, dropped = without_junk_digests(columns)
            counts.set_aside += int(dropped.sum())
            kept = columns.take(columns.identified())
            if len(kept):
                self._stage_list(kept)
            return
        store.index.catch_up()
        admitted = admit(columns, self._node.defaults.categories, self._stated)
        counts.set_aside += admitted.set_aside
        counts.excluded += admitted.excluded
        for number, reason in admitted.rejected:
            self._reject(number, reason)
        good = self._leave_out(admitted.columns)
        held, series = self._in_series(admitted.columns.take(~good))
        if len(held):
            self._count(
                store.write(
                    lambda tx: tx.imports.stage_columns(
                        self.head.id, held, series, self._node.agency
                    )
                )
            )
            self._node.matching.wait_for_room()

    def add(self, records: Sequence[Record]) -> None:
        """Stage a batch of records in the order of the file."""
        kept = [record for record in map(self._admit, records) if record is not None]
        if not kept:
            return
        if self.head.exclusions:
            self._stage_list(of_records(kept))
            return
        good = self._leave_out(of_records(kept)).tolist()
        kept = [record for record, out in zip(kept, good, strict=True) if not out]
        names = [self._series_of(record) for record in kept]
        if not kept:
            return
        self._node.store.index.catch_up()
        staged = self._node.store.write(
            lambda tx: tx.imports.stage(self.head.id, kept, names, self._node.agency)
        )
        self._count(staged)
        self._node.matching.wait_for_room()  # not inside the writer: others write meanwhile

    def finish(self, told: operator_pb2.ImportFinish) -> operator_pb2.ImportReport:
        """Make the import count and return its report. Raises InvalidInput on a wrong count."""
        if told.records != self.counts.records:
            raise InvalidInput(
                f"{told.records} records were announced, {self.counts.records} came; import again"
            )
        counts = self.counts
        report = operator_pb2.ImportReport(
            records=counts.records,
            items_new=counts.new,
            items_known=counts.known,
            excluded=counts.excluded,
            conflicts=counts.conflicts,
            set_aside=counts.set_aside,
            rejected_count=self.rejected_count,
            series=sorted(series.id for series in self._series.values()),
        )
        for number, reason in self.rejected:
            report.rejected.add(record=number, reason=reason)
        self._name_others(report)
        earlier = self._node.store.read(lambda tx: repeats.earlier(tx, self.head.fingerprint))
        if earlier is not None or not counts.new + counts.known:
            report.import_id = earlier.import_id if earlier is not None else ""
            self.abandon()
            self._forget_unmade(nothing=earlier is None)
            report.series[:] = sorted(series.id for series in self._series.values())
            self._log(
                "import.repeated" if earlier is not None else "import.empty", report.import_id
            )
        else:
            report.import_id = self.head.id
            kept = operator_pb2.ImportReport(unsent=told.unsent, named=told.named)
            kept.MergeFrom(report)
            self._series = self._node.store.write(lambda tx: self._complete(tx, kept))
            report.series[:] = kept.series
            self._node.store.index.refresh()
        return report

    def abandon(self) -> None:
        """Erase what was staged, a little at a time."""
        discard(self._node.store, self.head.id)

    def _complete(self, tx: Tx, report: operator_pb2.ImportReport) -> dict[str, Series]:
        """Make the import count; return which series the names stand for in the end."""
        tx.imports.complete(self.head.id)
        existing = tx.series.existing(series.id for series in self._series.values())
        unmade = {name for name, one in self._series.items() if one.id not in existing}
        meanwhile = tx.series.by_names(unmade)
        for name in sorted(unmade - meanwhile.keys()):
            tx.series.add(self._series[name])
        for name, there in meanwhile.items():
            _join(tx, self._series[name].id, there.id)
        whole = self._series | meanwhile
        for name, series in whole.items():
            named = self._references.get(self._series[name].id, {})
            fresh = [one for one in named if one not in series.references]
            room = max(limits.REFERENCES_PER_SERIES - len(series.references), 0)
            tx.series.add_references(series.id, fresh[:room])
            settle(self._node, tx, series.id)  # what was split off comes back under the old name
        report.series[:] = sorted(series.id for series in whole.values())
        tx.audit.append(self._entry("import", self.head.id, report.series))
        repeats.keep(tx, self.head.fingerprint, report)
        return whole

    def _stage_list(self, columns: Columns) -> None:
        """Stage records of an exclusion list, and count those that are held: they stay so."""
        node = self._node
        node.store.index.catch_up()
        held, holders = import_names.held(node, columns)
        self.counts.held += held
        if len(self._holders) < limits.IMPORTS_NAMED:
            self._holders |= holders
        self._count(node.store.write(lambda tx: tx.imports.stage_exclusions(self.head.id, columns)))
        node.store.known_good.wait_for_room()

    def _leave_out(self, columns: Columns) -> Mask:
        """Return and count the records that an exclusion list names, and remember which list."""
        lists = known_good(self._node.store, columns)
        good = lists > 0
        self._lists.update(np.unique(lists[good]).tolist())
        count = int(np.count_nonzero(good))
        self.counts.excluded += count
        self.counts.known_good += count
        return good

    def _name_others(self, report: operator_pb2.ImportReport) -> None:
        """Say which lists left records out, and which imports hold what this list names."""
        report.known_good, report.held = self.counts.known_good, self.counts.held
        if self._lists or self._holders:
            lists, holders = self._node.store.read(
                lambda tx: (
                    import_names.of_numbers(tx, self._lists),
                    import_names.of_ids(tx, self._holders, self._node.agency),
                )
            )
            report.lists.extend(lists)
            report.holders.extend(holders)

    def _count(self, staged: StageCounts) -> None:
        self.counts.new += staged.new
        self.counts.known += staged.known
        self.counts.conflicts += staged.conflicts

    def _reject(self, number: int, reason: str) -> None:
        self.rejected_count += 1
        if len(self.rejected) < limits.REJECTED_LISTED:
            self.rejected.append((number, reason))

    def _forget_unmade(self, *, nothing: bool) -> None:
        """Take the series that there are by now for those that only this import would have made,
        none where it holds nothing: nobody may be told an id of what never was."""
        names = set() if nothing else set(self._series)
        self._series = self._node.store.read(lambda tx: tx.series.by_names(names))

    def _log(self, action: str, import_id: str) -> None:
        entry = self._entry(action, import_id, sorted(one.id for one in self._series.values()))
        self._node.store.write(lambda tx: tx.audit.append(entry))

    def _entry(self, action: str, import_id: str, series: Sequence[str]) -> AuditEntry:
        counts = self.counts
        return self._node.entry(
            action,
            person=self._person.name,
            case_ref=self.head.case_ref,
            subjects=(*filter(None, [import_id]), *series[:100]),
            source=self.head.source,
            format=self.head.format,
            exclusions=self.head.exclusions,
            records=counts.records,
            items_new=counts.new,
            items_known=counts.known,
            excluded=counts.excluded,
            known_good=counts.known_good,
            conflicts=counts.conflicts,
        )

    def _admit(self, record: Record) -> Record | None:
        self.counts.records += 1
        record, junk = without_junk(record)
        self.counts.set_aside += junk
        if self.head.exclusions:
            return record if has_digest(record) else None
        if record.deleted:  # a tombstone may well have no digest
            self.counts.excluded += 1
            return None
        if not has_digest(record):
            self._reject(record.number, why_unmatched(junk))
            return None
        if not belongs(record, self._node.defaults.categories, self._stated):
            self.counts.excluded += 1
            return None
        if not record.votes and self._stated:
            record = replace(record, votes=(self._stated,))
        return record

    def _in_series(self, columns: Columns) -> tuple[Columns, tuple[str | None, ...]]:
        """Return the records with the series that they are held in, parallel to series_names."""
        if self._series_name:
            places = np.zeros(len(columns), dtype=np.int32)
            columns = replace(columns, series=places, series_names=(self._series_name,))
        columns = replace(columns, media_types=tuple(map(clean, columns.media_types)))
        names = [clean(name) for name in columns.series_names]
        self._find_series({name for name in names if name})
        return columns, tuple(self._series[name].id if name else None for name in names)

    def _series_of(self, record: Record) -> str | None:
        name = self._series_name or clean(record.series or "")
        if not name:
            return None
        self._find_series({name})
        series = self._series[name]
        if record.references:
            known = self._references.setdefault(series.id, {})
            if len(known) < limits.REFERENCES_PER_SERIES:
                known.update(dict.fromkeys(ExternalReference(*pair) for pair in record.references))
        return series.id

    def _find_series(self, names: set[str]) -> None:
        """Learn which series names stand for, and make those that are not there."""
        missing = names - self._series.keys()
        if not missing:
            return
        if len(self._series) + len(missing) > _SERIES_PER_IMPORT:
            raise InvalidInput(f"a file may name {_SERIES_PER_IMPORT} series; split it")
        found = self._node.store.read(lambda tx: tx.series.by_names(missing))
        self._series.update({name: found.get(name) or self._new(name) for name in missing})

    def _new(self, name: str) -> Series:
        return Series(
            id=new_series_id(self._node.agency),
            name=name,
            status=SeriesStatus.NEW,
            origin=Origin.OWN,
            handling=self.head.handling,
            contact=self._node.defaults.contact,
            created=self.head.created,
            case_ref=self.head.case_ref,
        )


def _join(tx: Tx, made: str, there: str) -> None:
    """Hold in the series that is there what was staged for another of its name."""
    after = 0
    while page := tx.items.of_series(made, after=after, limit=_JOINED_ROWS):
        tx.splits.move(made, there, [one.id for one in page])
        after = page[-1].id


def discard(store: Store, import_id: str) -> None:
    """Erase the staged rows of an import that will not complete."""
    while not store.write(lambda tx: tx.imports.discard(import_id, _DISCARD_ROWS)):
        pass


def leftovers(store: Store, keep: frozenset[str]) -> list[str]:
    """Return the imports that ended with their process; `discard` erases what they left."""
    return [one for one in store.read(lambda tx: tx.imports.incomplete()) if one not in keep]
