"""Series on their way into a file: what policy lets out, page by page, logged before it is of use.

1. Policy decides for each series as it stands now (as for a deposit too, when the file is for a
   repository, which is told no names), and for each import that holds items of it: the
   stricter of what both are under counts. What the provider restricts leaves with its permission,
   to export or to deposit, and with nobody's for what another provided. A series that may not leave
   ends the whole export; items that only refused imports hold are kept back and counted.
2. The log says that the export begins, before the first record leaves.
3. Records leave in pages, so that memory stays flat whatever the size.
4. In one transaction it is looked at again whether anything was erased, withdrawn or restricted
   meanwhile, and the log takes counts and the digest of what left. Only then comes the end, without
   which the client throws its file away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from tieline.v1 import operator_pb2 as pb
from tieline_client import limits
from tieline_client.errors import InvalidInput, PolicyRefused, WrongState
from tieline_client.formats.record import Record
from tieline_client.handling import Handling, stricter
from tieline_client.record_stream import to_wire

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.policy import Action
from tieline_server.domain.ports import Tx
from tieline_server.domain.ports.exports import ExportRow
from tieline_server.domain.request import Use
from tieline_server.domain.series import Origin, Series
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.deposit_reports import is_repository
from tieline_server.services.deposit_reports import views as deposit_views
from tieline_server.services.legal_basis import legal_basis
from tieline_server.services.permissions import held, hint
from tieline_server.services.restricting import still
from tieline_server.services.views import find_held, series_view

FORMATS = frozenset({"vics", "icse", "case", "csv"})


@dataclass(frozen=True, slots=True)
class _Leaving:
    """A series with the imports whose items may leave, and why others may not."""

    series: Series
    view: pb.SeriesView
    imports: tuple[int, ...]
    records: int
    withheld: int
    reason: str
    rules: tuple[str, ...]
    permission: str


class Export:
    """One export. Raises InvalidInput, NotFound, WrongState or PolicyRefused when it begins."""

    def __init__(self, node: Node, person: Person, request: pb.ExportSeriesRequest) -> None:
        node.check_purpose(request.purpose, request.case_ref)
        if request.format not in FORMATS:
            raise InvalidInput(f"{request.format!r} is no format; use vics, icse, case or csv")
        if not request.series:
            raise InvalidInput("name at least one series")
        if request.recipient:
            member = node.directory().member(request.recipient)
            if str(member.role) != "repository" or member.revoked:
                raise InvalidInput(f"{request.recipient} is no repository; see `tieline peers`")
        self._node, self._person, self._request = node, person, request
        names = dict.fromkeys(request.series)
        self._erasures, self._leaving = node.store.read(
            lambda tx: (tx.items.erasures(), self._all(tx, list(names)))
        )
        self._sent = 0
        self._digest = hashlib.sha256()

    def _all(self, tx: Tx, names: list[str]) -> list[_Leaving]:
        found = {series.id: series for series in (find_held(tx, name) for name in names)}
        return [self._lacking(tx, self._decide(tx, one), found) for one in found.values()]  # 1

    @staticmethod
    def _lacking(tx: Tx, one: _Leaving, found: Container[str]) -> _Leaving:
        """Say what the file lacks of a whole: another agency's parts leave under their own ids."""
        if one.series.origin is Origin.OWN:
            return one
        parts = [part for part in one.view.parts if part not in found]
        held = {part: items for part in parts if (items := tx.items.count_of_series(part))}
        if not held:
            return one
        why = f"part of it, and exported under the id it came under: {', '.join(held)}"
        reason = "; ".join(filter(None, [one.reason, why]))[: limits.FREE_TEXT_CHARS]
        return replace(one, withheld=one.withheld + sum(held.values()), reason=reason)

    def _decide(self, tx: Tx, series: Series) -> _Leaving:
        series = still(tx, series, *self._readers())
        permission = self._permission(tx, series)
        rules = set(self._allow(series, series.handling, series.owner, permission))
        allowed, reasons = [], set()
        for one in tx.exports.imports_of(series.id):
            under = stricter(one.handling, series.handling)
            owner = one.agency or series.owner
            try:
                rules |= set(self._allow(series, under, owner, permission))
                allowed.append(one.no)
            except PolicyRefused as error:
                reasons.add(error.message)
        records = tx.exports.count(series.id, allowed)
        withheld = tx.items.count_of_series(series.id) - records
        reason = "; ".join(sorted(reasons))[: limits.FREE_TEXT_CHARS]
        if withheld and not records:
            raise PolicyRefused(reason or f"exporting {series.id}: nothing of it may leave")
        view = series_view(tx, series)
        view.repositories.extend(deposit_views(self._node, tx, series))
        if self._request.recipient:  # names can identify a child
            view.notice.name, view.case_ref = "", clean(self._request.case_ref)
        return _Leaving(
            *(series, view, tuple(allowed), records, withheld, reason if withheld else ""),
            tuple(sorted(rules)),
            permission,
        )

    @property
    def _use(self) -> Use:
        return Use.UPLOAD if self._request.recipient else Use.EXPORT

    def _permission(self, tx: Tx, series: Series) -> str:
        """The request by which the owner permits this; "" where there is none."""
        node, request = self._node, self._request
        reached = (request.recipient or node.agency,)
        found = held(node, tx, series.id, self._use, reached, request.purpose)
        return found.request if found else ""

    def _allow(
        self, series: Series, handling: Handling, owner: str, permission: str
    ) -> tuple[str, ...]:
        node, recipient = self._node, self._request.recipient
        rules: tuple[str, ...] = ()
        for action, holder in ((Action.EXPORT, node.agency), (Action.UPLOAD, recipient)):
            if holder:
                question = node.question(
                    action,
                    asker=node.agency,
                    holder=holder,
                    purpose=self._request.purpose,
                    handling=handling,
                    owner=owner,
                )
                permitted = bool(permission) and owner == series.owner
                decision = node.policy.decide(replace(question, permission=permitted))
                if not decision.allowed:
                    why = f"exporting {series.id}: {decision.why}"
                    if owner == series.owner:
                        case = self._request.case_ref
                        why += hint(node, question, self._use, series.id, recipient, case)
                    raise PolicyRefused(why, rules=" ".join(decision.rules))
                rules += decision.rules
        return rules

    def _readers(self) -> tuple[str, ...]:
        """Who gets the file."""
        recipient = self._request.recipient
        return (self._node.agency, recipient) if recipient else (self._node.agency,)

    def run(self) -> Iterator[pb.ExportSeriesResponse]:
        """Yield everything. Raises WrongState when something was erased or restricted meanwhile."""
        self._log("export.begun")  # 2
        ended = False
        try:
            for one in self._leaving:
                yield pb.ExportSeriesResponse(
                    series=pb.ExportedSeries(
                        series=one.view,
                        records=one.records,
                        withheld=one.withheld,
                        reason=one.reason,
                    )
                )
                yield from self._records(one)  # 3
            end = self._end()  # 4
            ended = True
            yield pb.ExportSeriesResponse(end=end)
        finally:
            if not ended:
                self._log("export.broken", records=self._sent)

    def _records(self, one: _Leaving) -> Iterator[pb.ExportSeriesResponse]:
        label = one.view.notice.name or one.series.id
        number = after = 0
        while True:
            rows = self._node.store.read(lambda tx: self._page(tx, one, after))  # noqa: B023 - called at once
            if not rows:
                return
            batch, size = pb.RecordBatch(), 0
            for record in chain.from_iterable(_whole(row.record) for row in rows):
                number += 1
                record.number, record.series = number, label
                item = to_wire(record)
                length = item.ByteSize()
                if batch.records and size + length > limits.RECORD_BATCH_BYTES:
                    yield self._batch(batch)
                    batch, size = pb.RecordBatch(), 0
                batch.records.append(item)
                size += length
            yield self._batch(batch)
            after = rows[-1].item

    def _page(self, tx: Tx, one: _Leaving, after: int) -> Sequence[ExportRow]:
        """Records of a series; a repository says of each how many submissions brought it."""
        size = limits.RECORDS_PER_IMPORT_BATCH
        rows = tx.exports.page(one.series.id, one.imports, after=after, limit=size)
        if is_repository(self._node):
            brought = tx.deposits.submissions([row.item for row in rows])
            for row in rows:
                known = row.record.submissions or 0
                row.record.submissions = max(known, brought.get(row.item, 0))
        return rows

    def _batch(self, batch: pb.RecordBatch) -> pb.ExportSeriesResponse:
        for record in batch.records:
            self._digest.update(record.SerializeToString(deterministic=True))
        self._sent += len(batch.records)
        return pb.ExportSeriesResponse(records=batch)

    def _end(self) -> pb.ExportEnd:
        withheld = sum(one.withheld for one in self._leaving)
        digest = self._digest.digest()

        def work(tx: Tx) -> None:
            if tx.items.erasures() != self._erasures:
                raise WrongState(
                    "items were erased or restricted while they were exported; export again"
                )
            for one in self._leaving:
                still(tx, one.series, *self._readers())
            tx.audit.append(
                self._entry(
                    "export.done", records=self._sent, withheld=withheld, digest=digest.hex()
                )
            )

        self._node.store.write(work)
        return pb.ExportEnd(records=self._sent, withheld=withheld, digest=digest)

    def _log(self, action: str, **detail: object) -> None:
        self._node.store.write(lambda tx: tx.audit.append(self._entry(action, **detail)))

    def _entry(self, action: str, **detail: object) -> AuditEntry:
        request = self._request
        entry = self._node.entry(
            action,
            person=self._person.name,
            peer=request.recipient,
            purpose=request.purpose,
            case_ref=clean(request.case_ref),
            subjects=tuple(one.series.id for one in self._leaving),
            rules=tuple(sorted({rule for one in self._leaving for rule in one.rules})),
        )
        about: dict[str, object] = {"format": request.format, "file": request.file}
        permissions = sorted({one.permission for one in self._leaving if one.permission})
        if permissions:
            about["permissions"] = permissions
        if request.recipient:
            about |= legal_basis(self._node, [request.recipient])
        return replace(entry, detail=about | detail)


def _whole(record: Record) -> Iterator[Record]:
    """Yield an item as a record, or as several where one does not take all its categories: whoever
    reads them takes them for one item again."""
    most = limits.VOTES_PER_RECORD
    for start in range(0, len(record.votes) or 1, most):
        yield replace(record, votes=record.votes[start : start + most])
