"""What people imported, and taking an import back: a wrong file, a wrong case, a wrong list.

1. It counts and was not told on: what others hold of it, its owner's officer withdraws first
   (retracting.py), since erasing here reaches nobody else.
2. One transaction: from here on it answers nobody, excludes nothing and keeps no other import from
   storing the same; its erasure is noted, and the audit entry says who, why and how much.
3. The erasing is that of every other (purging.py), as on its retention day: items that another
   import holds stay. A restored backup erases it again (tombstones.py).
"""

from __future__ import annotations

from tieline.v1 import operator_imports_pb2 as pb
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, WrongState
from tieline_client.identifiers import series_owner
from tieline_client.payloads import timestamp

from tieline_server.domain.ports import ImportRow, Purge, Tx
from tieline_server.domain.retraction import PurgeCause
from tieline_server.services import repeats
from tieline_server.services.context import Node, Person, clean
from tieline_server.services.restricting import restriction_of
from tieline_server.services.retracting import agencies_told

_STATES = {
    PurgeCause.REMOVAL: ("removing", "removed"),
    PurgeCause.RETENTION: ("erasing", "erased"),
}
"""What an erasure makes of an import: while it is under way, and once it is over."""


class ImportDesk:
    """The imports of this agency's people."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def latest(self, most: int) -> pb.ListImportsResponse:
        """Return the imports, newest first; 0 for as many as are shown at most."""
        most = min(most or limits.IMPORTS_SHOWN, limits.IMPORTS_SHOWN)

        def work(tx: Tx) -> pb.ListImportsResponse:
            found = tx.imports.latest(self._node.agency, most + 1)
            views = [_view(tx, row) for row in found[:most]]
            return pb.ListImportsResponse(imports=views, more=len(found) > most)

        return self._node.store.read(work)

    def remove(self, person: Person, request: pb.RemoveImportRequest) -> pb.RemoveImportResponse:
        """Take an import back; one that was taken back before is an answer.

        Raises NotFound, InvalidInput, or WrongState for one that does not count yet or that holds
        items of a series which others still have.
        """
        node, reason = self._node, clean(request.reason)
        if not reason:
            raise InvalidInput("taking an import back needs a reason; say --reason WORDS")
        row, series = node.store.read(lambda tx: self._removable(tx, request.id))

        def work(tx: Tx) -> bool:
            stopped = row.purge is None and tx.imports.stop(row.no)
            if stopped:
                purge = Purge(row.id, PurgeCause.REMOVAL, "", node.clock(), import_no=row.no)
                tx.retractions.begin_purge(purge)
                tx.audit.append(
                    node.entry(
                        "import.removed",
                        person=person.name,
                        case_ref=row.case_ref,
                        subjects=(row.id, *series[:100]),
                        reason=reason,
                        source=row.source,
                        format=row.format,
                        exclusions=row.exclusions,
                        stored=row.stored,
                    )
                )
            return stopped

        stopped = node.store.write(work)
        node.purge()
        return node.store.read(lambda tx: _answer(tx, row, repeated=not stopped))

    def _removable(self, tx: Tx, import_id: str) -> tuple[ImportRow, list[str]]:
        """Return an import that may be taken back, or was, with the series it holds items in."""
        row = tx.imports.row(import_id)
        if row is None:
            raise NotFound(f"no import {import_id[:40]!r} here; see `tieline hashes imports`")
        if row.agency != self._node.agency:
            raise InvalidInput(
                f"what came from {row.agency} was not imported here: it goes when {row.agency} "
                "withdraws its series, or on its retention day"
            )
        if not row.generation:
            raise WrongState(
                f"import {row.id} does not count yet: wait until `tieline hashes import` has ended;"
                " one that was interrupted holds nothing, and what is left of it is erased at the "
                "latest when the node starts again"
            )
        if row.purge is not None:
            return row, []
        series = tx.imports.series_of(row.no)
        for one in series:
            self._check_untold(tx, one)
        return row, series

    def _check_untold(self, tx: Tx, series: str) -> None:
        """Raise WrongState when others have a series, or what it is part of, and may keep it."""
        for one in dict.fromkeys((series, tx.aliases.current(series))):
            restriction = restriction_of(tx, one)
            owner = series_owner(one)
            keep = {
                agency
                for agency in agencies_told(self._node, tx, one)
                if not restriction.excludes(agency, owner)
            }
            if keep:
                raise WrongState(
                    f"it holds items of series {one}, which {', '.join(sorted(keep)[:5])} "
                    f"{'was' if len(keep) == 1 else 'were'} told: take that back first, "
                    f"`tieline series withdraw {one} --reason WORDS`; where the rest of the series "
                    "is right, move these items to a new one before (`tieline series split`) and "
                    "withdraw that"
                )


def _answer(tx: Tx, row: ImportRow, *, repeated: bool) -> pb.RemoveImportResponse:
    """Return what became of an import, and which others are to be imported again."""
    view = _view(tx, tx.imports.row(row.id) or row)
    response = pb.RemoveImportResponse(removed=view, repeated=repeated)
    if not repeated:
        later = tx.imports.after(row, limits.IMPORTS_SHOWN)
        again = [one for one in later if _relies(tx, one, row)]
        response.again.extend(_view(tx, one) for one in again[: limits.IMPORTS_NAMED])
    return response


def _relies(tx: Tx, later: ImportRow, row: ImportRow) -> bool:
    """Whether a later import left something out because of this one, as far as that is known."""
    report = repeats.kept(tx, later)
    if report is None:
        return False
    if later.exclusions == row.exclusions:
        return report.items_known > 0
    return any(one.id == row.id for one in report.lists)


def _view(tx: Tx, row: ImportRow) -> pb.ImportView:
    view = pb.ImportView(
        id=row.id,
        source=row.source,
        format=row.format,
        person=row.person,
        case_ref=row.case_ref,
        import_time=timestamp(row.created),
        exclusions=row.exclusions,
        stored=row.stored,
        retain_until="" if row.exclusions else row.retain_until.isoformat(),
        state="counts" if row.generation else "staged",
    )
    if row.purge is not None:
        view.state = _STATES[row.purge.cause][row.purge.ended is not None]
        view.reason = row.purge.reason
    report = repeats.kept(tx, row)
    if report is not None:
        view.items_new, view.items_known = report.items_new, report.items_known
        view.series_count = len(report.series)
        view.series.extend(report.series[: limits.IMPORT_SERIES_SHOWN])
    return view
