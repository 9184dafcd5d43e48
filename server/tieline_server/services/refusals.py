"""Refused calls on their way into the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import structlog
from tieline_client.errors import TielineError

from tieline_server.domain.audit import AuditEntry
from tieline_server.domain.ports import Store, Tx
from tieline_server.domain.refusals import Refusal, RefusalEntry, RefusalLog

_log = structlog.get_logger(__name__)


class Refusals:
    """Writes what RefusalLog says is due. Thread-safe."""

    def __init__(self, agency: str, store: Store) -> None:
        self._agency, self._store = agency, store
        self._counted = RefusalLog()

    def note(self, refusal: Refusal) -> None:
        """Take one refusal."""
        self._write(self._counted.add(refusal))

    def write_due(self, now: datetime) -> None:
        """Write the counted refusals whose minute is over."""
        self._write(self._counted.due(now))

    def flush(self) -> None:
        """Write all; the node is about to stop."""
        self._write(self._counted.flush())

    def _write(self, entries: Sequence[RefusalEntry]) -> None:
        if not entries:
            return
        made = [self._entry(one) for one in entries]

        def work(tx: Tx) -> None:
            for entry in made:
                tx.audit.append(entry)

        try:
            self._store.write(work)
        except TielineError as error:
            _log.error("audit.refusals_lost", count=len(made), reason=error.reason)

    def _entry(self, one: RefusalEntry) -> AuditEntry:
        refusal = one.refusal
        return AuditEntry(
            action="refusal",
            at=refusal.at,
            agency=self._agency,
            person=refusal.person,
            peer=refusal.peer,
            purpose=refusal.purpose,
            case_ref=refusal.case_ref,
            detail={
                "method": refusal.method,
                "reason": refusal.reason,
                "check": refusal.check,
                "claimed": refusal.claimed,
                "count": one.count,
                "last": one.last.isoformat(),
            },
        )
