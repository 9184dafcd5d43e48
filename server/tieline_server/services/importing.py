"""Import: which records become holdings, staged in batches, counted in one short transaction.

1. Header: a person, a case, restrictions; series are made as records name them.
2. Each batch: records outside the listed categories are counted and dropped; content-free digests
   are set aside; known-good items are dropped; the rest is staged, invisible.
3. Finish: series, staged holdings and the audit entry become real together. An import that does not
   finish leaves nothing: its staged rows are erased, at the latest when the node starts again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

from tieline.v1 import operator_pb2
from tieline_client import limits
from tieline_client.digests import DigestKind, is_junk
from tieline_client.errors import InvalidInput
from tieline_client.formats.record import Record, Vote
from tieline_client.handling import Handling
from tieline_client.identifiers import check_code, new_id, new_series_id

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import ImportHead, Store, Tx
from tieline_server.domain.series import ExternalReference, Origin, Series, SeriesStatus
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.indexing import IndexKeeper
from tieline_server.services.notices import handling_in

_DISCARD_ROWS = 5_000
"""Staged rows erased in one transaction, so that other writers get their turn."""
_SERIES_PER_IMPORT = 10_000


@dataclass(slots=True)
class Counts:
    """What an import amounts to so far; records, except ``set_aside`` (digests)."""

    records: int = 0
    new: int = 0
    known: int = 0
    excluded: int = 0
    conflicts: int = 0
    set_aside: int = 0


def belongs(record: Record, categories: frozenset[Vote], stated: Vote | None) -> bool:
    """Whether a record is in a category that the agency lists, so may be held and asked abroad.

    ``stated`` is the person's ``--category``: it says what records without a category are, and
    that its own code belongs. A format whose every record belongs (``entire``) needs none.
    """
    if record.entire:
        return True
    if not record.votes:
        return stated is not None
    return any(vote in categories or vote == stated for vote in record.votes)


def without_junk(record: Record) -> tuple[Record, int]:
    """Return the record without digests that say nothing of content, and how many there were."""
    dropped = [
        kind
        for kind in DigestKind
        if (value := getattr(record, kind.label)) is not None and is_junk(kind, value)
    ]
    quality = limits.PDQ_MIN_QUALITY if record.pdq_quality is None else record.pdq_quality
    if record.pdq is not None and quality < limits.PDQ_MIN_QUALITY:
        dropped = [*(kind for kind in dropped if kind is not DigestKind.PDQ), DigestKind.PDQ]
    if not dropped:
        return record, 0
    kept = replace(record)
    for kind in dropped:
        setattr(kept, kind.label, None)
    return kept, len(dropped)


def has_digest(record: Record) -> bool:
    """Whether anything is left to match."""
    return any((record.md5, record.sha1, record.sha256, record.pdq))


def without_known_good(store: Store, records: list[Record]) -> list[Record]:
    """Return the records of which no digest is on an exclusion list."""
    digests = [
        (kind, value)
        for record in records
        for kind in DigestKind
        if (value := getattr(record, kind.label)) is not None
    ]
    good = store.read(lambda tx: tx.imports.excluded(digests)) if digests else set()
    if not good:
        return records
    return [
        record
        for record in records
        if not any((kind, getattr(record, kind.label)) in good for kind in DigestKind)
    ]


def category_of(scheme: str, code: str) -> Vote | None:
    """Return the --category a header states; raise InvalidInput for half of one."""
    if not scheme and not code:
        return None
    return Vote(check_code(scheme, "category scheme"), check_code(code, "category code"))


class Import:
    """One import under way. Not shared between threads."""

    def __init__(
        self, node: Node, keeper: IndexKeeper, person: Person, header: operator_pb2.ImportHeader
    ) -> None:
        self._node, self._keeper, self._person = node, keeper, person
        self._stated = category_of(header.category_scheme, header.category_code)
        self._series_name = clean(header.series)
        self.counts = Counts()
        self.rejected: list[tuple[int, str]] = []
        self._series: dict[str, Series] = {}
        self._references: dict[str, dict[ExternalReference, None]] = {}
        now = node.clock()
        default = node.defaults.handling(now.date())
        handling = handling_in(header.handling, default)
        if handling.retain_until <= now.date():
            raise InvalidInput("the retention date is past; give a later --retain-until")
        self.head = ImportHead(
            id=new_id(),
            source=clean(header.source),
            format=header.format,
            person=person.name,
            agency=node.agency,
            case_ref=clean(header.case_ref),
            handling=handling,
            created=now,
            fingerprint=_fingerprint(header, handling),
            exclusions=header.exclusions,
        )
        self._node.store.write(lambda tx: tx.imports.begin(self.head))

    def add(self, records: Sequence[Record]) -> None:
        """Stage a batch of records in the order of the file."""
        kept = [record for record in map(self._admit, records) if record is not None]
        if not kept:
            return
        if self.head.exclusions:
            staged = self._node.store.write(
                lambda tx: tx.imports.stage_exclusions(self.head.id, kept)
            )
        else:
            admitted = len(kept)
            kept = without_known_good(self._node.store, kept)
            self.counts.excluded += admitted - len(kept)
            names = [self._series_of(record) for record in kept]
            if not kept:
                return
            staged = self._node.store.write(
                lambda tx: tx.imports.stage(self.head.id, kept, names, self._node.agency)
            )
        self.counts.new += staged.new
        self.counts.known += staged.known
        self.counts.conflicts += staged.conflicts

    def finish(self, announced: int) -> operator_pb2.ImportReport:
        """Make the import count and return its report. Raises InvalidInput on a wrong count."""
        if announced != self.counts.records:
            raise InvalidInput(
                f"{announced} records were announced, {self.counts.records} came; import again"
            )
        counts = self.counts
        repeated = self._node.store.read(lambda tx: tx.imports.completed(self.head.fingerprint))
        if repeated or not counts.new + counts.known:
            self.abandon()
            self._node.store.write(lambda tx: tx.audit.append(self._entry("import.repeated")))
        else:
            self._node.store.write(self._complete)
            self._keeper.refresh()
        report = operator_pb2.ImportReport(
            records=counts.records,
            items_new=counts.new,
            items_known=counts.known,
            excluded=counts.excluded,
            conflicts=counts.conflicts,
            set_aside=counts.set_aside,
            series=sorted(series.id for series in self._series.values()),
            import_id=repeated or (self.head.id if counts.new + counts.known else ""),
        )
        for number, reason in self.rejected[: limits.REJECTED_LISTED]:
            report.rejected.add(record=number, reason=reason)
        return report

    def abandon(self) -> None:
        """Erase what was staged, a little at a time."""
        discard(self._node.store, self.head.id)

    def _complete(self, tx: Tx) -> None:
        for series in self._series.values():
            if tx.series.get(series.id) is None:
                tx.series.add(series)
            named = self._references.get(series.id, {})
            fresh = [one for one in named if one not in series.references]
            room = max(limits.REFERENCES_PER_SERIES - len(series.references), 0)
            tx.series.add_references(series.id, fresh[:room])
        tx.imports.complete(self.head.id)
        tx.audit.append(self._entry("import"))

    def _entry(self, action: str) -> AuditEntry:
        counts = self.counts
        return self._node.entry(
            action,
            person=self._person.name,
            case_ref=self.head.case_ref,
            subjects=(self.head.id, *sorted(s.id for s in self._series.values())[:100]),
            source=self.head.source,
            format=self.head.format,
            exclusions=self.head.exclusions,
            records=counts.records,
            items_new=counts.new,
            items_known=counts.known,
            excluded=counts.excluded,
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
            if not junk:
                self.rejected.append((record.number, "it has no digest that can be matched"))
            return None
        if not belongs(record, self._node.defaults.categories, self._stated):
            self.counts.excluded += 1
            return None
        if not record.votes and self._stated:
            record = replace(record, votes=(self._stated,))
        return record

    def _series_of(self, record: Record) -> str | None:
        name = self._series_name or clean(record.series or "")
        if not name:
            return None
        series = self._series.get(name)
        if series is None:
            if len(self._series) >= _SERIES_PER_IMPORT:
                raise InvalidInput(f"a file may name {_SERIES_PER_IMPORT} series; split it")
            series = self._node.store.read(lambda tx: tx.series.by_name(name)) or self._new(name)
            self._series[name] = series
        if record.references:
            known = self._references.setdefault(series.id, {})
            if len(known) < limits.REFERENCES_PER_SERIES:
                known.update(dict.fromkeys(ExternalReference(*pair) for pair in record.references))
        return series.id

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


def discard(store: Store, import_id: str) -> None:
    """Erase the staged rows of an import that will not complete."""
    while not store.write(lambda tx: tx.imports.discard(import_id, _DISCARD_ROWS)):
        pass


def leftovers(store: Store, keep: frozenset[str]) -> list[str]:
    """Return the imports that ended with their process; `discard` erases what they left."""
    return [one for one in store.read(lambda tx: tx.imports.incomplete()) if one not in keep]


def _fingerprint(header: operator_pb2.ImportHeader, handling: Handling) -> str:
    """Return what makes two imports the same; a retention that nobody stated moves with the day."""
    stated = header.handling.retain_until
    parts = (
        header.file_digest.hex(),
        header.series,
        str(header.exclusions),
        header.category_scheme,
        header.category_code,
        header.case_ref,
        stated,
        repr(handling if stated else replace(handling, retain_until=date.max)),
    )
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()
