"""The audit log's own retention: entries past their time lose their content, and the log says so.

1. Entries are looked through from where the last round ended, in order, a batch at a time.
2. What is past the agency's rule (`audit_keep_days`) and not held loses its leaf; its hash stays in
   the tree, so that every proof still holds, and its salt went with it, so that nobody can guess it
   back.
3. The entry ``audit.erased`` names the positions, in the same transaction.
4. Kept lists and answered questions of before go too, but for those that a held entry is about, and
   the database's files are scrubbed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from tieline_client import limits
from tieline_client.errors import InvalidInput, NotFound, TielineError
from tieline_client.identifiers import new_id

from tieline_server.domain.log_retention import ERASED, Due, Hold, due
from tieline_server.domain.ports import Tx
from tieline_server.services import asked_lists
from tieline_server.services.context import Node, Person, clean

_log = structlog.get_logger(__name__)

_MARK = "audit.erased_to"
"""Setting: every entry before this position was erased, or is one that stays."""


class LogRetention:
    """Erases what is due, once an hour when called every few seconds; and the holds."""

    def __init__(self, node: Node, keep: timedelta = limits.AUDIT_KEPT) -> None:
        self._node, self._keep = node, keep
        self._next: datetime | None = None

    def hourly(self) -> int:
        """Do a round when it is time; return how many entries were erased."""
        now = self._node.clock()
        if self._next is not None and now < self._next:
            return 0
        self._next = now + timedelta(hours=1)
        return self.erase()

    def erase(self) -> int:
        """Erase all that is due now. Raises StorageUnavailable."""
        before = self._node.clock() - self._keep
        total, start = 0, int(self._node.store.read(lambda tx: tx.meta.get(_MARK) or "0"))
        first_held: int | None = None
        kept: set[str] = set()
        while True:
            position = start
            found, seen = self._node.store.write(
                lambda tx, at=position: self._batch(tx, at, before)  # type: ignore[misc]
            )
            total += found.count
            kept |= found.subjects
            first_held = found.first_held if first_held is None else first_held
            start += seen
            if found.last or not seen:
                break
        mark = str(start if first_held is None else first_held)

        def end(tx: Tx) -> int:
            if total:
                tx.meta.set(_MARK, mark)
            return tx.queries.erase_before(before, kept)

        gone = self._node.store.write(end) + asked_lists.erase_before(self._node, before, kept)
        if total or gone:
            self._scrub()
        return total

    def _batch(self, tx: Tx, start: int, before: datetime) -> tuple[Due, int]:
        records = tx.audit.records(start, limits.ERASED_AT_ONCE)
        found = due(records, before, tx.holds.find())
        for first, last in found.ranges:
            tx.audit.erase(first, last)
        if found.ranges:
            ranges = [list(one) for one in found.ranges]
            tx.audit.append(
                self._node.entry(
                    ERASED,
                    ranges=ranges,
                    before=before.isoformat(),
                    entries=found.count,
                    held=found.held,
                    rule=f"kept {self._keep.days} days",
                )
            )
        return found, len(records)

    def _scrub(self) -> None:
        try:
            self._node.store.scrub()
        except TielineError as error:  # the next scrub takes it along
            _log.warning("audit.scrub_waits", reason=error.reason, text=error.message)

    # --- holds ---

    def holds(self) -> list[Hold]:
        """Return those that stand."""
        return self._node.store.read(lambda tx: list(tx.holds.find()))

    def hold(self, person: Person, reason: str, case_ref: str, name: str, peer: str) -> Hold:
        """Keep entries from now on. Raises InvalidInput without a reason."""
        if not clean(reason):
            raise InvalidInput("a hold needs a reason: say for whose control, with its reference")
        made = Hold(
            new_id(), clean(reason), clean(case_ref), name, peer, person.name, self._node.clock()
        )

        def work(tx: Tx) -> None:
            tx.holds.add(made)
            tx.audit.append(
                self._node.entry(
                    "audit.held",
                    person=person.name,
                    peer=peer,
                    case_ref=made.case_ref,
                    subjects=(made.id,),
                    reason=made.reason,
                    of=name,
                )
            )

        self._node.store.write(work)
        return made

    def release(self, person: Person, hold: str) -> None:
        """End a hold; what it kept is looked at anew in the next round. Raises NotFound."""

        def work(tx: Tx) -> None:
            if not tx.holds.remove(hold):
                raise NotFound(f"there is no hold {hold[:80]}; see `tieline audit holds`")
            tx.meta.set(_MARK, "0")
            tx.audit.append(
                self._node.entry("audit.released", person=person.name, subjects=(hold,))
            )

        self._node.store.write(work)
        self._next = None
