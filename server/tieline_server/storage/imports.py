"""Imports: begun, staged in batches, made to count by one short transaction, or discarded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Row, Table, delete, insert, select, tuple_, update
from tieline_client.columns import Columns
from tieline_client.digests import DigestKind
from tieline_client.errors import NotFound, WrongState
from tieline_client.formats.record import Record
from tieline_client.handling import Handling, HandlingCode, Tlp

from tieline_server.domain.ports import Ids, ImportHead, ImportRow, Rows, StageCounts
from tieline_server.storage import exclusions as exclusion_lists
from tieline_server.storage import import_rows, staging, staging_columns, tallies
from tieline_server.storage.index_changes import record_change
from tieline_server.storage.pause import collector_paused
from tieline_server.storage.resolve import COLUMNS
from tieline_server.storage.schema import (
    exclusions,
    holdings,
    import_tallies,
    imports,
    item_fills,
    item_links,
    items,
    votes,
)
from tieline_server.storage.session import Session
from tieline_server.storage.uniting import delete_items, unite

_ANY_EXCLUSIONS = select(imports.c.no).where(*exclusion_lists.COUNTS).limit(1)
_ANY_STAGED = select(imports.c.no).where(imports.c.generation.is_(None)).limit(1)
LINKS_PER_TRANSACTION = 2_000
"""Pairs of items united at once; the rest waits for the next batch or import."""


class Imports:
    """`ImportRepository` over SQLAlchemy."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._run = session.connection.execute

    def begin(self, head: ImportHead) -> None:
        """Open an import for staging. Raises AlreadyStored when the id exists."""
        row = {
            "no": self._session.next("import"),
            "id": head.id,
            "source": head.source,
            "format": head.format,
            "person": head.person,
            "agency": head.agency,
            "case_ref": head.case_ref,
            **handling_row(head.handling),
            "created": head.created,
            "fingerprint": head.fingerprint,
            "answerable": head.answerable,
            "exclusions": head.exclusions,
        }
        self._run(insert(imports).values(**row))

    def amend(
        self, import_id: str, case_ref: str, handling: Handling, *, answerable: bool = True
    ) -> None:
        """Set what an incomplete import is held under. Raises NotFound, WrongState."""
        head = self._open(import_id)
        values = {"case_ref": case_ref, "answerable": answerable, **handling_row(handling)}
        self._run(update(imports).where(imports.c.no == head.no).values(**values))

    def completed(self, fingerprint: str) -> str | None:
        """Return the id of a complete import with this fingerprint."""
        return self._session.connection.scalar(
            select(imports.c.id)
            .where(imports.c.fingerprint == fingerprint, imports.c.generation.is_not(None))
            .order_by(imports.c.generation)
            .limit(1)
        )

    def stage(
        self, import_id: str, records: Sequence[Record], series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """Stage a batch (see `ImportRepository.stage`).

        Raises InvalidDigest, LimitExceeded, NotFound, or WrongState once complete.
        """
        self._session.lock_items()
        self._unite_leftovers()
        head = self._open(import_id)
        with collector_paused():
            return staging.stage(self._session, head, records, series, voter)

    def stage_columns(
        self, import_id: str, columns: Columns, series: Sequence[str | None], voter: str
    ) -> StageCounts:
        """Stage a batch of columns (see `ImportRepository.stage_columns`). Raises as `stage`."""
        self._session.lock_items()
        self._unite_leftovers()
        head = self._open(import_id)
        with collector_paused():
            return staging_columns.stage_columns(self._session, head, columns, series, voter)

    def stage_exclusions(self, import_id: str, columns: Columns) -> StageCounts:
        """Stage known-good records; one is new when any of its exact digests is."""
        self._session.lock_items()
        return exclusion_lists.stage(self._session, self._open(import_id), columns)

    def excluded(self, kind: DigestKind, rows: Rows) -> Ids:
        """Return the positions of digests that complete exclusion lists name."""
        return exclusion_lists.find(self._session, kind, rows)

    def excluded_by(self, kind: DigestKind, rows: Rows) -> Ids:
        """Return the number of a complete list that names each digest, 0 for none."""
        return exclusion_lists.which(self._session, kind, rows)

    def any_staged(self) -> bool:
        """Whether any import does not count yet."""
        return self._session.connection.scalar(_ANY_STAGED) is not None

    def has_exclusions(self) -> bool:
        """Whether any exclusion list counts."""
        return self._session.connection.scalar(_ANY_EXCLUSIONS) is not None

    def complete(self, import_id: str) -> int:
        """Make the import count and return the new generation; see `ImportRepository.complete`."""
        self._session.lock_items()
        head = self._open(import_id)
        generation = self._session.next("generation")
        self._run(
            update(imports)
            .where(imports.c.no == head.no)
            .values(generation=generation, completed=self._session.now())
        )
        united = unite(self._session, LINKS_PER_TRANSACTION)
        record_change(self._session, import_no=head.no, touched=united.grown, erased=united.gone)
        return generation

    def discard(self, import_id: str, limit: int) -> bool:
        """Erase up to ``limit`` staged rows; True when the import is gone.

        Raises WrongState for a complete import: its data goes with its series or its retention.
        """
        self._session.lock_items()
        head = self._head(import_id)
        if head is None:
            return True
        if head.generation is not None:
            raise WrongState(f"import {import_id} is complete; it cannot be discarded")
        left = limit - self._discard_holdings(head.no, limit)
        for table in (votes, item_fills, item_links, exclusions):
            if left > 0:
                left -= self._discard_rows(table, head.no, left)
        if left <= 0:
            return False
        if head.exclusions:
            exclusion_lists.forget(self._session, head.no)
        self._run(delete(import_tallies).where(import_tallies.c.import_no == head.no))
        self._run(delete(imports).where(imports.c.no == head.no))
        return True

    def incomplete(self) -> list[str]:
        """Return the ids of imports that do not count, oldest first."""
        found = select(imports.c.id).where(imports.c.generation.is_(None)).order_by(imports.c.no)
        return list(self._session.connection.scalars(found))

    # --- what was imported ---

    def row(self, import_id: str) -> ImportRow | None:
        """Return one by its id."""
        found = import_rows.find(self._session, imports.c.id == import_id, limit=1)
        return found[0] if found else None

    def rows(self, numbers: Iterable[int]) -> list[ImportRow]:
        """Return imports by their numbers, oldest first."""
        among = imports.c.no.in_(sorted(numbers))
        return import_rows.find(self._session, among, oldest_first=True)

    def latest(self, agency: str, limit: int) -> list[ImportRow]:
        """Return the imports of an agency, newest first."""
        return import_rows.find(self._session, imports.c.agency == agency, limit=limit)

    def after(self, row: ImportRow, limit: int) -> list[ImportRow]:
        """Return what may rely on an import; see `ImportRepository.after`."""
        return import_rows.after(self._session, row, limit)

    def series_of(self, number: int) -> list[str]:
        """Return the series that an import holds items in, by id."""
        return import_rows.series_of(self._session, number)

    def stop(self, number: int) -> bool:
        """Have an import count for nobody from here on; see `ImportRepository.stop`."""
        head = update(imports).where(imports.c.no == number, imports.c.answerable)
        if not self._run(head.values(answerable=False)).rowcount:
            return False
        self._session.next("erasure")  # answers under way decide anew
        return True

    # --- parts ---

    def _head(self, import_id: str) -> Row[Any] | None:
        return self._run(select(imports).where(imports.c.id == import_id)).one_or_none()

    def _open(self, import_id: str) -> Row[Any]:
        head = self._head(import_id)
        if head is None:
            raise NotFound(f"import {import_id[:80]} does not exist; begin it first")
        if head.generation is not None:
            raise WrongState(f"import {import_id} is complete; begin another")
        return head

    def _unite_leftovers(self) -> None:
        united = unite(self._session, LINKS_PER_TRANSACTION)
        if united.gone:
            self._session.next("generation")
            record_change(self._session, touched=united.grown, erased=united.gone)

    def _discard_holdings(self, number: int, limit: int) -> int:
        """Erase up to ``limit`` holdings with the items that then have none; return how many."""
        own = holdings.c.import_no == number
        found = select(holdings.c.item, holdings.c.series_no).where(own)
        rows = self._run(found.order_by(holdings.c.item, holdings.c.series_no).limit(limit)).all()
        if not rows:
            return 0
        upto = tuple_(holdings.c.item, holdings.c.series_no) <= tuple_(*rows[-1])
        tallies.add_holdings(self._session, -1, own, upto)
        self._run(delete(holdings).where(own, upto))
        touched = {row.item for row in rows}
        left = select(holdings.c.item).where(
            holdings.c.item.in_(select(self._session.bulk.ids(touched).c.value))
        )
        held = set(self._session.connection.scalars(left))
        delete_items(self._session, touched - held)
        tallies.add_items(self._session, held, -1)
        self._hand_over(number, held)
        tallies.add_items(self._session, held, 1)
        record_change(self._session, erased=touched)
        return len(rows)

    def _hand_over(self, number: int, held: set[int]) -> None:
        """Items that this import created but others hold too keep only what the others stated."""
        mine = select(items.c.id).where(
            items.c.id.in_(select(self._session.bulk.ids(held).c.value)),
            items.c.import_no == number,
        )
        stripped = dict.fromkeys(COLUMNS.values()) | {"pdq_quality": None, "size": None}
        for item in list(self._session.connection.scalars(mine)) if held else []:
            heir = (
                select(holdings.c.import_no)
                .join(imports, imports.c.no == holdings.c.import_no)
                .where(holdings.c.item == item)
                .order_by(imports.c.generation.is_(None), holdings.c.import_no)
                .limit(1)
            )
            new = self._session.connection.scalar(heir)
            if new != number:
                values = {"import_no": new, **stripped}
                self._run(update(items).where(items.c.id == item).values(**values))

    def _discard_rows(self, table: Table, number: int, limit: int) -> int:
        key = list(table.primary_key.columns)
        own = table.c.import_no == number
        rows = self._run(select(*key).where(own).order_by(*key).limit(limit)).all()
        if rows:
            upto = tuple_(*key) <= tuple_(*rows[-1])
            self._run(delete(table).where(own, upto))
        return len(rows)


def handling_row(handling: Handling) -> dict[str, object]:
    """Return a Handling as columns."""
    return {
        "handling": int(handling.code),
        "tlp": int(handling.tlp),
        "source_evaluation": handling.source,
        "information_evaluation": handling.information,
        "retain_until": handling.retain_until,
        "restriction": handling.restriction,
    }


def row_handling(row: Row[Any]) -> Handling:
    """Return the Handling of a row of imports or series."""
    return Handling(
        code=HandlingCode(row.handling),
        tlp=Tlp(row.tlp),
        source=row.source_evaluation,
        information=row.information_evaluation,
        retain_until=row.retain_until,
        restriction=row.restriction,
    )
