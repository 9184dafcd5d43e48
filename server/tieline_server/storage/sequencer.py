"""Positions for audit entries on PostgreSQL: one sequencer moves them from pending to the log.

Each node process runs this thread; an advisory lock lets one at a time place leaves, so processes
on one database share one log. Entries are in ``audit_pending`` from the commit of their effect on;
nothing is lost when a process dies, the next holder goes on. When the oldest pending entry has
waited for longer than the lag allowed, whether or not others before it moved on meanwhile, or the
database cannot be asked, the node takes no more writes (fail closed, threats.md 4).
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import Engine, delete, func, select

from tieline_server.storage.audit import place, read_edge
from tieline_server.storage.bulk import Bulk
from tieline_server.storage.errors import translating, unavailable
from tieline_server.storage.schema import audit_pending
from tieline_server.storage.waiting import LOOK_SECONDS, Waiting

SEQUENCER_LOCK = 7_430_002
"""PostgreSQL advisory lock of the process that places leaves."""
BATCH = 5_000
POLL_SECONDS = 0.25
GATHER_SECONDS = 0.005
"""Pause between batches under load, so that each is worth its commit."""
LAG_SECONDS = 30.0


class Sequencer:
    """The thread, and what writers ask of it. Times are of the monotonic clock, in seconds."""

    def __init__(self, engine: Engine, bulk: Bulk, lag_seconds: float = LAG_SECONDS) -> None:
        self._engine = engine
        self._bulk = bulk
        self._lag_seconds = lag_seconds
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._looked = time.monotonic()
        self._waiting = Waiting(self._looked)
        self._thread = threading.Thread(target=self._serve, name="audit-sequencer", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Say that entries may wait."""
        self._wake.set()

    def check(self) -> None:
        """Raise StorageUnavailable while entries wait too long for their positions."""
        lag = self._waiting.age(time.monotonic())
        if lag > self._lag_seconds:
            raise unavailable(f"the audit log is {lag:.0f} s behind")

    def drain(self) -> None:
        """Place all that waits, here and now. Raises StorageUnavailable when another holds on."""
        with translating():
            while self._move(wait=True):
                pass

    def stop(self) -> None:
        """End the thread; what still waits is placed by the next process."""
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def _serve(self) -> None:
        while not self._stop.is_set():
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()
            try:
                self._look()
                while self._move(wait=False) and not self._stop.wait(GATHER_SECONDS):
                    if time.monotonic() - self._looked > LOOK_SECONDS:
                        self._look()
            except Exception:  # noqa: BLE001 - the lag grows and `check` refuses writes
                self._stop.wait(POLL_SECONDS)

    def _move(self, *, wait: bool) -> bool:
        """Place one batch; whether there may be more."""
        with self._engine.connect() as connection, connection.begin():
            if wait:
                connection.execute(select(func.pg_advisory_xact_lock(SEQUENCER_LOCK)))
            elif not connection.scalar(select(func.pg_try_advisory_xact_lock(SEQUENCER_LOCK))):
                return False
            found = select(audit_pending).order_by(audit_pending.c.no).limit(BATCH)
            rows = connection.execute(found).all()
            if not rows:
                return False
            place(connection, self._bulk, [row.leaf for row in rows], read_edge(connection))
            moved = select(self._bulk.ids(row.no for row in rows).c.value)
            connection.execute(delete(audit_pending).where(audit_pending.c.no.in_(moved)))
        return True

    def _look(self) -> None:
        """Note what waits; between batches too, since under load there is always another."""
        c = audit_pending.c
        with self._engine.connect() as connection, connection.begin():
            row = connection.execute(select(func.min(c.no), func.max(c.no))).one()
        self._looked = time.monotonic()
        self._waiting.look(row[0], row[1], self._looked)
